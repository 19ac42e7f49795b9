"""Learning from a teacher, and the formats and parts of reviews that a training uses."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.commands.batch import batch
from batchsent.commands.finetune import finetune
from batchsent.commands.predict import load
from batchsent.errors import InputError, UsageError
from tests.listener import Listener
from tests.models import make_model
from tests.reviews import BAD, GOOD, write_reviews

QUICK = {"batch_size": 8, "learning_rate": 1e-3, "device": "cpu", "max_length": 16}


def write_taught(path, positive=0.8, rows=160):
    """Write reviews with a teacher's probabilities: `positive` for those in good words, 1 -
    positive for the others.
    """
    texts = [f"the film {(GOOD, BAD)[i % 2][i // 2 % 6]} {i}" for i in range(rows)]
    p = np.where(np.arange(rows) % 2 == 0, positive, 1 - positive)
    pq.write_table(
        pa.table(
            {
                "text": texts,
                "label": ["POSITIVE" if value > 0.5 else "NEGATIVE" for value in p],
                "prob_NEGATIVE": (1 - p).astype(np.float32),
                "prob_POSITIVE": p.astype(np.float32),
            }
        ),
        path,
    )
    return str(path)


def test_a_distilled_model_is_as_sure_as_its_teacher(tmp_path):
    """--distill learns the probability itself, where bare labels drive it to 0 and 1."""
    base = str(make_model(tmp_path / "base"))
    data = write_taught(tmp_path / "taught.parquet")
    held = write_reviews(tmp_path / "held.csv")
    sure = {}
    for distill in (True, False):
        options = QUICK | {
            "train": data,
            "eval": held,
            "base_model": base,
            "distill": distill,
            "epochs": 12,
        }
        finetune(tmp_path / str(distill), **options)
        found = load(str(tmp_path / str(distill)), device="cpu").predict(
            ["the film great 3", "the film awful 4"]
        )
        assert [one.label for one in found] == ["POSITIVE", "NEGATIVE"]
        sure[distill] = np.mean([one.score for one in found])
    assert sure[True] == pytest.approx(0.8, abs=0.06)
    assert sure[False] > 0.93


def test_what_batch_writes_is_what_distill_reads(tmp_path):
    """A teacher's `batch --probabilities` feeds `finetune --distill`.

    Rows without text or score are left out.
    """
    teacher = str(make_model(tmp_path / "teacher"))
    reviews = tmp_path / "reviews.csv"
    reviews.write_text(
        "text\n"
        + "\n".join([*(f"{word} film {i}" for i, word in enumerate(GOOD * 5 + BAD * 5)), '" "'])
    )
    batch(str(reviews), tmp_path / "scored.csv", model=teacher, probabilities=True, device="cpu")
    document = finetune(
        tmp_path / "student",
        train=str(tmp_path / "scored.csv"),
        eval=write_reviews(tmp_path / "held.csv"),
        labels="NEGATIVE,POSITIVE",
        label_map="NEGATIVE=NEGATIVE,POSITIVE=POSITIVE,pos=POSITIVE,neg=NEGATIVE",
        base_model=teacher,
        distill=True,
        epochs=1,
        **QUICK,
    )
    assert document["data"]["train"]["rows"] == 60
    assert document["options"]["distill"] is True


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (
            {"prob_POSITIVE": [0.9] * 40},
            InputError,
            r"row 1: the columns prob_LABEL are .*, which do not make 1",
        ),
        (
            {"prob_POSITIVE": ["high"] * 40},
            InputError,
            "row 1: column prob_POSITIVE: 'high' is not a probability",
        ),
        ({"prob_POSITIVE": None}, UsageError, "prob_POSITIVE"),
    ],
)
def test_a_teacher_that_makes_no_sense_is_refused(tmp_path, change, error, said):
    """Probabilities that do not make 1, are no numbers, or are missing end the run before it
    trains.
    """
    table = pq.read_table(write_taught(tmp_path / "taught.parquet", rows=40)).to_pydict()
    table = {
        name: change.get(name, cells)
        for name, cells in table.items()
        if change.get(name, cells) is not None
    }
    pq.write_table(pa.table(table), tmp_path / "taught.parquet")
    with pytest.raises(error, match=said):
        finetune(
            tmp_path / "model",
            train=str(tmp_path / "taught.parquet"),
            base_model=str(make_model(tmp_path / "base")),
            distill=True,
            **QUICK,
        )
    assert not (tmp_path / "model").exists()


def test_half_precision_needs_a_gpu_and_bfloat16_does_not(tmp_path):
    """--precision float16 is refused on a CPU; bfloat16 trains there and is noted."""
    options = QUICK | {
        "train": write_reviews(tmp_path / "r.csv"),
        "base_model": str(make_model(tmp_path / "base")),
    }
    with pytest.raises(UsageError, match="float16 needs a GPU"):
        finetune(tmp_path / "half", precision="float16", **options)
    document = finetune(tmp_path / "brain", precision="bfloat16", epochs=1, **options)
    assert document["hyperparameters"]["precision"] == "bfloat16"


def test_a_model_reads_long_reviews_as_it_was_trained_to(tmp_path):
    """Finetune --long-text head-tail is kept in the model folder.

    Batch follows it and its summary says so.
    """
    options = QUICK | {
        "train": write_reviews(tmp_path / "r.csv"),
        "base_model": str(make_model(tmp_path / "base")),
    }
    finetune(tmp_path / "model", long_text="head-tail", epochs=1, **options)
    dump = tmp_path / "dump.csv"
    dump.write_text("text\n" + "good film " * 30 + "\n")
    for asked, expected in ((None, "head-tail"), ("tail", "tail")):
        out = tmp_path / f"{expected}.csv"
        batch(str(dump), out, model=str(tmp_path / "model"), device="cpu", long_text=asked)
        summary = json.loads((tmp_path / f"{expected}.csv.summary.json").read_text())
        assert summary["model"]["long_text"] == expected
        assert summary["text"]["tokens_cut_at_least"] == 60 - 14


def test_a_training_reads_long_reviews_as_its_base_does(tmp_path):
    """Without --long-text the base's own is kept and said; --long-text names another."""
    options = QUICK | {"train": write_reviews(tmp_path / "r.csv"), "epochs": 1}
    base = str(make_model(tmp_path / "base"))
    finetune(tmp_path / "first", base_model=base, long_text="head-tail", **options)
    listener = Listener()
    second = {"base_model": str(tmp_path / "first")}
    document = finetune(tmp_path / "second", **second, reporter=listener, **options)
    assert document["hyperparameters"]["long_text"] == "head-tail"
    assert json.loads((tmp_path / "second" / "config.json").read_text())["long_text"] == "head-tail"
    assert "head-tail of longer ones, as the base model reads them" in "\n".join(listener.said)
    document = finetune(tmp_path / "third", **second, long_text="head", **options)
    assert document["hyperparameters"]["long_text"] == "head"
