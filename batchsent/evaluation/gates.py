"""Conditions on figures, such as `psi>0.2` and `accuracy=0.9`."""

import difflib
import operator
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from batchsent.errors import UsageError
from batchsent.text import printable

CONDITION = re.compile(
    r"\s*([a-z][a-z0-9_]*)\s*(>=|<=|>|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*(%?)\s*"
)
FLOOR = re.compile(r"\s*([a-z][a-z0-9_]*)\s*=\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*(%?)\s*")
COMPARISONS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}

# Figures of an evaluation of which more is better, and their keys in it.
FLOORS: dict[str, tuple[str, ...]] = {
    "accuracy": ("accuracy",),
    "balanced_accuracy": ("balanced_accuracy",),
    "mcc": ("mcc",),
    "macro_precision": ("macro", "precision"),
    "macro_recall": ("macro", "recall"),
    "macro_f1": ("macro", "f1"),
    "roc_auc": ("roc_auc",),
    "average_precision": ("average_precision",),
}

# The figure of a run that needs no gold labels: the mean calibrated score.
EXPECTED = "expected_accuracy"


def failures(
    values: Mapping[str, float | None], expressions: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the conditions that hold: expression, name, value, limit and message of each.

    A condition is a name, one of ``> >= < <=`` and a number, which may be a percentage. A condition
    on a figure that could not be computed holds too: a gate in a cron job must not pass because its
    input is missing.

    Raises UsageError for a condition that cannot be read or names no figure of `values`.
    """
    conditions = [_condition(text, values) for text in as_list(expressions)]
    found = []
    for name, sign, limit, expression in conditions:
        value = values[name]
        if value is None:
            message = f"{name} could not be computed, which counts as {expression}"
        elif COMPARISONS[sign](value, limit):
            message = f"{name} is {value:.6g}: {expression}"
        else:
            continue
        found.append(_failure(expression, name, value, limit, message))
    return found


def failed_minimums(
    evaluation: Mapping[str, Any] | None,
    expressions: Sequence[str],
    predictions: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Return the minimums, such as ``accuracy=0.9``, that a run does not reach.

    Figures are those of its `evaluation`, and EXPECTED of its `predictions`. A figure that could
    not be computed reaches no minimum. Raises UsageError for a minimum that cannot be read or names
    no figure of FLOORS and not EXPECTED.
    """
    minimums = [_minimum(text) for text in as_list(expressions)]
    found = []
    for name, limit, expression in minimums:
        value: Any = evaluation
        missing = "there are no gold labels"
        if name == EXPECTED:
            # Summaries of older versions have no such figure.
            value = (predictions or {}).get(EXPECTED)
            missing = "there are no calibrated scores"
        else:
            for key in FLOORS[name]:
                if value is not None:
                    value = value[key]
        if value is None:
            message = f"{name} could not be computed: {missing}"
        elif value < limit:
            message = f"{name} is {value:.6g}, below {limit:g}"
        else:
            continue
        found.append(_failure(expression, name, value, limit, message))
    return found


def needs_gold(expressions: Sequence[str]) -> bool:
    """Tell whether some of these minimums are of an evaluation. Raises UsageError."""
    return any(_minimum(text)[0] != EXPECTED for text in as_list(expressions))


def needs_temperature(expressions: Sequence[str]) -> bool:
    """Tell whether some of these minimums are of calibrated scores. Raises UsageError."""
    return any(_minimum(text)[0] == EXPECTED for text in as_list(expressions))


def _failure(
    expression: str, name: str, value: float | None, limit: float, message: str
) -> dict[str, Any]:
    return {
        "expression": expression,
        "name": name,
        "value": value,
        "limit": limit,
        "message": message,
    }


def as_list(expressions: Sequence[str]) -> Sequence[str]:
    """Return conditions as a sequence; a single string is one condition."""
    return [expressions] if isinstance(expressions, str) else expressions


def check_score(option: str, score: float | None) -> None:
    """Raise UsageError for a threshold that no score can have, such as 70 for 70 %."""
    if score is not None and not 0 <= score <= 1:
        raise UsageError(
            f"{option} {score:g} is not a score", hint="a score lies between 0 and 1, such as 0.7"
        )


def _condition(text: str, values: Mapping[str, Any]) -> tuple[str, str, float, str]:
    match = CONDITION.fullmatch(text)
    if match is None:
        raise UsageError(
            f"cannot read the condition '{printable(text)}'",
            hint="write a figure, one of > >= < <= and a number, such as psi>0.2",
        )
    name, sign, number, percent = match.groups()
    _known(name, values)
    return name, sign, _number(number, percent), f"{name}{sign}{number}{percent}"


def _minimum(text: str) -> tuple[str, float, str]:
    match = FLOOR.fullmatch(text)
    if match is None:
        raise UsageError(
            f"cannot read the minimum '{printable(text)}'",
            hint="write a figure, = and a number, such as accuracy=0.9",
        )
    name, number, percent = match.groups()
    _known(name, [*FLOORS, EXPECTED])
    return name, _number(number, percent), f"{name}={number}{percent}"


def _number(number: str, percent: str) -> float:
    value = float(number)
    return value / 100 if percent else value


def _known(name: str, values: Collection[str]) -> None:
    if name not in values:
        near = difflib.get_close_matches(name, values, n=1)
        hint = f"the figures are: {', '.join(sorted(values))}"
        if near:
            hint = f"did you mean {near[0]}?"
        raise UsageError(f"there is no figure '{name}'", hint=hint)
