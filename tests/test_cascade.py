"""batch --cascade: a fast model scores every row, a second one those of which it is not sure."""

import io
import json
from importlib import resources

import jsonschema
import numpy as np
import pandas as pd
import pytest

from batchsent.chunk import BLANK, PENDING, SCORED
from batchsent.commands.batch import batch
from batchsent.errors import BatchsentError, UsageError
from batchsent.evaluation.summary import dumps
from batchsent.model.calibration import Calibration, apply_temperature
from batchsent.model.calibration import dumps as calibration_bytes
from batchsent.model.loading import Cascade, identify
from batchsent.model.options import ModelOptions
from batchsent.pages.report import render
from batchsent.run.parts import pack, unpack
from batchsent.terminal.summaries import line, show
from batchsent.verification.verify import verify
from tests.models import WORDS, make_model

BELOW = 0.7


def reviews(count):
    """Return rows of one to twenty words, some of them twice, some blank."""
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS[:50], draw.integers(1, 20))) for _ in range(count)]
    texts[3], texts[7], texts[9] = texts[0], " ", None
    return texts


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return two folders: a fast model, and another one with the same labels."""
    place = tmp_path_factory.mktemp("cascade")
    fast = make_model(place / "fast")
    second = make_model(place / "second", "bert", hidden_size=64, intermediate_size=128)
    for folder, temperature in ((fast, 2.0), (second, 0.5)):
        weights = identify(str(folder)).weights_sha256
        fitted = Calibration(temperature, 1000, 0.1, 0.1, 0.1, 0.1, weights)
        (folder / "calibration.json").write_bytes(calibration_bytes(fitted))
    return str(fast), str(second)


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    """Return a CSV of 60 reviews."""
    path = tmp_path_factory.mktemp("dump") / "in.csv"
    pd.DataFrame({"n": range(60), "text": reviews(60)}).to_csv(path, index=False)
    return path


def scored(dump, output, model, **options):
    document = batch(
        dump, output, model=model, device="cpu", details=True, overwrite=True, **options
    )
    return document, pd.read_csv(output)


@pytest.fixture(scope="module")
def three(models, dump, tmp_path_factory):
    """Return the outputs of the fast model, of the second one and of the cascade."""
    place, (fast, second) = tmp_path_factory.mktemp("three"), models
    more = {"probabilities": True}
    return (
        scored(dump, place / "fast.csv", fast, **more)[1],
        scored(dump, place / "second.csv", second, **more)[1],
        *scored(dump, place / "both.csv", second, cascade=fast, cascade_below=BELOW, **more),
    )


def test_rows_below_the_threshold_have_the_score_of_the_second_model(three):
    """All other rows have that of the fast model, with its tokens."""
    fast, second, document, both = three
    escalated = (fast.score < BELOW).to_numpy()
    assert 5 < escalated.sum() < 50
    wanted = fast.copy()
    wanted[escalated] = second[escalated]
    pd.testing.assert_frame_equal(both, wanted, rtol=1e-5)
    found = document["model"]["cascade"]
    assert found["escalated_rows"] == escalated.sum()
    assert found["decided_rows"] == document["rows"]["scored"] - escalated.sum()


def test_the_summary_names_both_models_and_shows_it(three, models):
    """It fits the schema; terminal and page have the counts of both models."""
    document = three[2]
    fast, second = map(identify, models)
    found = document["model"]["cascade"]
    assert found["weights_sha256"] == fast.weights_sha256
    assert document["model"]["weights_sha256"] == second.weights_sha256
    assert found["below"] == BELOW
    schema = json.loads(
        resources.files("batchsent.evaluation").joinpath("summary.schema.json").read_bytes()
    )
    jsonschema.validate(json.loads(dumps(document)), schema)
    shown = io.StringIO()
    show(document, shown)
    assert f"the model scored {found['escalated_rows']} (" in " ".join(shown.getvalue().split())
    assert "% escalated" in line(document)
    assert "Cascade: the fast model" in render(document).decode()
    assert "two models" in document["predictions"]["corrected"]["why_not"]


def test_the_device_figures_are_of_both_models(models, dump, tmp_path):
    """Where the fast model decides every text, the device was at work, and no text had padding."""
    fast, second = models
    document, _ = scored(dump, tmp_path / "o.csv", second, cascade=fast, cascade_below=0.01)
    assert document["model"]["cascade"]["escalated_rows"] == 0
    assert document["performance"]["device_busy_share"] > 0
    assert document["device"]["oom_backoffs"] == 0


def test_each_score_is_calibrated_by_its_own_model(three, models, dump, tmp_path):
    """With --calibrated the fast model's temperature goes to the rows that it decided."""
    _, raw = three[0], three[3]
    fast, second = models
    document, found = scored(
        dump, tmp_path / "out.csv", second, cascade=fast, cascade_below=BELOW, calibrated=True
    )
    assert (document["model"]["temperature"], document["model"]["cascade"]["temperature"]) == (
        0.5,
        2,
    )
    escalated = (three[0].score < BELOW).to_numpy()
    columns = raw[["prob_NEGATIVE", "prob_POSITIVE"]].to_numpy()
    wanted = np.where(
        escalated[:, None], apply_temperature(columns, 0.5), apply_temperature(columns, 2.0)
    ).max(axis=1)
    np.testing.assert_allclose(found.score, wanted, rtol=1e-4)


def test_the_output_passes_verify_and_can_be_reused(three, models, dump, tmp_path):
    """A run with another threshold neither takes it for finished nor reuses it."""
    fast, second = models
    options = {"cascade": fast, "cascade_below": BELOW, "details": True}
    first = tmp_path / "first.csv"
    batch(dump, first, model=second, device="cpu", **options)
    verify(dump, first)
    assert batch(dump, first, model=second, device="cpu", **options)["status"] == "up_to_date"
    again = batch(dump, tmp_path / "b.csv", model=second, device="cpu", reuse=first, **options)
    assert again["run"]["reuse"]["new_rows"] == 0
    counts = again["model"]["cascade"]
    assert counts["decided_rows"] == counts["escalated_rows"] == 0  # no model ran
    assert (tmp_path / "b.csv").read_bytes() == first.read_bytes()
    other = options | {"cascade_below": 0.8}
    with pytest.raises(UsageError, match=r"--cascade-below was 0\.7, now 0\.8"):
        batch(dump, tmp_path / "c.csv", model=second, device="cpu", reuse=first, **other)
    with pytest.raises(UsageError, match="made with other options"):
        batch(dump, first, model=second, device="cpu", **other)


def test_reused_rows_have_the_tokens_of_the_model_that_decided_them(models, dump, tmp_path):
    """An output without --details does not say which did, and is refused where they are needed."""
    fast, second = models
    options = {"cascade": fast, "cascade_below": BELOW, "max_length": 8}
    grown, texts = tmp_path / "grown.csv", [*reviews(60), *reviews(80)[60:]]
    pd.DataFrame({"n": range(80), "text": texts}).to_csv(grown, index=False)
    plain, wanted = scored(grown, tmp_path / "plain.csv", second, **options)
    assert 5 < wanted.truncated.sum() < 75
    for earlier in (tmp_path / "earlier.csv", tmp_path / "earlier.parquet"):
        batch(dump, earlier, model=second, device="cpu", details=True, **options)
        again, found = scored(grown, tmp_path / "again.csv", second, reuse=earlier, **options)
        assert again["run"]["reuse"]["new_rows"] > 10
        pd.testing.assert_frame_equal(found, wanted, rtol=1e-5)
        assert again["text"] == plain["text"]
    bare = tmp_path / "bare.csv"
    batch(dump, bare, model=second, device="cpu", **options)
    with pytest.raises(UsageError, match="how many tokens were read"):
        scored(grown, tmp_path / "other.csv", second, reuse=bare, **options)


def test_the_default_threshold_spelled_out_is_no_other_option(models, dump, tmp_path):
    """A run is up to date, and its output reused, with and without --cascade-below 0.9."""
    fast, second = models
    output = tmp_path / "out.csv"
    options = {"model": second, "cascade": fast, "device": "cpu"}
    batch(dump, output, **options)
    assert batch(dump, output, cascade_below=0.9, **options)["status"] == "up_to_date"
    again = batch(dump, tmp_path / "b.csv", cascade_below=0.9, reuse=output, **options)
    assert again["run"]["reuse"]["new_rows"] == 0
    with pytest.raises(UsageError, match=r"--cascade-below was 0\.9, now 0\.8"):
        batch(dump, output, cascade_below=0.8, **options)


def test_sentences_and_frames_go_through_both_models(three, models, dump):
    """A frame gets the scores of the file; each sentence is judged as a text of its own."""
    fast, second = models
    frame = pd.read_csv(dump)
    found = batch(
        frame, model=second, device="cpu", cascade=fast, cascade_below=BELOW, sentences=True
    )
    np.testing.assert_allclose(found.score.astype(float), three[3].score, rtol=1e-5)


@pytest.fixture(scope="module")
def scorer(models):
    from batchsent.model.cascade import open_cascade

    fast, second = map(identify, models)
    identity = second.__class__(**{**vars(second), "cascade": Cascade(fast, BELOW)})
    found = open_cascade(identity, ModelOptions(device="cpu"))
    # Many batches in a chunk, so that there are many places to stop.
    found.fast.batch_tokens = found.main.batch_tokens = 40
    return found


def test_a_run_stopped_at_any_batch_resumes_to_the_same_bytes(scorer):
    """Also where another process goes on, which knows no more than the kept part says."""
    texts = reviews(40)
    batches = []
    wanted = scorer.score(scorer.prepare(texts), on_batch=batches.append)
    assert set(wanted.status) == {SCORED, BLANK}
    assert batches[-1] == 1
    assert len(batches) > 8
    for stop_at in range(len(batches)):
        calls = iter(range(1_000))
        part = scorer.score(scorer.prepare(texts), stop=lambda: next(calls) >= stop_at)  # noqa: B023
        assert (part.status == PENDING).any()
        kept = unpack(pack(part), 40, 2, part.distinct, odd=False, cascade=True)
        found = scorer.score(scorer.prepare(texts), done=kept)
        assert pack(found) == pack(wanted)


def test_one_process_goes_on_where_it_stopped(scorer):
    """The fast model does not run a text again that it has scored."""
    prepared, known = scorer.prepare(reviews(40)), None
    ran = []
    run = scorer.fast.encoder.probabilities
    scorer.fast.encoder.probabilities = lambda ids, lengths: (
        ran.append(len(lengths)) or run(ids, lengths)
    )
    while known is None or (known.status == PENDING).any():
        calls = iter(range(1_000))
        known = scorer.score(prepared, done=known, stop=lambda: next(calls) >= 1)  # noqa: B023
    scorer.fast.encoder.probabilities = run
    assert sum(ran) == 37  # the texts of the chunk: one stands there twice, two are blank


def test_decided_texts_are_sampled_within_the_bounds(scorer):
    """At most 200 texts and 2 % of the time; the sample changes no score."""
    scorer.sample_texts = scorer.sample_same = 0
    scorer.score_s, scorer.sample_s = 1e6, 0.0
    before = scorer.score(scorer.prepare(reviews(40)))
    up = before.escalated.tolist()
    decided = 37 - len({text for text, is_up in zip(reviews(40), up, strict=True) if is_up})
    assert scorer.facts()["model"]["cascade"]["sample"]["texts"] == decided
    scorer.score_s, scorer.sample_s = 100.0, 3.0
    assert pack(scorer.score(scorer.prepare(reviews(40)))) == pack(before)
    assert scorer.sample_texts == decided


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cascade_below": 0.9}, "--cascade-below requires --cascade"),
        ({"cascade_below": 1.5, "cascade": "fast"}, "not above 0 and at most 1"),
        ({"cascade": "second"}, "are the same model"),
        ({"cascade": "three"}, "a, b; --model .* has NEGATIVE, POSITIVE"),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_model_loads(
    models, dump, tmp_path, options, said
):
    """With exit code 2, and with what differs where the labels are others."""
    place = dict(zip(("fast", "second"), models, strict=True))
    if options.get("cascade") == "three":
        place["three"] = str(make_model(tmp_path / "three", labels=("a", "b")))
    if "cascade" in options:
        options = options | {"cascade": place[options["cascade"]]}
    with pytest.raises(BatchsentError, match=said) as raised:
        batch(dump, tmp_path / "out.csv", model=models[1], device="cpu", dry_run=True, **options)
    assert raised.value.exit_code == 2
