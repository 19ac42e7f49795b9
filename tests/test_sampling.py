"""Rows to label by hand: strata, how many rows each gives, and the file that a person fills in."""

import csv
import os
import subprocess

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.commands.batch import batch
from batchsent.commands.sample import sample, text_mark
from batchsent.errors import InputError, OutputError, UsageError
from batchsent.evaluation.sampling import Draw, ScoreCounts, allocate, cell_edges, score_cells
from tests.hash_model import HashModels

ADDED = [
    "audit_row",
    "audit_stratum",
    "audit_stratum_rows",
    "audit_weight",
    "audit_text",
    "audit_gold",
]


def scores_of(rows, seed=1):
    """Labels and scores of a model that is sure of most rows."""
    random = np.random.default_rng(seed)
    positive = random.beta(0.3, 0.3, rows)
    labels = ["POSITIVE" if p > 0.5 else "NEGATIVE" for p in positive]
    return labels, np.maximum(positive, 1 - positive).astype(np.float32)


def planned(labels, scores, rows):
    counts = ScoreCounts()
    counts.add(labels, scores)
    return counts.strata(rows)


def test_every_row_is_in_one_stratum_and_strata_are_large_enough():
    """No stratum but that of rare labels has less than a twentieth of the rows."""
    labels, scores = scores_of(10_000)
    strata = planned(labels, scores, 200)
    assert strata.rows.sum() == 10_000
    assert strata.rows.min() >= 500
    assert (np.bincount(strata.of(labels, scores)) == strata.rows).all()


def test_a_stratum_holds_one_label_and_one_range_of_scores():
    """What is said of a stratum is true of each of its rows."""
    labels, scores = scores_of(3_000)
    strata = planned(labels, scores, 200)
    for stratum, row_label, score in zip(strata.of(labels, scores), labels, scores, strict=True):
        said = strata.described()[stratum]
        assert said["labels"] == [row_label]
        assert said["score_from"] - 1e-6 <= score <= said["score_to"] + 1e-6


def test_rare_labels_share_a_stratum():
    """Twenty-eight emotions do not make twenty-eight strata of two rows each."""
    labels = ["joy"] * 500 + ["anger"] * 460 + [f"rare {n % 20}" for n in range(40)]
    strata = planned(labels, np.full(1_000, 0.9, np.float32), 100)
    assert [entry["labels"] for entry in strata.described()] == [
        ["anger"],
        ["joy"],
        sorted({f"rare {n}" for n in range(20)}),
    ]
    assert strata.drawn.sum() == 100


def test_rows_without_a_label_are_in_no_stratum():
    """A blank row is neither counted nor drawn."""
    labels = ["A", None] * 50
    scores = np.array([0.9, np.nan] * 50, np.float32)
    strata = planned(labels, scores, 20)
    assert strata.rows.sum() == 50
    picked, _ = Draw(strata, 0).pick(labels, scores)
    assert (picked % 2 == 0).all()


def test_cells_and_their_edges_agree():
    """A score lies between the edges of its cell, from the lowest to 1."""
    scores = np.linspace(0, 1, 5_001).astype(np.float32)
    cells, edges = score_cells(scores), cell_edges()
    assert (edges[cells] <= scores + 1e-6).all()
    assert (scores <= edges[cells + 1] + 1e-6).all()


def test_the_allocation_is_the_best_there_is():
    """No other whole numbers of the same sum give a smaller variance: all of them are tried."""
    rows, spread = np.array([40, 25, 60]), np.array([0.5, 0.2, 0.3])

    def variance(drawn):
        return float(((rows * spread) ** 2 / drawn).sum())

    drawn = allocate(rows, spread, 20)
    others = [
        np.array([a, b, 20 - a - b]) for a in range(2, 17) for b in range(2, 19 - a) if a + b <= 18
    ]
    assert drawn.sum() == 20
    assert variance(drawn) == pytest.approx(min(map(variance, others)))


def test_the_allocation_takes_no_more_rows_than_there_are():
    """A small stratum gives all it has, the rest comes from the others."""
    assert allocate(np.array([1, 3, 100]), np.array([0.5, 0.5, 0.1]), 50).tolist() == [1, 3, 46]
    assert allocate(np.array([2, 3]), np.array([0.5, 0.5]), 50).tolist() == [2, 3]


def test_every_row_of_a_stratum_is_as_likely_to_be_drawn():
    """Over 2,000 seeds the rows of each stratum are drawn about equally often."""
    labels, scores = scores_of(60)
    strata = planned(labels, scores, 20)
    drawn = np.zeros(60)
    for seed in range(2_000):
        drawn[Draw(strata, seed).pick(labels, scores)[0]] += 1
    chance = (strata.drawn / strata.rows)[strata.of(labels, scores)]
    noise = np.sqrt(2_000 * chance * (1 - chance))
    assert (np.abs(drawn - 2_000 * chance) <= 4.5 * noise + 1e-9).all()


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_the_draw_does_not_depend_on_chunks(chunk):
    """However the file is cut, a seed draws the same rows."""
    labels, scores = scores_of(100)
    strata = planned(labels, scores, 30)
    whole = Draw(strata, 5).pick(labels, scores)[0].tolist()
    draw, found = Draw(strata, 5), []
    for start in range(0, 100, chunk):
        rows, _ = draw.pick(labels[start : start + chunk], scores[start : start + chunk])
        found += (rows + start).tolist()
    assert found == whole
    assert len(found) == 30
    assert draw.complete


@pytest.fixture
def reviews(tmp_path):
    """A dump whose CSV is not what a CSV writer would make of it."""
    path = tmp_path / "reviews.csv"
    lines = ['id,text,"note"\r\n']
    for i in range(300):
        text = "" if i % 50 == 7 else f'"review ""{i}"",\r\nwith a line break"'
        lines.append(f'{i:04},{text},"007"\r\n')
        if i % 40 == 3:
            lines.append("\r\n")
    path.write_bytes("".join(lines).encode())
    return path


def scored(source, target, **options):
    batch(source, target, models=HashModels(), **options)
    return target


def records(path):
    """The records of a CSV with CR LF line ends, without blank lines."""
    return [
        line for line in path.read_bytes().replace(b"\r\nwith", b"<br>with").split(b"\r\n") if line
    ]


def test_the_rows_of_a_csv_are_copied_to_the_byte(reviews, tmp_path):
    """Each row drawn is the record as it stands in the scored file, with six fields appended."""
    source = scored(reviews, tmp_path / "scored.csv")
    document = sample(source, tmp_path / "drawn.csv", rows=40)
    before, after = records(source), records(tmp_path / "drawn.csv")
    assert after[0] == before[0] + b"," + ",".join(ADDED).encode()
    assert len(after) == 41
    assert document["rows"] == 40
    for line in after[1:]:
        user, row, *_ = line.rsplit(b",", 6)
        assert user == before[int(row)]
        assert line.endswith(b",")  # audit_gold is empty


@pytest.mark.parametrize("source_suffix", ["csv", "parquet", "arrow", "tsv.gz"])
@pytest.mark.parametrize("target_suffix", ["csv", "parquet", "arrow"])
def test_the_same_rows_in_every_format(reviews, tmp_path, source_suffix, target_suffix):
    """Row numbers, weights and marks are those of the scored file, whatever it is written in."""
    source = scored(reviews, tmp_path / f"scored.{source_suffix}")
    target = tmp_path / f"drawn.{target_suffix}"
    sample(source, target, rows=40, seed=3)
    table = read(target)
    reference = tmp_path / "reference.csv"
    sample(scored(reviews, tmp_path / "again.csv"), reference, rows=40, seed=3)
    with reference.open(newline="") as file:
        expected = list(csv.DictReader(file))
    for name in ("audit_row", "audit_stratum", "audit_stratum_rows", "audit_text", "text", "id"):
        assert [str(cell) for cell in table[name]] == [row[name] for row in expected], name
    assert [float(cell) for cell in table["audit_weight"]] == [
        float(row["audit_weight"]) for row in expected
    ]
    assert {cell or None for cell in table["audit_gold"]} == {None}


def read(path):
    """The columns of a file in any format."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pydict()
    if path.suffix == ".arrow":
        with pa.ipc.open_stream(path) as reader:
            return reader.read_all().to_pydict()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_parquet_keeps_the_schema_of_the_user(tmp_path):
    """Nested, dictionary and typed columns of the rows drawn come out as they are."""
    table = pa.table(
        {
            "text": [f"review {n}" for n in range(80)],
            "tags": [[n, n + 1] for n in range(80)],
            "kind": pa.array(["a", "b"] * 40).dictionary_encode(),
            "label": ["POSITIVE", "NEGATIVE"] * 40,
            "score": pa.array([0.6, 0.9] * 40, pa.float32()),
        }
    )
    pq.write_table(table, tmp_path / "scored.parquet", row_group_size=30)
    sample(tmp_path / "scored.parquet", tmp_path / "drawn.parquet", rows=20)
    drawn = pq.read_table(tmp_path / "drawn.parquet")
    rows = [row - 1 for row in drawn["audit_row"].to_pylist()]
    assert rows == sorted(rows)
    assert drawn.select(table.column_names).equals(table.take(rows))


def test_weights_sum_to_the_dump(reviews, tmp_path):
    """Each row drawn stands for audit_weight rows: together for all rows with a label."""
    source = scored(reviews, tmp_path / "scored.csv")
    document = sample(source, tmp_path / "drawn.csv", rows=50)
    with (tmp_path / "drawn.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert document["scored_rows"] == 294
    assert sum(float(row["audit_weight"]) for row in rows) == pytest.approx(294)
    assert all(row["audit_text"] == text_mark(row["text"]) for row in rows)


def test_a_sample_of_more_rows_than_there_are_is_all_of_them(reviews, tmp_path):
    """Every row with a label is drawn once, and stands for itself."""
    source = scored(reviews, tmp_path / "scored.csv")
    document = sample(source, tmp_path / "drawn.csv", rows=5_000)
    assert document["rows"] == 294
    assert {stratum["weight"] for stratum in document["strata"]} == {1.0}


def test_another_seed_draws_other_rows(reviews, tmp_path):
    """The same seed writes the same bytes, another one other rows."""
    source = scored(reviews, tmp_path / "scored.csv")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        sample(source, tmp_path / f"{name}.csv", rows=40, seed=seed)
    a, b, c = ((tmp_path / f"{name}.csv").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_an_output_that_exists_is_kept(reviews, tmp_path):
    """Labels that somebody has typed are not overwritten, unless --overwrite says so."""
    source, target = scored(reviews, tmp_path / "scored.csv"), tmp_path / "drawn.csv"
    target.write_text("hours of work")
    with pytest.raises(UsageError, match=r"drawn\.csv exists already"):
        sample(source, target)
    assert target.read_text() == "hours of work"
    sample(source, target, overwrite=True)
    assert target.read_text().startswith("id,text")
    with pytest.raises(UsageError, match="is the file that is read"):
        sample(source, source, overwrite=True)


def test_a_full_disk_leaves_no_sample(fork_server, reviews, tmp_path):
    """The output is whole or absent."""
    source, target = scored(reviews, tmp_path / "scored.csv"), tmp_path / "drawn.csv"
    before = set(tmp_path.iterdir())
    done = subprocess.run(
        [fork_server.python, "-m", "batchsent", "sample", source, "-o", target],
        env=os.environ | {"BATCHSENT_FAULT": "write:1:enospc"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == OutputError.exit_code
    assert "no space left on device" in done.stderr
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("text,label\na,POSITIVE\n", UsageError, "no column called score"),
        (
            "text,label,score\na,POSITIVE,much\n",
            InputError,
            "row 1: the score 'much' is not a prob",
        ),
        ("text,label,score\na,POSITIVE,\n", InputError, "row 1: the score '' is not a probability"),
        ("text,label,score\na,,\n", InputError, "no row has a label"),
        (
            "text,label,score,audit_row\na,P,0.5,1\n",
            UsageError,
            "a column called audit_row already",
        ),
        ("body,label,score\na,P,0.5\n", UsageError, "no column called text or review"),
    ],
)
def test_what_is_not_a_scored_file_is_refused(tmp_path, content, error, message):
    """The message says what is missing, and nothing is written."""
    (tmp_path / "scored.csv").write_text(content)
    with pytest.raises(error, match=message):
        sample(tmp_path / "scored.csv", tmp_path / "drawn.csv")
    assert not (tmp_path / "drawn.csv").exists()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("-", "not written to stdout"),
        ("drawn.docx", "does not show"),
        ("no/x.csv", "does not exist"),
    ],
)
def test_outputs_that_cannot_be_are_refused(reviews, tmp_path, monkeypatch, output, message):
    """Before the file is read."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        sample("nothing.csv", output)
