"""The rows where star ratings and text disagree most: the right ones, however the run is cut, and
no more of them.
"""

import csv
import io
import itertools

import numpy as np
import pyarrow.parquet as pq
import pytest

from batchsent.chunk import BLANK, SCORED, Chunk, Scores
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
