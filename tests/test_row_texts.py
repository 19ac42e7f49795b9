"""Texts in an Arrow array answer as the same texts in a list do."""

import pickle

import pyarrow as pa
import pytest

from batchsent.model.spawned_tokens import shared_out
from batchsent.row_texts import ArrowTexts, characters, digest, distinct_texts

COLUMNS = {
    "plain": ["good", "bad", "good", "so so"],
    "nulls and blank texts": [None, "", "a", " \t", "\u200b", "a", None, "é", "\ufeff!", "a "],
    "beyond ASCII": ["héllo", "漢字", "😀 👍", "١٢", "…", "e\u0301", "\u00a0"],
    "only blank": ["", " ", None],
    "only nulls": [None, None],
    "only empty": ["", ""],
    "nothing": [],
}


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_an_array_of_texts_answers_as_the_list_does(column, kind):
    """Lengths, hash, distinct texts, single rows; also of a slice, and in another process."""
    padded = pa.array(["x", None, *column, "tail"], kind)
    for array in (pa.array(column, kind), padded.slice(2, len(column))):
        texts = ArrowTexts(array)
        assert texts == column
        assert texts != [*column, "more"]
        assert [texts[row] for row in range(len(texts))] == column
        assert list(texts[1:3]) == column[1:3]
        assert pickle.loads(pickle.dumps(texts)) == column
        assert characters(texts).tolist() == characters(column).tolist()
        assert digest(texts) == digest(column)
        (ours, found), (theirs, wanted) = distinct_texts(texts), distinct_texts(column)
        assert ours.tolist() == theirs.tolist()
        assert list(found) == wanted


def test_bytes_under_a_null_are_not_part_of_the_texts():
    """A null may have bytes beneath it, as where a column was masked."""
    values = pa.array(["one", "two", "six"])
    masked = pa.Array.from_buffers(
        pa.string(), 3, [pa.py_buffer(bytes([0b101])), *values.buffers()[1:]]
    )
    assert digest(ArrowTexts(masked)) == digest(["one", None, "six"])
    assert pickle.loads(pickle.dumps(ArrowTexts(masked))) == ["one", None, "six"]


def test_texts_are_shared_out_the_same_from_an_array():
    """Each process gets the texts that it gets of a list."""
    texts = ["aaaa", "b", "c", "dd"]
    assert list(map(list, shared_out(ArrowTexts(pa.array(texts)), 3))) == shared_out(texts, 3)
