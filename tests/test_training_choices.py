"""How a model is trained, where people choose: early stopping, weights, smoothing, accumulation,
adapters, trackers.
"""

import csv
import json
import random
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import batchsent
from batchsent.commands.finetune import finetune
from batchsent.errors import Interrupted, UsageError
from batchsent.training.hf_trainer import Loss, balanced_weights
from batchsent.training.train import smaller_batches
from batchsent.training.watching import diverged, stopped_learning
from tests.listener import Listener
from tests.models import make_model, weights
from tests.reviews import BAD, GOOD, write_reviews


@pytest.fixture
def reviews(tmp_path):
    """A file of 60 short reviews."""
    return write_reviews(tmp_path / "reviews.csv", rows=60)


@pytest.fixture
def noise(tmp_path, tiny_model):
    """Options of a training that soon learns by heart: nothing in the texts tells their class."""
    chance = random.Random(5)
    lines = [
        f"{' '.join(chance.choices(GOOD + BAD, k=6))} {i},{chance.choice(['pos', 'neg'])}"
        for i in range(80)
    ]
    (tmp_path / "noise.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    return {
        "train": str(tmp_path / "noise.csv"),
        "base_model": str(tiny_model),
        "learning_rate": 3e-3,
        "epochs": 12,
        "batch_size": 8,
        "early_stopping": 2,
        "precision": "float32",
    }


def curve(folder):
    """The evaluations of a training curve: step -> loss."""
    with (folder / "training_curve.csv").open(newline="") as file:
        return {
            int(row["step"]): float(row["eval_loss"])
            for row in csv.DictReader(file)
            if row["eval_loss"]
        }


def log_loss(folder, path):
    """The plain cross entropy of a model's probabilities on a labelled file."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = batchsent.load(str(folder), device="cpu").predict([row["text"] for row in rows])
    named = {"pos": "POSITIVE", "neg": "NEGATIVE"}
    return -np.mean(
        [np.log(p.probabilities[named[row["label"]]]) for p, row in zip(found, rows, strict=True)]
    )


def test_early_stopping_keeps_the_best_weights_and_says_so(tmp_path, noise):
    """After N evaluations without a smaller loss the training ends, and the model is the checkpoint
    that was best.
    """
    document = finetune(tmp_path / "out", **noise, keep_checkpoints=True)
    losses, training = curve(tmp_path / "out"), document["training"]
    best = min(losses, key=losses.get)
    assert training["best_step"] == best
    assert training["steps"] == max(losses) < 12 * 8
    assert list(losses).index(best) == len(losses) - 1 - 2
    checkpoint = tmp_path / "out.training" / f"checkpoint-{best}"
    from safetensors.numpy import load_file

    kept, published = (
        load_file(checkpoint / "model.safetensors"),
        load_file(tmp_path / "out" / "model.safetensors"),
    )
    assert kept.keys() == published.keys()
    assert all(np.array_equal(kept[name], published[name]) for name in kept)


def test_the_best_is_chosen_by_rows_that_are_neither_trained_nor_measured_on(tmp_path, noise):
    """Early stopping looks at a share of the training rows.

    The figures that are told are of the evaluation rows.
    """
    others = write_reviews(tmp_path / "others.csv", rows=30)
    listener = Listener()
    document = finetune(tmp_path / "out", **noise, eval=others, reporter=listener)
    data = document["data"]
    assert (data["train"]["rows"], data["validation"]["rows"], data["eval"]["rows"]) == (72, 8, 30)
    assert data["validation"]["held_out"] == 0.1
    assert "choose by 8 rows of noise.csv: 5 NEGATIVE, 3 POSITIVE" in "\n".join(listener.said)
    assert document["metrics"]["loss"] == pytest.approx(
        log_loss(tmp_path / "out", others), rel=1e-4
    )
    card = (tmp_path / "out" / "README.md").read_text()
    assert (
        "8 rows (10% of the training data) were held out to choose the checkpoint with the "
        "smallest loss" in card
    )


def test_early_stopping_survives_a_stop(tmp_path, noise):
    """A training that is stopped and goes on counts on: the same steps, the same model, the same
    figures.
    """
    undisturbed = finetune(tmp_path / "undisturbed", **noise)
    steps = undisturbed["training"]["steps"]
    with pytest.raises(Interrupted):
        finetune(
            tmp_path / "out", **noise, reporter=Listener(signal.SIGTERM, rows=(steps - 12) * 8)
        )
    resumed = finetune(tmp_path / "out", **noise, resume=True)
    assert 0 < resumed["training"]["resumed_at_step"] < steps == resumed["training"]["steps"]
    assert weights(tmp_path / "out") == weights(tmp_path / "undisturbed")
    assert resumed["metrics"] == undisturbed["metrics"]


def test_a_training_that_had_ended_is_not_trained_on(tmp_path, noise):
    """Killed after its last checkpoint and before its model, a training that had stopped by itself
    gives that model.
    """
    first = finetune(tmp_path / "out", **noise, keep_checkpoints=True)
    before = weights(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    again = finetune(tmp_path / "out", **noise, resume=True)
    assert (
        again["training"]["resumed_at_step"]
        == first["training"]["steps"]
        == again["training"]["steps"]
    )
    assert weights(tmp_path / "out") == before
    assert again["metrics"] == first["metrics"]


def test_a_best_checkpoint_that_is_damaged_is_not_gone_on_from(tmp_path, noise):
    """Where the best weights so far are torn, the newest checkpoint does not help: the run starts
    before it.
    """
    first = finetune(tmp_path / "out", **noise, keep_checkpoints=True)
    before = weights(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    best = (
        tmp_path
        / "out.training"
        / f"checkpoint-{first['training']['best_step']}"
        / "model.safetensors"
    )
    best.write_bytes(best.read_bytes()[:1000])
    again = finetune(tmp_path / "out", **noise)
    assert (again["training"]["resumed_at_step"] or 0) < first["training"]["best_step"]
    assert weights(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("losses", "patience", "stopped"),
    [
        ([], 1, False),
        ([3.0], 1, False),
        ([3.0, 2.0], 1, False),
        ([2.0, 2.0], 1, True),
        ([2.0, 3.0], 2, False),
        ([2.0, 3.0, 2.5], 2, True),
        ([2.0, 3.0, 1.0, 4.0], 2, False),
        ([1.0, 2.0, 3.0], None, False),
    ],
)
def test_patience_counts_evaluations_since_the_best(losses, patience, stopped):
    """An equal loss is no improvement; without patience nothing stops."""
    log = [entry for loss in losses for entry in ({"loss": 9.0}, {"eval_loss": loss})]
    assert stopped_learning(log, patience) is stopped


def test_balanced_weights_are_those_of_scikit_learn():
    """Rows / (classes x rows of the class)."""
    from sklearn.utils.class_weight import compute_class_weight

    labels = [0] * 7 + [1] * 2 + [2]
    wanted = compute_class_weight("balanced", classes=np.array([0, 1, 2]), y=np.array(labels))
    assert balanced_weights(labels, 3) == pytest.approx(list(wanted))


def test_balanced_weights_help_a_rare_class(tmp_path, tiny_model):
    """With one review in nine of a class, balanced weights find more of it than none do."""
    words = (GOOD, GOOD, GOOD, GOOD, BAD, GOOD, GOOD, GOOD, GOOD)
    labels = tuple("neg" if of_class is BAD else "pos" for of_class in words)
    reviews = write_reviews(tmp_path / "r.csv", rows=180, labels=labels, words=words)
    settings = {
        "train": reviews,
        "base_model": str(tiny_model),
        "learning_rate": 5e-4,
        "epochs": 2,
        "hold_out": 0.3,
    }
    recalls = {}
    for kind in ("none", "balanced"):
        document = finetune(tmp_path / kind, **settings, class_weights=kind, precision="float32")
        recalls[kind] = document["metrics"]["per_class"]["NEGATIVE"]["recall"]
    assert recalls["balanced"] > recalls["none"]


def test_the_loss_is_torchs_in_training_and_plain_in_figures(tmp_path, reviews, tiny_model):
    """Weights and smoothing are learned with, averaged over a whole step.

    The reported loss is the cross entropy.
    """
    import torch
    from torch.nn.functional import cross_entropy

    class Outputs:
        logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.1, 0.2], [1.0, 1.0, -2.0]])

    labels, chosen = torch.tensor([0, 2, 1]), Loss([0.5, 1.0, 2.0], 0.1)
    each = cross_entropy(
        Outputs.logits,
        labels,
        weight=torch.tensor([0.5, 1.0, 2.0]),
        label_smoothing=0.1,
        reduction="none",
    )
    assert chosen(Outputs, labels, num_items_in_batch=torch.tensor(12)) == pytest.approx(
        float(each.sum() / 12)
    )
    document = finetune(
        tmp_path / "out",
        train=reviews,
        eval=write_reviews(tmp_path / "others.csv", rows=20, words=(GOOD[::-1], BAD[::-1])),
        base_model=str(tiny_model),
        epochs=1,
        class_weights="balanced",
        label_smoothing=0.2,
    )
    assert document["metrics"]["loss"] == pytest.approx(
        log_loss(tmp_path / "out", tmp_path / "others.csv"), rel=2e-2
    )
    assert document["hyperparameters"]["label_smoothing"] == 0.2


def test_accumulated_batches_are_one_step(tmp_path):
    """Four batches of 4 with --accumulate 4 train as one batch of 16 does, the shorter last step
    included.
    """
    base = make_model(
        tmp_path / "base", dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0
    )
    path = tmp_path / "r.csv"
    lines = [
        f"{a} {b} {c},{'pos' if a in GOOD else 'neg'}"
        for a in GOOD + BAD
        for b in GOOD[:2]
        for c in BAD[:2]
    ]
    path.write_text("text,label\n" + "\n".join(lines) + "\n")
    settings = {
        "train": str(path),
        "base_model": str(base),
        "learning_rate": 1e-3,
        "epochs": 2,
        "precision": "float32",
    }
    whole = finetune(tmp_path / "whole", **settings, batch_size=16)
    parts = finetune(tmp_path / "parts", **settings, batch_size=4, accumulate=4)
    assert whole["training"]["steps"] == parts["training"]["steps"] == 6
    # Gradients and not weights: Adam takes the same step along a gradient of any size, wrong scales
    # included.
    with (
        (tmp_path / "whole" / "training_curve.csv").open() as one,
        (tmp_path / "parts" / "training_curve.csv").open() as other,
    ):
        for row, same in zip(csv.DictReader(one), csv.DictReader(other), strict=True):
            for name in ("loss", "grad_norm"):
                assert not row[name] or float(same[name]) == pytest.approx(
                    float(row[name]), rel=1e-3
                )
    assert parts["metrics"]["loss"] == pytest.approx(whole["metrics"]["loss"], abs=1e-5)


@pytest.mark.parametrize("kind", ["distilbert", "bert", "roberta"])
def test_adapters_are_merged_into_a_plain_model(tmp_path, reviews, kind):
    """--lora trains matrices of the given rank and the head.

    What is written is an ordinary model.
    """
    pytest.importorskip("peft", reason="the extra `lora` is not installed")
    from safetensors.numpy import load_file

    base = make_model(tmp_path / "base", kind)
    document = finetune(
        tmp_path / "out", train=reviews, base_model=str(base), lora=2, learning_rate=3e-3, epochs=2
    )
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tmp_path / "out"))
    assert before.keys() == after.keys()
    assert not list((tmp_path / "out").glob("adapter*"))
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert not any("embeddings" in name or "norm" in name.lower() for name in changed)
    dense = [name for name in changed if "classifier" not in name and "pooler" not in name]
    assert len(dense) == 2 * 6  # layers of a model with 2, each with 6 matrices
    assert {np.linalg.matrix_rank(after[name] - before[name], tol=1e-5) for name in dense} <= {1, 2}
    assert document["hyperparameters"]["lora"] == 2
    assert document["training"]["parameters"] == sum(tensor.size for tensor in before.values())
    assert batchsent.load(str(tmp_path / "out"), device="cpu").predict(["a great film"])[0].label


def test_adapters_go_on_from_a_checkpoint(tmp_path, reviews, tiny_model):
    """A stopped training with adapters goes on to the same model, early stopping and all."""
    pytest.importorskip("peft", reason="the extra `lora` is not installed")
    settings = {
        "train": reviews,
        "base_model": str(tiny_model),
        "lora": 4,
        "batch_size": 8,
        "epochs": 4,
        "early_stopping": 2,
    }
    undisturbed = finetune(tmp_path / "undisturbed", **settings)
    with pytest.raises(Interrupted):
        finetune(tmp_path / "out", **settings, reporter=Listener(signal.SIGTERM, rows=16 * 8))
    resumed = finetune(tmp_path / "out", **settings, resume=True)
    assert resumed["training"]["resumed_at_step"] == 16
    assert weights(tmp_path / "out") == weights(tmp_path / "undisturbed")
    assert resumed["metrics"] == undisturbed["metrics"]


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"early_stopping": 0}, "--early-stopping 0: must be above 0", ""),
        (
            {"early_stopping": 1, "save_strategy": "no"},
            "--early-stopping keeps the best checkpoint",
            "epoch or steps",
        ),
        ({"label_smoothing": 1.0}, "--label-smoothing 1.0", "0.1"),
        ({"class_weights": "rare"}, "class_weights='rare' is not one of none, balanced", ""),
        ({"accumulate": 0}, "--accumulate 0: must be above 0", ""),
        ({"lora": -1}, "--lora -1: must be above 0", ""),
        (
            {"lora": 4, "from_scratch": True, "base_model": "distilbert-base-uncased"},
            "--lora keeps a base model",
            "",
        ),
        (
            {"resume": True, "restart": True},
            "--resume continues a training, --restart starts over",
            "leave one",
        ),
        ({"resume": True}, "--resume: there is no training of", "leave --resume out"),
        (
            {"report_to": "tensorbord"},
            "transformers knows no such tracker",
            "did you mean tensorboard?",
        ),
        ({"report_to": "clearml"}, "--report-to clearml needs a package", "pip install clearml"),
        (
            {"distill": True, "class_weights": "balanced"},
            "--distill learns probabilities",
            "leave them out",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, reviews, tiny_model, options, message, hint):
    """Numbers, combinations, names and packages are checked before anything is read or written."""
    with pytest.raises(UsageError) as caught:
        finetune(tmp_path / "out", **{"train": reviews, "base_model": str(tiny_model)} | options)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    assert {path.name for path in tmp_path.iterdir()} == {"reviews.csv"}


@pytest.mark.parametrize(
    ("option", "package", "extra"),
    [({"lora": 4}, "peft", "lora"), ({"trials": 2}, "optuna", "search")],
)
def test_a_missing_package_is_named_with_the_command_that_brings_it(
    tmp_path, monkeypatch, reviews, tiny_model, option, package, extra
):
    """Without the extra's package the run is refused before it reads anything, with what to
    install.
    """
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=f"needs {package}") as caught:
        finetune(tmp_path / "out", train=reviews, base_model=str(tiny_model), **option)
    assert f'pip install "batchsent[{extra}]"' in caught.value.hint


WRITER = """
import json, os
class SummaryWriter:
    def __init__(self, log_dir=None, **settings):
        os.makedirs(log_dir)
        self.file = open(os.path.join(log_dir, "events"), "w")
    def add_text(self, *a): pass
    def add_hparams(self, *a, **k): pass
    def flush(self): self.file.flush()
    def add_scalar(self, name, value, step): self.file.write(json.dumps([name, value, step]) + "\\n")
    def close(self): self.file.close()
"""


def test_the_curve_goes_to_a_tracker_too(tmp_path, fork_server, reviews, tiny_model):
    """--report-to tensorboard writes its logs beside the model, where they stay when the
    checkpoints go.
    """
    (tmp_path / "packages" / "tensorboardX").mkdir(parents=True)
    (tmp_path / "packages" / "tensorboardX" / "__init__.py").write_text(WRITER)
    command = ["finetune", "--train", reviews, "--base-model", tiny_model, "--epochs", "2"]
    command += ["--report-to", "tensorboard", "-o", "out"]
    code = fork_server.run(command, tmp_path, PYTHONPATH=tmp_path / "packages")
    assert code == 0, (tmp_path / "run.err").read_text()
    events = [
        json.loads(line) for line in (tmp_path / "out.logs" / "events").read_text().splitlines()
    ]
    assert {"train/loss", "eval/loss", "eval/accuracy"} <= {name for name, _, _ in events}
    assert not (tmp_path / "out.training").exists()


@dataclass(frozen=True)
class Chosen:
    """The settings of a training that its hints look at."""

    learning_rate: float = 1e-3
    warmup: float = 0.0
    batch_size: int = 16
    accumulate: int = 1
    max_length: int = 128


def test_hints_propose_what_is_not_in_use():
    """Out of memory or diverged: what is proposed differs from what was tried."""
    assert diverged(Chosen()).hint == "use a --learning-rate below 0.001, or --warmup 0.1"
    assert diverged(Chosen(warmup=0.1)).hint == "use a --learning-rate below 0.001"
    hint = smaller_batches(Chosen(batch_size=8, accumulate=4))
    assert hint == "use --batch-size 4 --accumulate 8, or a --max-length below 128"
    assert smaller_batches(Chosen(batch_size=1)) == "use a --max-length below 128"


def test_a_student_is_measured_by_labels(tmp_path, tiny_model):
    """With --distill and no --eval the held-out rows count by their labels, for early stopping as
    for the figures.
    """
    chance = random.Random(3)
    lines = ["text,label,prob_NEGATIVE,prob_POSITIVE"]
    for i in range(60):
        of_class, sure = (GOOD, 0.8) if i % 2 else (BAD, 0.3)
        label = "pos" if i % 2 else "neg"
        lines.append(
            f"{' '.join(chance.choices(of_class, k=3))} {i},{label},{1 - sure:.2f},{sure:.2f}"
        )
    (tmp_path / "taught.csv").write_text("\n".join(lines) + "\n")
    document = finetune(
        tmp_path / "out",
        train=str(tmp_path / "taught.csv"),
        base_model=str(tiny_model),
        distill=True,
        early_stopping=2,
        epochs=3,
        learning_rate=1e-3,
    )
    assert (document["data"]["validation"]["rows"], document["data"]["eval"]["rows"]) == (6, 6)
    assert set(document["metrics"]["per_class"]) == {"NEGATIVE", "POSITIVE"}
    assert document["metrics"]["loss"] > 0
