"""The search for settings: what it may look at, what it tells, and that it does nothing twice."""

import json
import os
import signal
import time

import pytest

from batchsent.commands.finetune import finetune
from batchsent.errors import DeviceError
from batchsent.training.search import choose
from tests.listener import Listener
from tests.models import weights
from tests.reviews import write_reviews

pytest.importorskip("optuna", reason="the extra `search` is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the search that most tests look at is made."""
    return tmp_path_factory.mktemp("search")


@pytest.fixture(scope="module")
def settings(folder, tiny_model):
    """Options of a search with three trials of a few steps."""
    return {
        "train": write_reviews(folder / "reviews.csv", rows=60),
        "eval": write_reviews(folder / "others.csv", rows=20, words=(["great great"], ["bad bad"])),
        "base_model": str(tiny_model),
        "learning_rate": 1e-3,
        "epochs": 1,
        "trials": 3,
        "precision": "float32",
    }


@pytest.fixture(scope="module")
def searched(folder, settings):
    """The document of such a search, and what was said."""
    listener = Listener()
    return finetune(folder / "out", **settings, reporter=listener), "\n".join(listener.said)


def test_the_trials_are_told_and_the_best_is_trained(folder, searched):
    """metrics.json and stderr have every trial; the first is what was asked for.

    The smallest loss is trained with.
    """
    document, said = searched
    runs = document["trials"]["runs"]
    assert [run["trial"] for run in runs] == [1, 2, 3]
    assert (runs[0]["learning_rate"], runs[0]["epochs"], runs[0]["batch_size"]) == (1e-3, 1.0, 16)
    for run in runs:
        assert 2.5e-4 <= run["learning_rate"] <= 4e-3
        assert run["epochs"] in {0.5, 1.0, 2.0}
        assert run["batch_size"] in {8, 16, 32}
        assert f"trial {run['trial']} of 3: learning rate {run['learning_rate']:.2e}" in said
        assert f"loss {run['loss']:.4f}, accuracy {run['accuracy']:.4f}" in said
    best = min(runs, key=lambda run: run["loss"])
    assert document["trials"]["chosen"] == best["trial"]
    assert document["trials"]["seed"] == document["hyperparameters"]["seed"] == 42
    assert all(
        document["hyperparameters"][name] == best[name]
        for name in ("learning_rate", "epochs", "batch_size")
    )
    assert f"trial {best['trial']} is the best of 3" in said
    card = (folder / "out" / "README.md").read_text()
    assert (
        "were held out to choose learning rate, epochs and batch size by 3 trials, and trained on "
        "in the end" in card
    )
    assert not (folder / "out.training").exists()


def test_trials_never_see_the_evaluation_rows(tmp_path, folder, searched, settings):
    """Other evaluation rows change no trial: it is measured on a share of the training rows,
    trained on at the end.
    """
    document, _ = searched
    assert document["data"]["validation"]["rows"] == 6
    assert document["data"]["train"]["rows"] == 60
    other = write_reviews(tmp_path / "third.csv", rows=12, words=(["love love"], ["worst worst"]))
    again = finetune(tmp_path / "again", **settings | {"eval": other})
    without_times = [
        [{k: v for k, v in run.items() if k != "runtime_s"} for run in d["trials"]["runs"]]
        for d in (document, again)
    ]
    assert without_times[0] == without_times[1]
    assert weights(folder / "out") == weights(tmp_path / "again")
    assert again["metrics"] != document["metrics"]


def test_another_seed_tries_other_settings(tmp_path, searched, settings):
    """The seed decides what is tried, after the first trial."""
    document, _ = searched
    other = finetune(tmp_path / "other", **settings, seed=7)
    tried = [[run["learning_rate"] for run in d["trials"]["runs"]] for d in (document, other)]
    assert tried[0][0] == tried[1][0]
    assert tried[0][1:] != tried[1][1:]


def test_a_killed_search_goes_on_with_the_next_trial(
    tmp_path, fork_server, folder, searched, settings
):
    """Finished trials are not done again after SIGKILL, and the outcome is that of a search left
    alone.
    """
    command = ["finetune", "-o", "killed"]
    for name, value in settings.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    child = fork_server.start([*command, "--device", "cpu"], tmp_path)
    kept = tmp_path / "killed.training" / "trials.json"
    deadline = time.monotonic() + 120
    while not kept.exists():
        assert time.monotonic() < deadline, (tmp_path / "run.err").read_text()
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    assert fork_server.wait(child) == -signal.SIGKILL
    assert fork_server.run([*command, "--device", "cpu", "--resume"], tmp_path) == 0, (
        tmp_path / "run.err"
    ).read_text()
    assert "of 3 trials are done already" in (tmp_path / "run.err").read_text()
    assert weights(tmp_path / "killed") == weights(folder / "out")
    document = json.loads((tmp_path / "killed" / "metrics.json").read_text())
    assert document["trials"]["chosen"] == searched[0]["trials"]["chosen"]


def test_a_search_with_early_stopping_and_adapters(tmp_path, settings):
    """Trials, adapters and early stopping work together; the held-out rows stay held out then."""
    pytest.importorskip("peft", reason="the extra `lora` is not installed")
    document = finetune(tmp_path / "out", **settings | {"trials": 2}, lora=2, early_stopping=1)
    assert document["data"]["train"]["rows"] == 54
    assert len(document["trials"]["runs"]) == 2
    assert document["training"]["best_step"]


def test_a_trial_that_diverges_is_not_chosen(tmp_path, settings):
    """A trial without a finite loss is told with its reason; where none ends, no model is written."""
    with pytest.raises(
        DeviceError, match="no trial of 2 came to its end: the loss is no longer a finite number"
    ):
        finetune(tmp_path / "out", **settings | {"trials": 2, "learning_rate": 1e38})
    assert not list(tmp_path.iterdir())


def test_the_best_is_the_first_of_the_smallest():
    """Equal losses: the earlier trial, which is nearer to what was asked for."""
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Plan:
        seed: int = 1
        learning_rate: float = 0.0
        epochs: float = 0.0
        batch_size: int = 0

    losses = [0.5, None, 0.4, 0.4]
    runs = [
        {"trial": i, "learning_rate": i / 10, "epochs": float(i), "batch_size": i, "loss": loss}
        for i, loss in enumerate(losses, start=1)
    ]
    plan, found = choose(runs, Plan())
    assert (plan.learning_rate, plan.batch_size, found["chosen"]) == (0.3, 3, 3)


def test_a_vocabulary_is_learned_once(tmp_path):
    """From scratch every trial starts a new model over the same vocabulary, and warm-up follows its
    own steps.
    """
    reviews = write_reviews(tmp_path / "reviews.csv", rows=60)
    listener = Listener()
    document = finetune(
        tmp_path / "out",
        train=reviews,
        from_scratch=True,
        trials=2,
        epochs=1,
        warmup=0.5,
        reporter=listener,
    )
    assert sum("from scratch: a vocabulary" in line for line in listener.said) == 1
    assert len(document["trials"]["runs"]) == 2
