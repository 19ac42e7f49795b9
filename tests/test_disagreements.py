"""The rows where star ratings and text disagree most: the right ones, however the run is cut, and
no more of them.
"""

import csv
import datetime
import io
import itertools

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent import batch
from batchsent.chunk import BLANK, SCORED, Chunk, Scores
from batchsent.errors import UsageError
from batchsent.evaluation.disagreements import Disagreements
from batchsent.evaluation.gold import GoldRule
from batchsent.files.atomic import PendingFile
from batchsent.formats.tables import write_table

LABELS = ("NEGATIVE", "POSITIVE")
RULE = "1-2:NEGATIVE,4-5:POSITIVE"


def run_of(positives, stars, texts=None, status=None):
    """A run of rows by their probability of POSITIVE."""
    p = np.array(positives, np.float32)
    rows = len(p)
    states = np.full(rows, SCORED, np.uint8) if status is None else np.array(status, np.uint8)
    tokens = np.ones(rows, np.int32)
    scores = Scores(np.stack([1 - p, p], axis=1), tokens, 0 * tokens, states, rows)
    return Chunk(0, texts or [f"text {n}" for n in range(rows)], None, list(stars)), scores


def found(chunk, scores, *cuts, **options):
    """The disagreements of a run added in chunks that end at `cuts`."""
    kept = Disagreements(GoldRule.parse(LABELS, stars=RULE), **options)
    for a, b in itertools.pairwise([0, *cuts, chunk.rows]):
        part = Scores(
            *(
                getattr(scores, n)[a:b]
                for n in ("probabilities", "n_tokens", "truncated_tokens", "status")
            ),
            b - a,
        )
        kept.add(Chunk(a, chunk.texts[a:b], None, chunk.gold[a:b]), part)
    return kept


def test_the_most_surprising_rows_come_first():
    """Only rows labelled against their stars are kept, those with the least likely stars first,
    with all one needs.
    """
    chunk, scores = run_of([0.9, 0.1, 0.99, 0.2, 0.8, 0.3], [1, 5, "2.0", 4.5, 5, 3])
    rows = found(chunk, scores).table().to_pylist()
    assert [row["row"] for row in rows] == [3, 2, 1, 4]
    first = rows[0]
    assert first["score"] == np.float32(0.99)
    assert first["gold_probability"] == pytest.approx(0.01, abs=1e-6)
    assert (first["gold"], first["gold_label"], first["label"]) == ("2.0", "NEGATIVE", "POSITIVE")
    assert first["text"] == "text 2"


def test_blank_and_unrated_rows_disagree_with_nothing():
    """Rows without a score, without stars, or with stars that the rule leaves out are not there."""
    chunk, scores = run_of([0.9] * 5, [1, None, 3, "?", 1], status=[BLANK, *[SCORED] * 4])
    kept = found(chunk, scores)
    assert [row["row"] for row in kept.table().to_pylist()] == [5]
    assert kept.table().num_rows == 1


@pytest.mark.parametrize("most_rows", [1, 7, 100, 5_000])
def test_the_rows_kept_are_the_worst_of_all_however_the_run_is_cut(most_rows):
    """Among thousands of rows with many ties, the rows kept are the first of the sorted whole."""
    random = np.random.default_rng(2)
    positives = random.integers(0, 50, 3_000) / 50 + 0.001
    stars = random.choice([1, 2, 3, 4, 5], 3_000)
    chunk, scores = run_of(positives, stars.tolist())
    wrong = {1: 0, 2: 0, 4: 1, 5: 1}
    ranked = sorted(
        (float(scores.probabilities[n, wrong[s]]), n + 1)
        for n, s in enumerate(stars.tolist())
        if s in wrong and scores.winners[n] != wrong[s]
    )
    whole = found(chunk, scores, most_rows=most_rows)
    assert [row["row"] for row in whole.table().to_pylist()] == [
        row for _, row in ranked[:most_rows]
    ]
    assert (
        found(chunk, scores, 1, 2, 1_000, 1_001, 2_999, most_rows=most_rows)
        .table()
        .equals(whole.table())
    )


def test_texts_are_cut():
    """A text of a megabyte takes no more room than the first characters of it."""
    chunk, scores = run_of([0.9], [1], texts=["é" * 1_000_000])
    assert found(chunk, scores, characters=10).table()["text"].to_pylist() == ["é" * 10]


def test_keeping_none_counts_them_all_the_same():
    """With room for no row the disagreements are still counted."""
    chunk, scores = run_of([0.9, 0.8], [1, 1])
    kept = found(chunk, scores, 1, most_rows=0)
    assert kept.table().num_rows == 0


@pytest.mark.parametrize("name", ["d.csv", "d.csv.gz", "d.tsv", "d.parquet", "d.arrow.zst"])
def test_they_are_written_as_a_file_of_any_format(tmp_path, name):
    """Texts with quotes, line ends, surrogates and formulas come back from the file that was
    written.
    """
    texts = ['say "hi", now\r\ntab\there', "=1+1", "half \udc80 a character", ""]
    chunk, scores = run_of([0.9, 0.8, 0.7, 0.6], [1] * 4, texts=texts)
    table = found(chunk, scores).table()
    target = tmp_path / name
    file = PendingFile(target)
    write_table(file, str(target), table)
    file.commit()
    if name.endswith(".parquet"):
        assert pq.read_table(target).equals(table)
        return
    from batchsent.formats import ReadOptions, open_source

    source = open_source(str(target), ReadOptions(text_column="text"))
    assert [text for part in source.chunks() for text in part.texts] == [
        *texts[:2],
        "half \ufffd a character",
        "",
    ]
    assert source.columns == table.column_names
    source.close()
    if name == "d.csv":
        rows = list(csv.DictReader(io.StringIO(target.read_text(), newline="")))
        assert [float(row["score"]) for row in rows] == pytest.approx([0.9, 0.8, 0.7, 0.6])


def starred(rows=40):
    """Reviews with ids and stars that mean nothing, so that many disagree with the model."""
    return {
        "id": [f"00{n}" for n in range(rows)],
        "a,b": [f"product, {n % 3}" for n in range(rows)],
        "score": [f"{n}%" for n in range(rows)],
        "text": ["I loved this movie" if n % 2 else "awful boring film" for n in range(rows)],
        "stars": [str(1 + n % 5) for n in range(rows)],
    }


def kept_of(source, tmp_path, model, keep, **options):
    """The disagreements of a run over `source` with --keep, as text."""
    far = tmp_path / "far.csv"
    options |= {"gold_stars": "stars", "stars": RULE, "disagreements": str(far), "keep": keep}
    batch(source, tmp_path / f"out{source.suffix}", model=str(model), prefix="p_", **options)
    return pd.read_csv(far, dtype=str, keep_default_na=False)


@pytest.mark.parametrize("chunk_rows", [7, 8192])
def test_the_columns_named_come_along(tmp_path, tiny_model, chunk_rows):
    """--keep writes the cells of the input beside each row, as they stand there.

    A name with a comma is quoted; a column called like one of the table's own is told apart.
    """
    source, data = tmp_path / "in.csv", pd.DataFrame(starred())
    data.to_csv(source, index=False)
    keep = 'id, "a,b",score,text'
    found = kept_of(source, tmp_path, tiny_model, keep, chunk_rows=chunk_rows)
    assert len(found) > 5
    assert list(found)[:5] == ["row", "id", "a,b", "input_score", "input_text"]
    for _, row in found.iterrows():
        given = data.iloc[int(row["row"]) - 1]
        assert row["id"] == given["id"]
        assert row["a,b"] == given["a,b"]
        assert row["input_score"] == given["score"]
        assert row["input_text"] == row["text"] == given["text"]


def test_columns_of_parquet_come_along_in_any_type(tmp_path, tiny_model):
    """Numbers, dates, categories, lists and null are written as the output writes them in CSV."""
    rows, day = 40, datetime.date(2024, 1, 2)
    table = pa.table(starred()).append_column("number", pa.array([None, *range(1, rows)]))
    table = table.append_column("day", pa.array([day] * rows))
    table = table.append_column("kind", pa.array(["x", "y"] * 20).dictionary_encode())
    table = table.append_column("tags", pa.array([["a", "b"]] * rows))
    table = table.append_column("view", pa.array([f"v{n}" for n in range(rows)], pa.string_view()))
    source = tmp_path / "in.parquet"
    pq.write_table(table, source, row_group_size=9)
    found = kept_of(source, tmp_path, tiny_model, "number,day,kind,tags,view", chunk_rows=11)
    for _, row in found.iterrows():
        n = int(row["row"]) - 1
        assert row["number"] == (str(n) if n else "")
        assert row["day"] == "2024-01-02"
        assert row["kind"] == "xy"[n % 2]
        assert row["tags"] == '["a", "b"]'
        assert row["view"] == f"v{n}"


def test_a_long_cell_is_cut_as_texts_are():
    """A kept column of very long values does not fill the memory."""
    chunk, scores = run_of([0.9, 0.8], [1, 1])
    kept = Disagreements(GoldRule.parse(LABELS, stars=RULE), ["note"], characters=10)
    cells = pa.array(["é" * 1_000, None])
    kept.add(chunk, scores, lambda rows: [cells.take(pa.array(rows))])
    assert kept.table()["note"].to_pylist() == ["é" * 10, None]


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        ("idd", "did you mean keep='id'?"),
        ("id,", "is empty"),
        ('"id', "not a list of column names"),
    ],
)
def test_a_column_that_is_not_there_is_refused_before_anything_loads(
    tmp_path, tiny_model, keep, said
):
    """--keep names the nearest column, also in a dry run, which loads no model."""
    source = tmp_path / "in.csv"
    pd.DataFrame(starred(3)).to_csv(source, index=False)
    with pytest.raises(UsageError) as caught:
        kept_of(source, tmp_path, tiny_model, keep, dry_run=True)
    assert said in f"{caught.value.message} {caught.value.hint}"


def test_keep_requires_disagreements(tmp_path):
    """Columns to keep without a file to write them to are refused."""
    with pytest.raises(UsageError, match="keep requires disagreements"):
        batch("in.csv", tmp_path / "out.csv", keep="id")


def test_no_disagreement_leaves_an_empty_table_with_all_columns():
    """A run without a disagreement has the kept columns too."""
    table = Disagreements(GoldRule.parse(LABELS, stars=RULE), ["id"]).table()
    assert table.column_names[:2] == ["row", "id"]
    assert table.num_rows == 0
