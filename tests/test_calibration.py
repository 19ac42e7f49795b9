"""Scores that can be read as chances: the right temperature, the same labels, and figures that are
honest.
"""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsent.chunk import BLANK, SCORED, Scores
from batchsent.errors import ModelError
from batchsent.evaluation.quality import Quality
from batchsent.model import calibration
from batchsent.model.calibration import (
    apply_temperature,
    calibrate,
    calibrated,
    calibration_error,
    fit_temperature,
)


def softmax(z):
    """Softmax in double precision."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def drawn(rows, labels=2, sharpen=1.0, seed=0):
    """Logits of a model that is too sure by a factor `sharpen`, and labels drawn by the true
    chances.
    """
    random = np.random.default_rng(seed)
    z = random.normal(0, 1.5, (rows, labels))
    chances = softmax(z)
    y = (random.random(rows)[:, None] > chances.cumsum(axis=1)).sum(axis=1).clip(max=labels - 1)
    return z * sharpen, y


@pytest.mark.parametrize("labels", [2, 3, 20])
@pytest.mark.parametrize("sharpen", [0.4, 1.0, 2.5])
def test_the_temperature_is_found_again(labels, sharpen):
    """A model made too sure, or not sure enough, by a factor gets that factor as its temperature."""
    z, y = drawn(40_000, labels, sharpen)
    assert fit_temperature(z, y) == pytest.approx(sharpen, rel=0.05)


def test_the_temperature_is_that_of_an_optimizer():
    """L-BFGS over the cross entropy, as the paper's authors do it, finds the same minimum."""
    import torch

    z, y = drawn(3_000, 4, 1.8)
    logits, labels = torch.tensor(z), torch.tensor(y)
    temperature = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [temperature], max_iter=200, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits / temperature, labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert fit_temperature(z, y) == pytest.approx(temperature.item(), rel=1e-5)


def test_logarithms_of_probabilities_do_as_well_as_logits():
    """A file of probabilities is enough to fit a temperature."""
    z, y = drawn(2_000, 3, 2.0)
    assert fit_temperature(np.log(softmax(z)), y) == pytest.approx(fit_temperature(z, y), rel=1e-9)


@pytest.mark.parametrize(
    ("z", "y"),
    [
        (np.zeros((0, 2)), np.zeros(0, int)),
        (np.array([[9.0, -9.0]] * 80), np.zeros(80, int)),
        (np.array([[9.0, -9.0]] * 80), np.ones(80, int)),
        (np.zeros((80, 2)), np.arange(80) % 2),
    ],
    ids=["no rows", "always right", "always wrong", "no opinion"],
)
def test_data_that_cannot_tell_leave_scores_as_they_are(z, y):
    """No rows, a model that is always right or always wrong, or has no opinion: the temperature is
    1.
    """
    assert fit_temperature(z, y) == 1.0
    assert calibrate(z, y).temperature == 1.0


@given(
    z=st.lists(
        st.lists(st.floats(-20, 20, width=32), min_size=3, max_size=3), min_size=1, max_size=8
    ),
    temperature=st.floats(calibration.LOWEST, calibration.HIGHEST),
)
def test_applied_to_probabilities_it_is_exact_and_keeps_every_label(z, temperature):
    """softmax(log p / T) is softmax(logits / T) as far as p is known, and no row changes its label."""
    z = np.array(z)
    p = softmax(z).astype(np.float32)
    found = apply_temperature(p, temperature)
    assert found.dtype == np.float32
    assert (found.argmax(axis=1) == p.argmax(axis=1)).all()
    assert np.abs(found.sum(axis=1) - 1).max() < 1e-5
    # One rounding of p is 6e-8 of it, and so 6e-8 / T in its logarithm.
    if temperature >= 1:
        np.testing.assert_allclose(found, softmax(z / temperature), rtol=1e-5, atol=1e-7)


def test_labels_that_nearly_tie_stay_in_order():
    """Two probabilities one float32 apart stay apart where T would round them to one."""
    low, high = np.float32(0.49999997), np.float32(0.50000003)
    found = apply_temperature(np.array([[low, high], [0.5, 0.5]], np.float32), 5.0)
    assert found[0, 0] < found[0, 1]
    assert found[1, 0] == found[1, 1] == 0.5


def test_a_temperature_of_one_changes_no_bit():
    """T = 1 gives the raw softmax, as pipeline does."""
    p = softmax(np.random.default_rng(0).normal(size=(9, 4))).astype(np.float32)
    assert apply_temperature(p, 1.0) is p


def test_rows_without_scores_stay_without():
    """Blank rows have no probabilities before and after, and everything else of the chunk is as it
    was.
    """
    p = np.array([[0.9, 0.1], [np.nan, np.nan], [1.0, 0.0]], np.float32)
    ones = np.ones(3, np.int32)
    before = Scores(p, ones, ones, np.array([SCORED, BLANK, SCORED], np.uint8), 2)
    after = calibrated(before, 2.0)
    assert np.isnan(after.probabilities[1]).all()
    assert after.probabilities[0, 0] == pytest.approx(0.75)
    assert after.probabilities[2].tolist() == [1.0, 0.0]
    assert (after.winners == before.winners).all()
    assert after.status is before.status


@pytest.mark.parametrize("sharpen", [2.5, 1.0])
def test_an_overconfident_model_is_mended(sharpen):
    """The calibration error falls to what chance leaves of it.

    One that was right already is left about as it was.
    """
    z, y = drawn(5_000, 2, sharpen)
    found = calibrate(z, y, weights_sha256="1" * 64)
    assert found.rows == 5_000
    assert found.error_after < 0.02
    assert found.loss_after <= found.loss_before + 1e-3
    if sharpen > 1:
        assert found.error_before > 0.08
        assert found.loss_after < found.loss_before - 0.05
    # Fresh rows of the same model agree with what was promised.
    fresh_z, fresh_y = drawn(5_000, 2, sharpen, seed=1)
    fresh = calibration_error(softmax(fresh_z / found.temperature), fresh_y)
    assert fresh == pytest.approx(found.error_after, abs=0.02)


def test_the_figures_after_are_of_rows_not_fitted_on():
    """On labels that are pure chance the loss after is no better than before by more than the fit
    can know.
    """
    random = np.random.default_rng(0)
    z, y = drawn(200, 2, 1.0)
    after = [
        calibrate(z[i], y[i]).loss_after for i in (random.permutation(200)[:60] for _ in range(30))
    ]
    before = [
        calibrate(z[i], y[i]).loss_before for i in (random.permutation(200)[:60] for _ in range(30))
    ]
    assert np.mean(after) > np.mean(before) - 0.01


def test_few_rows_are_not_fitted():
    """With a handful of held-out rows the temperature is 1 and nothing is claimed."""
    found = calibrate(*drawn(20, 2, 3.0))
    assert found.temperature == 1.0
    assert found.error_after == found.error_before
    empty = calibrate(np.zeros((0, 2)), np.zeros(0))
    assert (empty.rows, empty.error_before, empty.loss_before) == (0, None, None)


@pytest.mark.parametrize("labels", [2, 5])
def test_the_calibration_error_is_that_of_the_summary(labels):
    """The figure reported by finetune and the one in a run's evaluation are the same."""
    z, y = drawn(3_000, labels, 1.7)
    p = softmax(z).astype(np.float32)
    quality = Quality([str(n) for n in range(labels)])
    quality.add(y, p.argmax(axis=1), p, np.ones(3_000, np.int64), np.zeros(3_000, bool))
    assert calibration_error(p, y) == pytest.approx(
        quality.section()["calibration_error"], abs=1e-6
    )


def test_it_is_stored_with_the_model(tmp_path):
    """What is written to a model folder is read back, and a folder without it has none."""
    assert calibration.read(tmp_path) is None
    found = calibrate(*drawn(500, 3, 2.0), weights_sha256="1" * 64)
    (tmp_path / "calibration.json").write_bytes(calibration.dumps(found))
    assert calibration.read(tmp_path, weights_sha256="1" * 64) == found
    assert calibration.read(tmp_path) == found
    assert (
        json.loads((tmp_path / "calibration.json").read_bytes())["temperature"] == found.temperature
    )


def test_a_temperature_for_other_weights_is_refused(tmp_path):
    """Weights that were trained further, or swapped, do not get the old temperature in silence."""
    (tmp_path / "calibration.json").write_bytes(
        calibration.dumps(calibrate(*drawn(99), weights_sha256="1" * 64))
    )
    with pytest.raises(ModelError, match="other weights") as caught:
        calibration.read(tmp_path, weights_sha256="2" * 64)
    assert "--calibrated" in caught.value.hint


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"schema": "batchsent.calibration/2"}',
        *(
            b'{"schema": "batchsent.calibration/1", "temperature": %b, "rows": 9, "error_before": 0, "error_after": 0,'
            b' "loss_before": 0, "loss_after": 0, "weights_sha256": null}' % temperature
            for temperature in (b"0", b"-1", b"NaN", b"1e9", b'"2"', b"true", b"null")
        ),
    ],
)
def test_a_damaged_file_is_an_error_of_the_model(tmp_path, content):
    """A calibration.json that makes no sense is never applied."""
    (tmp_path / "calibration.json").write_bytes(content)
    with pytest.raises(ModelError):
        calibration.read(tmp_path)
