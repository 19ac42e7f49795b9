"""What a gold cell means: labels, numbers, mappings and stars."""

import math

import pytest

from batchsent.errors import UsageError
from batchsent.evaluation.gold import LEFT_OUT, MISSING, UNMATCHED, GoldRule

TWO = ("NEGATIVE", "POSITIVE")
NAN = float("nan")


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("NEGATIVE", 0),
        ("positive", 1),
        (" Positive ", 1),
        ("neg", 0),
        ("POS", 1),
        ("0", 0),
        ("1", 1),
        (1, 1),
        (1.0, 1),
        ("1.0", 1),
        (True, 1),
        (False, 0),
        (b"pos", 1),
        (None, MISSING),
        ("", MISSING),
        ("  ", MISSING),
        (NAN, MISSING),
        ("NA", UNMATCHED),
        ("2", UNMATCHED),
        (-1, UNMATCHED),
        ("-1", UNMATCHED),
        (0.5, UNMATCHED),
        ("inf", UNMATCHED),
        ("²", UNMATCHED),
        ("neutral", UNMATCHED),
        ("yes", UNMATCHED),
        (["pos"], UNMATCHED),
    ],
)
def test_cell_of_a_gold_column(cell, number):
    """A label's name in any case, neg and pos, or its number name a label.

    Nothing else is guessed.
    """
    assert GoldRule.parse(TWO).numbers([cell]).tolist() == [number]


def test_order_of_rows_is_kept():
    """Every cell gets its own number, in its own place."""
    cells = ["pos", "neg", None, "pos", "what", "neg"]
    assert GoldRule.parse(TWO).numbers(cells).tolist() == [1, 0, MISSING, 1, UNMATCHED, 0]


def test_names_come_before_numbers():
    """With labels named 1 to 3, a gold 1 is the label 1, not label number 1."""
    assert GoldRule.parse(("1", "2", "3")).numbers([1, "3", 2.0, 0]).tolist() == [0, 2, 1, 0]


def test_case_counts_where_it_tells_labels_apart():
    """Labels that differ only in case are met exactly or not at all."""
    assert GoldRule.parse(("pos", "Pos")).numbers(["Pos", "pos", "POS"]).tolist() == [
        1,
        0,
        UNMATCHED,
    ]


def test_unnamed_labels_are_not_guessed():
    """Values neg and pos say nothing about LABEL_0 and LABEL_1; the numbers do."""
    assert GoldRule.parse(("LABEL_0", "LABEL_1")).numbers(["neg", "1"]).tolist() == [UNMATCHED, 1]


def test_mapping():
    """A mapping says what each value means, and an empty right side leaves the value out."""
    rule = GoldRule.parse(TWO, "good=POSITIVE, 2 = positive,1=NEGATIVE,meh=")
    cells = ["GOOD", 2, "2.0", 1, "meh", "positive", "", None]
    assert rule.numbers(cells).tolist() == [1, 1, 1, 0, LEFT_OUT, 1, MISSING, MISSING]


def test_mapping_replaces_the_guesses():
    """With 1=NEGATIVE,2=POSITIVE, a 0 is neither and neg is not read as a synonym."""
    assert GoldRule.parse(TWO, "1=NEGATIVE,2=POSITIVE").numbers([0, "neg"]).tolist() == [
        UNMATCHED,
        UNMATCHED,
    ]


def test_stars():
    """Ratings within a range get its label, ends included; others are left out.

    The number may be followed by the word star, and may have a decimal comma; other words match
    nothing.
    """
    rule = GoldRule.parse(TWO, stars="1-2:NEGATIVE,4-5:POSITIVE")
    cells = [1, "2", 2.0, 3, "3.5", 4.5, "5", 0, "five", None, math.nan]
    expected = [0, 0, 0, LEFT_OUT, LEFT_OUT, 1, 1, LEFT_OUT, UNMATCHED, MISSING, MISSING]
    cells += ["4 stars", "1 star", "3 Stars", "5★", "4 points", "stars"]
    expected += [1, 0, LEFT_OUT, 1, UNMATCHED, UNMATCHED]
    cells += ["4,0", " 1,5 stars", "3,5", "1,2,3", "4,"]
    expected += [1, 0, LEFT_OUT, UNMATCHED, UNMATCHED]
    assert rule.numbers(cells).tolist() == expected


def test_a_single_star_is_a_range():
    """5:POSITIVE is the rating 5 alone."""
    assert GoldRule.parse(TWO, stars="1:NEGATIVE,5:POSITIVE").numbers([1, 4, 5]).tolist() == [
        0,
        LEFT_OUT,
        1,
    ]


@pytest.mark.parametrize(
    ("mapping", "stars", "said"),
    [
        ("neg", None, "cannot read 'neg'"),
        ("=POSITIVE", None, "cannot read '=POSITIVE'"),
        ("", None, "cannot read ''"),
        ("a=HAPPY", None, "no label 'HAPPY'"),
        ("a=NEGATIVE,A=POSITIVE", None, "'A' two labels"),
        (None, "1-2", "cannot read '1-2'"),
        (None, "2-1:NEGATIVE", "cannot read '2-1:NEGATIVE'"),
        (None, "one:NEGATIVE", "cannot read 'one:NEGATIVE'"),
        (None, "1-3:NEGATIVE,3-5:POSITIVE", "overlap"),
        (None, "1-2:HAPPY", "no label 'HAPPY'"),
        ("a=NEGATIVE", "1:NEGATIVE", "cannot be used together"),
        ("a\x1b[31m=HAPPY", None, r"a\x1b[31m"),
    ],
)
def test_rules_that_cannot_be_meant(mapping, stars, said):
    """A rule that cannot be read, or names no label of the model, is refused with what was found."""
    with pytest.raises(UsageError) as caught:
        GoldRule.parse(TWO, mapping, stars)
    assert said in caught.value.message


def test_memory_of_a_column_of_ids_is_bounded():
    """A column that is no gold column, a new value in every row, does not fill the memory."""
    rule = GoldRule.parse(TWO)
    for start in range(0, 100_000, 5_000):
        assert (rule.numbers([f"id-{i}" for i in range(start, start + 5_000)]) == UNMATCHED).all()
    assert len(rule.cache) < 20_000
