"""Data hygiene: what training rows are left out and why, and that typing errors in labels are told."""

from hypothesis import given
from hypothesis import strategies as st

from batchsent.training.deduplicate import choose_rows, plain
from batchsent.training.examples import Examples


def examples(*rows):
    """Examples of (text, class number) pairs."""
    return Examples([text for text, _ in rows], [label for _, label in rows], {})


def test_copies_are_left_out_but_for_the_first():
    """Of texts that differ in white space only the first is kept; the others are counted."""
    rows, counts = choose_rows(
        examples(("a film", 1), ("dull", 0), (" a  film\n", 1), ("a film", 1), ("A film", 1))
    )
    assert rows == [0, 1, 4]
    assert counts == {"also_in_evaluation": 0, "contradictory": 0, "duplicate": 2}


def test_copies_with_different_labels_are_all_left_out():
    """Nobody knows which of two contradictory labels is right: no copy is trained on."""
    rows, counts = choose_rows(examples(("fine", 1), ("odd", 1), ("odd", 0), ("odd", 1)))
    assert rows == [0]
    assert counts == {"also_in_evaluation": 0, "contradictory": 3, "duplicate": 0}


def test_rows_to_measure_on_are_not_trained_on():
    """A training text that is also an evaluation text is left out, whatever its label there."""
    rows, counts = choose_rows(
        examples(("seen", 1), ("new", 0), ("seen ", 1)), examples(("seen", 0))
    )
    assert rows == [1]
    assert counts == {"also_in_evaluation": 2, "contradictory": 0, "duplicate": 0}


def test_a_teacher_does_not_contradict_itself():
    """With a teacher's probabilities the label column is not what is learned: copies are only
    copies.
    """
    import numpy as np

    taught = Examples(["odd", "odd"], [0, 1], {}, np.array([[0.5, 0.5], [0.49, 0.51]], np.float32))
    assert choose_rows(taught) == (
        [0],
        {"also_in_evaluation": 0, "contradictory": 0, "duplicate": 1},
    )


texts = st.sampled_from(["a", "b", " a", "c c", "c  c", "d"])


@given(st.lists(st.tuples(texts, st.integers(0, 2))), st.lists(st.tuples(texts, st.integers(0, 2))))
def test_every_row_is_kept_or_counted_and_no_text_is_left_twice(train, measured):
    """Whatever the rows: kept and counted make all, kept texts are distinct, of one label, and not
    measured on.
    """
    rows, counts = choose_rows(examples(*train), examples(*measured))
    assert len(rows) + sum(counts.values()) == len(train)
    assert rows == sorted(rows)
    kept = [plain(train[row][0]) for row in rows]
    assert len(set(kept)) == len(kept)
    assert not set(kept) & {plain(text) for text, _ in measured}
    for text in kept:
        assert len({label for other, label in train if plain(other) == text}) == 1
