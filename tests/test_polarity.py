"""Polarity and the neutral band: the columns, what the summary says of them, and what reads them."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.commands.batch import batch
from batchsent.commands.compare import compare
from batchsent.commands.evaluate import evaluate
from batchsent.commands.sample import sample
from batchsent.errors import UsageError
from batchsent.evaluation.polarity import sides_of
from batchsent.formats.scored_columns import NeutralRows
from batchsent.model import calibration, held_out
from batchsent.training.held_out import count_held_out
from batchsent.verification.verify import verify
from tests.hash_model import HashModels, probability
from tests.models import make_model

TEXTS = [None if n % 50 == 7 else f"review number {n}" for n in range(400)]
GOLD = [n % 2 for n in range(400)]


@pytest.fixture
def dump(tmp_path):
    """A Parquet file of many reviews with gold labels."""
    path = tmp_path / "in.parquet"
    pd.DataFrame({"text": TEXTS, "gold": GOLD}).to_parquet(path)
    return path


def due(band=0.0):
    """Label and polarity of each row, computed anew: the hash model's own probabilities."""
    rows = []
    for text in TEXTS:
        if text is None:
            rows.append((None, None))
            continue
        positive = np.float32(probability(text))
        value = positive - (np.float32(1) - positive)
        label = "POSITIVE" if value > 0 else "NEGATIVE"
        rows.append(("NEUTRAL" if abs(float(value)) < band else label, value))
    return rows


def scored(path):
    """Label and polarity of each row of a Parquet output."""
    table = pq.read_table(path)
    assert table.schema.field("polarity").type == pa.float32()
    return list(zip(table["label"].to_pylist(), table["polarity"].to_pylist(), strict=True))


def test_polarity_is_p_positive_minus_p_negative(dump, tmp_path):
    """From -1 to 1 after label and score, null where there is no text; labels stay as they are."""
    out = tmp_path / "out.parquet"
    batch(dump, out, models=HashModels(), polarity=True)
    assert pq.read_table(out).column_names == ["text", "gold", "label", "score", "polarity"]
    assert scored(out) == due()
    assert verify(dump, out)["rows"]["scored"] == 392


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".arrow"])
def test_rows_within_the_band_are_neutral(dump, tmp_path, suffix):
    """In every format; verify agrees, and a file with another label there it refuses."""
    out = tmp_path / f"out{suffix}"
    summary = batch(dump, out, models=HashModels(), neutral_band=0.3, probabilities=True)
    found = summary["predictions"]["neutral"]
    rows = due(0.3)
    neutral = [value for label, value in rows if label == "NEUTRAL"]
    assert (found["band"], found["rows"]) == (0.3, len(neutral))
    assert found["share"] == pytest.approx(len(neutral) / 392)
    assert [entry["count"] for entry in found["by_label"]] == [
        sum(value <= 0 for value in neutral),
        sum(value > 0 for value in neutral),
    ]
    assert found["others"] is None
    verify(dump, out)
    if suffix == ".parquet":
        assert scored(out) == rows


def test_the_figures_of_the_labels_are_those_without_a_band(dump, tmp_path):
    """The band changes what is written, not what the model said, nor its evaluation."""
    plain = batch(dump, tmp_path / "a.csv", models=HashModels(), gold="gold")
    banded = batch(dump, tmp_path / "b.csv", models=HashModels(), gold="gold", neutral_band=0.5)
    assert banded["evaluation"] == plain["evaluation"]
    assert banded["predictions"]["labels"] == plain["predictions"]["labels"]


def test_gold_tells_how_right_the_rows_outside_the_band_are(dump, tmp_path):
    """Coverage and accuracy, as pandas counts them in the output."""
    out = tmp_path / "out.parquet"
    found = batch(dump, out, models=HashModels(), gold="gold", neutral_band=0.4)
    frame = pd.read_parquet(out).dropna(subset="label")
    kept = frame[frame["label"] != "NEUTRAL"]
    right = kept["label"] == kept["gold"].map({0: "NEGATIVE", 1: "POSITIVE"})
    assert found["predictions"]["neutral"]["others"] == {
        "source": "gold",
        "rows": len(kept),
        "share": pytest.approx(len(kept) / len(frame)),
        "accuracy": pytest.approx(right.mean()),
    }


def test_without_gold_the_held_out_rows_of_the_model_tell_it(tmp_path):
    """A model that finetune made has them in its folder."""
    model = make_model(tmp_path / "model", labels=("NEGATIVE", "POSITIVE"))
    positive = np.array([0.55, 0.1, 0.9, 0.95], dtype=np.float32)
    each = np.stack([1 - positive, positive], axis=1)
    right = np.array([1, 0, 1, 0])
    counted = count_held_out(("NEGATIVE", "POSITIVE"), each, right, temperature=1.5)
    (model / held_out.FILE).write_bytes(held_out.dumps(counted))
    fitted = calibration.Calibration(1.5, 1_000, 0.1, 0.1, 0.5, 0.5)
    (model / calibration.FILE).write_bytes(calibration.dumps(fitted))
    source = tmp_path / "in.csv"
    source.write_text("text\ngreat\nawful\n")
    summary = batch(source, tmp_path / "out.csv", model=str(model), neutral_band=0.3, device="cpu")
    others = summary["predictions"]["neutral"]["others"]
    assert others == {
        "source": "held_out",
        "rows": 3,
        "share": 0.75,
        "accuracy": pytest.approx(2 / 3),
    }


def test_another_band_needs_no_scoring(dump, tmp_path):
    """The kept scores of an interrupted run serve any band: only the writing changes."""
    out = tmp_path / "out.csv"
    batch(dump, out, models=HashModels(), neutral_band=0.3)
    with pytest.raises(UsageError, match="neutral-band"):
        batch(dump, out, models=HashModels(), neutral_band=0.4)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_reads_the_file_later_takes_the_label_that_the_model_gave(dump, tmp_path, suffix):
    """Evaluate has the figures of the run, sample draws by the model's labels, and compare finds no
    label changed by the band alone.
    """
    plain, out = tmp_path / f"plain{suffix}", tmp_path / f"out{suffix}"
    batch(dump, plain, models=HashModels())
    run = batch(dump, out, models=HashModels(), neutral_band=0.4, gold="gold")
    found = evaluate(str(out), gold="gold")["evaluation"]
    assert found["accuracy"] == run["evaluation"]["accuracy"]
    assert [label["label"] for label in found["labels"]] == ["NEGATIVE", "POSITIVE"]
    drawn = sample(out, tmp_path / "drawn.csv", rows=50)
    assert {label for stratum in drawn["strata"] for label in stratum["labels"]} == {
        "NEGATIVE",
        "POSITIVE",
    }
    assert compare(plain, out)["flips"] == 0


def test_groups_count_their_neutral_rows(dump, tmp_path):
    """The table, the summary and the page have the rows of each group within the band."""
    out = tmp_path / "out.csv"
    document = batch(dump, out, models=HashModels(), neutral_band=0.4, group_by="gold", report=True)
    rows = pd.read_csv(out)
    wanted = (rows["label"] == "NEUTRAL").groupby(rows["gold"]).sum()
    assert wanted.sum() == document["predictions"]["neutral"]["rows"] > 0
    groups = pd.read_csv(tmp_path / "out.groups.csv", index_col="gold")
    assert groups["neutral"].to_dict() == wanted.to_dict()
    (section,) = (entry for entry in document["outputs"] if entry["role"] == "groups")
    assert [entry["neutral"] for entry in section["largest"]] == wanted.tolist()
    assert "<th>NEUTRAL</th>" in (tmp_path / "out.csv.report.html").read_text()


def test_a_neutral_label_of_the_models_own_is_left_as_it_is():
    """Its score is its own probability, which does not fit the polarity."""
    score = np.array([0.9, 0.8, 0.6], dtype=np.float32)
    kept = NeutralRows().resolve(["POSITIVE", "NEGATIVE", "NEUTRAL"], score, [0.8, -0.6, 0.1])
    assert kept[2] == "NEUTRAL"
    banded = NeutralRows().resolve(
        ["POSITIVE", "NEGATIVE", "NEUTRAL", None],
        np.array([0.9, 0.8, 0.55, np.nan], dtype=np.float32),
        ["0.8", "-0.6", "-0.1", ""],
    )
    assert banded == ["POSITIVE", "NEGATIVE", "NEGATIVE", None]


@pytest.mark.parametrize(
    ("column", "row", "cell", "said"),
    [
        ("polarity", 0, 0.123, "not what label and score say"),
        ("polarity", 0, None, "come together"),
        ("label", "neutral", "POSITIVE", "nearer to 0 than 0.3"),
        ("label", "clear", "NEUTRAL", "nearer to 0 than 0.3"),
    ],
)
def test_verify_refuses_what_no_run_writes(dump, tmp_path, column, row, cell, said):
    """A polarity that label and score do not give, and a label that the band does not."""
    out = tmp_path / "out.parquet"
    batch(dump, out, models=HashModels(), neutral_band=0.3)
    table = pq.read_table(out)
    if isinstance(row, str):
        is_neutral = [label == "NEUTRAL" for label in table["label"].to_pylist()]
        row = is_neutral.index(row == "neutral")
    cells = table[column].to_pylist()
    cells[row] = cell
    place = table.column_names.index(column)
    changed = table.set_column(place, table.field(place), pa.array(cells, table[column].type))
    pq.write_table(changed, out, row_group_size=len(table))
    with pytest.raises(Exception, match=said):
        verify(dump, out)


def test_without_a_summary_verify_finds_a_band(dump, tmp_path):
    """Any band that explains which rows are NEUTRAL."""
    out = tmp_path / "out.csv"
    batch(dump, out, models=HashModels(), neutral_band=0.3, probabilities=True)
    (tmp_path / "out.csv.summary.json").unlink()
    verify(dump, out)
    lines = out.read_text().splitlines(keepends=True)
    neutral = next(n for n, line in enumerate(lines) if '"NEUTRAL"' in line)
    lines[neutral] = lines[neutral].replace("NEUTRAL", "POSITIVE")
    out.write_text("".join(lines))
    with pytest.raises(Exception, match=r"no band|not the score of its label"):
        verify(dump, out)


def test_labels_of_other_names_are_named(tmp_path):
    """By --polarity-labels, whatever the model calls them; without it the run is refused."""
    model = make_model(tmp_path / "model", labels=("bad", "so-so", "good"))
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text\ngreat film\nawful film\n")
    run = {"model": str(model), "device": "cpu", "polarity": True, "probabilities": True}
    with pytest.raises(UsageError, match="this model has bad, so-so, good") as refused:
        batch(source, out, **run)
    assert "--polarity-labels negative=LABEL,positive=LABEL" in refused.value.hint
    run["polarity_labels"] = "negative=bad,positive=good"
    batch(source, out, **run)
    frame = pd.read_csv(out)
    assert np.allclose(frame["polarity"], frame["prob_good"] - frame["prob_bad"], atol=1e-6)
    verify(source, out)
    with pytest.raises(UsageError, match="requires a model with two labels"):
        batch(source, out, **run, neutral_band=0.3, overwrite=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"neutral_band": 1.5}, "not between 0 and 1"),
        ({"neutral_band": 0.0}, "not between 0 and 1"),
        ({"polarity": True, "polarity_labels": "POSITIVE"}, "does not name two labels"),
        ({"polarity": True, "polarity_labels": "negative=A,positive=B"}, "has no label A"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_model_loads(dump, tmp_path, options, said):
    """With what was found and what to type."""
    with pytest.raises(UsageError, match=said):
        batch(dump, tmp_path / "out.csv", models=HashModels(), **options)
    assert not (tmp_path / "out.csv").exists()


def test_a_neutral_label_of_its_own_is_kept():
    """The sides are found among more labels, in any case."""
    assert sides_of(("negative", "neutral", "Positive")) == (2, 0)


def test_the_terminal_and_the_page_say_what_neutral_means(dump, tmp_path):
    """How many rows, and how right the others are."""
    out = tmp_path / "out.csv"
    batch(dump, out, models=HashModels(), gold="gold", neutral_band=0.3, report=True)
    page = (tmp_path / "out.csv.report.html").read_text()
    assert "are labelled NEUTRAL" in page
    document = json.loads((tmp_path / "out.csv.summary.json").read_text())
    assert document["predictions"]["neutral"]["others"]["source"] == "gold"
