"""Conditions that fail a run: how they are read, and when they fire."""

import pytest

from batchsent.errors import UsageError
from batchsent.evaluation import gates
from batchsent.evaluation.compare import check, compare
from batchsent.evaluation.tally import Tally
from tests.scored_rows import TWO, Rows
from tests.summaries import summary_of


@pytest.mark.parametrize(
    "expression",
    [
        "psi",
        "psi=0.2",
        "psi>>0.2",
        "psi>0.2;1",
        "psi>nan",
        "psi>inf",
        "psi>0x1",
        ">0.2",
        "0.2>psi",
        "__import__('os')",
        "",
    ],
)
def test_conditions_are_read_strictly(expression, monday):
    """Anything but a figure, a sign and a number is refused before anything is compared."""
    with pytest.raises(UsageError, match="cannot read the condition"):
        check(compare(monday, monday), [expression])


def test_a_misspelt_figure_is_refused(monday):
    """A condition on a figure that does not exist is not silently true or false."""
    with pytest.raises(UsageError, match="no figure 'acuracy_drop'") as caught:
        check(compare(monday, monday), ["acuracy_drop>0.1"])
    assert caught.value.hint == "did you mean accuracy_drop?"


@pytest.mark.parametrize(
    ("expression", "fires"),
    [
        ("x>0.5", False),
        ("x>=0.5", True),
        ("x<0.5", False),
        ("x <= 50%", True),
        ("x>-1e-3", True),
        ("x<.6", True),
    ],
)
def test_signs_of_a_condition(expression, fires):
    """The four signs mean what they say, and 50% is 0.5."""
    assert bool(gates.failures({"x": 0.5}, [expression])) is fires


def test_floors():
    """An evaluation under a floor fails, with the figure and the floor; at the floor it passes."""
    evaluation = {**summary_of(Rows())["evaluation"], "accuracy": 0.9}
    assert gates.failed_minimums(evaluation, ["accuracy=0.9", "accuracy=90%"]) == []
    (failure,) = gates.failed_minimums(evaluation, ["accuracy=0.95"])
    assert failure["message"] == "accuracy is 0.9, below 0.95"
    assert gates.failed_minimums(evaluation, ["macro_f1=0.999"])[0]["name"] == "macro_f1"
    for none in (None, Tally(TWO, Rows().tally().gold).sections()["evaluation"]):
        assert (
            "could not be computed" in gates.failed_minimums(none, ["accuracy=0.5"])[0]["message"]
        )


@pytest.mark.parametrize("expression", ["accuracy", "accuracy>0.9", "accuracy=high", "brier=0.1"])
def test_floors_are_read_strictly(expression):
    """A floor is a figure of which more is better, = and a number."""
    with pytest.raises(UsageError):
        gates.failed_minimums(None, [expression])
