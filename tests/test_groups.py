"""Scores rolled up by a column: against pandas, in bounded memory, said aloud where rows are lumped
together.
"""

import datetime
import decimal
import itertools
import tracemalloc
import uuid

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchsent.chunk import BLANK, NONFINITE, SCORED, Scores
from batchsent.errors import UsageError
from batchsent.evaluation.corrected_share import ErrorRates, adjusted_count
from batchsent.evaluation.groups import MOST_IN_SUMMARY, OTHERS, VALUE_CHARACTERS, Groups
from batchsent.evaluation.quality import interval

LABELS = ("NEGATIVE", "NEUTRAL", "POSITIVE")


def scores_of(rows, seed=0):
    """Seeded scores of three labels, some rows blank, some not finite, some cut."""
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.ones(3), rows).astype(np.float32)
    status = random.choice(np.array([SCORED] * 8 + [BLANK, NONFINITE], np.uint8), rows)
    p[status != SCORED] = np.nan
    cut = np.where(status == BLANK, 0, random.integers(-5, 5, rows)).clip(0).astype(np.int32)
    return Scores(p, np.full(rows, 9, np.int32), cut, status, rows)


def part(scores, a, b):
    """Rows a to b-1 of scores."""
    return Scores(
        scores.probabilities[a:b],
        scores.n_tokens[a:b],
        scores.truncated_tokens[a:b],
        scores.status[a:b],
        b - a,
    )


def grouped(values, scores, cuts=(), **options):
    """The groups of rows added in chunks that end at `cuts`."""
    values = pa.array(values) if isinstance(values, list) else values
    groups = Groups(LABELS, "product", **options)
    edges = [0, *sorted(cuts), len(values)]
    for a, b in itertools.pairwise(edges):
        groups.add(values[a:b], part(scores, a, b))
    return groups


def judged_groups(values, scores, gold, cuts=(), **options):
    """The groups of rows with gold labels, added in chunks that end at `cuts`."""
    groups = Groups(LABELS, "product", judged=True, **options)
    for a, b in itertools.pairwise([0, *sorted(cuts), len(values)]):
        groups.add(pa.array(values[a:b]), part(scores, a, b), np.array(gold[a:b]))
    return groups


def by_pandas(values, scores, unsure_below):
    """The same table by pandas."""
    scored = scores.status == SCORED
    frame = pd.DataFrame(
        {"product": values, "scored": scored, "truncated": scores.truncated_tokens > 0}
    )
    best = np.where(
        scored, np.nan_to_num(scores.probabilities).max(axis=1).astype(np.float64), np.nan
    )
    frame["mean_score"] = best
    frame["unsure"] = best < np.float32(unsure_below)
    for i, label in enumerate(LABELS):
        frame[f"share_{label}"] = np.where(scored, scores.winners == i, np.nan)
    found = frame.groupby("product", dropna=False)
    names = ["scored", *(f"share_{label}" for label in LABELS), "mean_score", "unsure", "truncated"]
    kinds = {name: "mean" if name.startswith(("share", "mean")) else "sum" for name in names}
    table = found.agg(kinds)
    table.insert(0, "n", found.size())
    return table.reset_index()


@given(
    values=st.lists(st.sampled_from(["a", "b", "", "Ä", "a long name", "0", None]), max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
@settings(max_examples=30, deadline=None)
def test_the_table_is_that_of_pandas(values, cuts):
    """Rows, shares, mean score, unsure and truncated rows of every group are what pandas' groupby
    gives.
    """
    scores = scores_of(len(values))
    cells = pa.array(values, pa.string())
    groups = grouped(cells, scores, [cut for cut in cuts if cut <= len(values)], unsure_below=0.6)
    found = groups.table().to_pandas()
    wanted = by_pandas(pd.Series(values, dtype="str"), scores, 0.6)
    for table in (found, wanted):
        table["product"] = table["product"].astype("str").fillna("null")
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False, rtol=0, atol=1e-8)
    assert groups.warnings() == []


def test_the_table_does_not_depend_on_the_chunks():
    """The same rows give the same table, to the bit, however they are cut into chunks."""
    random = np.random.default_rng(5)
    values = [f"p{n}" for n in random.integers(0, 300, 4_000)]
    scores = scores_of(len(values))
    whole = grouped(values, scores, unsure_below=0.7).table()
    assert grouped(values, scores, [1, 2, 700, 701, 3_999], unsure_below=0.7).table().equals(whole)


KINDS = {
    "int8": pa.array([3, None, -1, 3], pa.int8()),
    "uint64": pa.array([2**64 - 1, 0, None, 0], pa.uint64()),
    "double": pa.array([0.5, float("nan"), None, float("nan")]),
    "half": pa.array(np.array([1, 2, 2, 1], np.float16)),
    "bool": pa.array([True, False, None, True]),
    "date": pa.array(
        [datetime.date(2024, 1, 2), None, datetime.date(2023, 1, 1), datetime.date(2024, 1, 2)]
    ),
    "nanos": pa.array([1, 2, None, 1], pa.timestamp("ns", "Europe/Berlin")),
    "duration": pa.array([5, 5, None, 1], pa.duration("ms")),
    "time": pa.array([5, 5, None, 1], pa.time32("s")),
    "decimal": pa.array(
        [decimal.Decimal("1.10"), decimal.Decimal("2.20"), None, decimal.Decimal("1.10")]
    ),
    "dictionary": pa.array(["x", "y", None, "x"]).dictionary_encode(),
    "large": pa.array(["x", "y", None, "x"], pa.large_string()),
    "view": pa.array(["x", "y", None, "a value of more than twelve bytes"], pa.string_view()),
    "binary": pa.array([b"\xff", b"", None, b"\xff"]),
    "uuid": pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([uuid.UUID(int=n).bytes for n in (1, 2, 1, 2)], pa.binary(16))
    ),
    "nothing": pa.nulls(4),
    "not utf-8": pa.array([b"\xff", b"a", None, b"\xff"], pa.binary()).view(pa.string()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_can_be_of_any_plain_type(kind):
    """Values keep their type, null is a group of its own and stands last, equal values are one
    group.
    """
    values = KINDS[kind]
    groups = grouped(values, scores_of(4), [2])
    table = groups.table()
    assert sum(table["n"].to_pylist()) == 4
    plain = values.storage if isinstance(values, pa.ExtensionArray) else values
    plain = plain.cast(plain.type.value_type) if pa.types.is_dictionary(plain.type) else plain
    assert table.num_rows == len(plain.unique())
    assert table["product"].type == (pa.large_string() if kind == "view" else plain.type)
    if values.null_count and table.num_rows > 1:
        assert not table["product"][-1].is_valid
    grouped(values, scores_of(4), [2], cap=1).table()


def test_chunked_columns_are_taken_as_they_come():
    """A column of a table, in several pieces with dictionaries of their own, is one column."""
    pieces = pa.chunked_array(
        [pa.array(["x", "y"]).dictionary_encode(), pa.array(["y", "z"]).dictionary_encode()]
    )
    assert grouped(pieces, scores_of(4)).table()["n"].to_pylist() == [1, 2, 1]


@pytest.mark.parametrize("values", [[[1], [2]], [{"a": 1}, {"a": 2}]])
def test_nested_values_make_no_groups(values):
    """Lists and structs are refused, and the message names option and column."""
    with pytest.raises(UsageError, match="--group-by product"):
        grouped(pa.array(values), scores_of(2))


def test_beyond_the_cap_rows_are_counted_together_and_it_is_said():
    """The first groups keep their own rows.

    The rest is one row at the end, and a warning tells how many rows.
    """
    values = ["b", "a", "c", "a", "d", "c", "b"]
    scores = scores_of(len(values), seed=3)
    groups = grouped(values, scores, [3, 5], cap=2)
    table = groups.table()
    assert table["product"].to_pylist() == ["a", "b", OTHERS]
    assert table["n"].to_pylist() == [2, 2, 3]
    assert (groups.table().num_rows, groups.cap, groups.other_rows) == (3, 2, 3)
    (said,) = groups.warnings()
    assert said["code"] == "groups_capped"
    assert "3 rows are counted together as (other groups)" in said["message"]
    whole = Groups(LABELS, "product")
    whole.add(pa.array(["one"] * len(values)), scores)
    for column in ("n", "scored", "truncated"):
        assert sum(table[column].to_pylist()) == whole.table()[column][0].as_py()


def test_numbers_beyond_the_cap_become_text():
    """A column of numbers with a row of other groups is text, so that the row has a name."""
    table = grouped([10, 20, 30, 10], scores_of(4), cap=2).table()
    assert table["product"].to_pylist() == ["10", "20", OTHERS]


def test_a_column_of_ids_does_not_fill_the_memory():
    """Hundreds of thousands of rows with a value each, beyond the cap, take no more memory than the
    cap's groups.
    """
    groups = Groups(LABELS, "id", cap=10_000)
    tracemalloc.start()
    block = scores_of(10_000)
    groups.add(pa.array([f"id {n}" for n in range(10_000)]), block)
    _, first = tracemalloc.get_traced_memory()
    for start in range(10_000, 300_000, 10_000):
        groups.add(pa.array([f"id {n}" for n in range(start, start + 10_000)]), block)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert groups.other_rows == 290_000
    assert peak < 1.5 * first


def test_many_labels_mean_fewer_groups():
    """A model of a thousand labels may not take gigabytes for its groups."""
    assert Groups(tuple(f"label {n}" for n in range(1_000)), "id").cap < 20_000


def test_without_rows_there_is_an_empty_table():
    """No row read gives a table with its columns and no rows."""
    assert Groups(LABELS, "product").table().num_rows == 0


def test_a_column_named_like_a_figure_is_called_group():
    """Grouping by a column called n gives a table whose columns have different names."""
    groups = Groups(LABELS, "n")
    groups.add(pa.array(["x"]), scores_of(1))
    names = groups.table().column_names
    assert names[0] == "group"
    assert len(set(names)) == len(names)


def test_with_gold_labels_every_group_has_an_accuracy():
    """Judged rows, the share of right ones and its interval are those of the group's own rows."""
    random = np.random.default_rng(7)
    values = random.choice(["a", "b", "c"], 500).tolist()
    scores, gold = scores_of(500, seed=7), random.integers(-2, 3, 500)
    table = judged_groups(values, scores, gold).table()
    for row in table.to_pylist():
        own = np.array(values) == row["product"]
        judged = own & (scores.status == SCORED) & (gold >= 0)
        hits = int((scores.winners[judged] == gold[judged]).sum())
        assert row["judged"] == judged.sum() > 0
        assert row["accuracy"] == hits / judged.sum()
        assert [row["accuracy_low"], row["accuracy_high"]] == interval(hits, int(judged.sum()))
    again = judged_groups(values, scores, gold, [1, 2, 400]).table()
    assert again.equals(table)


def test_a_group_without_gold_labels_has_no_accuracy():
    """Where no row of a group can be judged, accuracy and interval are null and not 0."""
    table = judged_groups(["a", "a", "b"], scores_of(3), [-1, -2, -3]).table()
    assert table["judged"].to_pylist() == [0, 0]
    for name in ("accuracy", "accuracy_low", "accuracy_high"):
        assert table[name].null_count == 2


def test_the_accuracy_of_groups_beyond_the_cap_is_kept():
    """Rows of groups that came too late are judged together."""
    scores = scores_of(60, seed=1)
    values, gold = [f"id {n}" for n in range(60)], [0] * 60
    table = judged_groups(values, scores, gold, cap=10).table()
    assert table["product"].to_pylist()[-1] == OTHERS
    assert sum(table["judged"].to_pylist()) == (scores.status == SCORED).sum()


RATES = ErrorRates(np.array([[160, 30, 10], [40, 120, 40], [4, 16, 180]]))


def test_with_error_rates_every_large_group_has_corrected_shares():
    """They are those of the group's own counts, in table and summary; small groups have none."""
    scores = scores_of(1_000)
    values = ["large"] * 950 + ["small"] * 50
    groups = grouped(values, scores, rates=RATES)
    table = groups.table()
    large, small = table.to_pylist()
    counted = np.bincount(scores.winners[:950][scores.winners[:950] >= 0], minlength=3)
    wanted = adjusted_count(counted[None], RATES)
    for i, label in enumerate(LABELS):
        assert large[f"corrected_{label}"] == pytest.approx(wanted.shares[0, i])
        assert large[f"corrected_{label}_low"] == pytest.approx(wanted.low[0, i])
        assert large[f"corrected_{label}_high"] == pytest.approx(wanted.high[0, i])
        assert small[f"corrected_{label}"] is None
    first, second = groups.section(table)["largest"]
    assert first["corrected_shares"] == [large[f"corrected_{label}"] for label in LABELS]
    assert first["corrected_intervals"][2][1] == large["corrected_POSITIVE_high"]
    assert second["corrected_shares"] is None


def test_another_kind_of_text_leaves_the_groups_uncorrected():
    """The columns are there and empty: a nightly table keeps its columns."""
    groups = grouped(["large"] * 900, scores_of(900), rates=RATES)
    assert groups.table(correct=False).column_names == groups.table().column_names
    (row,) = groups.table(correct=False).to_pylist()
    assert row["corrected_POSITIVE"] is None
    assert row["share_POSITIVE"] is not None


def test_without_gold_labels_the_table_has_no_accuracy():
    """Columns that could only be empty are not there."""
    names = grouped(["a"], scores_of(1)).table().column_names
    assert not {"judged", "accuracy", "accuracy_low", "accuracy_high"} & set(names)


def test_the_summary_keeps_the_largest_groups():
    """Of many groups the summary has the largest, those first; of few all, in their order."""
    few = judged_groups([3, 10, 2, 10], scores_of(4), [0] * 4)
    kept = few.section(few.table())
    assert kept["column"] == "product"
    assert [entry["value"] for entry in kept["largest"]] == ["2", "3", "10"]
    assert kept["largest"][2]["rows"] == 2
    values = [str(n) for n in range(100) for _ in range(1 + n % 7)]
    many = grouped(values, scores_of(len(values)))
    largest = many.section(many.table())["largest"]
    assert len(largest) == MOST_IN_SUMMARY
    sizes = [entry["rows"] for entry in largest]
    assert sizes == sorted((1 + n % 7 for n in range(100)), reverse=True)[:MOST_IN_SUMMARY]
    assert "accuracy" not in largest[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_summary_holds_groups_of_any_type_as_text(kind):
    """Every value is printable text, or null, and not longer than a name."""
    groups = grouped(KINDS[kind], scores_of(4))
    for entry in groups.section(groups.table())["largest"]:
        assert entry["value"] is None or entry["value"].isprintable()
    long = grouped(["a\x1b" * 1_000], scores_of(1))
    (entry,) = long.section(long.table())["largest"]
    assert len(entry["value"]) == VALUE_CHARACTERS
