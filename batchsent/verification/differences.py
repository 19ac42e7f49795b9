"""The first difference between an input and its output: what, where, both sides."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from batchsent.errors import InputError, UsageError
from batchsent.text import printable

SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Location:
    """Where a difference is, as far as it has such a place."""

    row: int | None = None  # counted from 1
    line: int | None = None  # of the input, counted from 1
    column: str | None = None

    def __str__(self) -> str:
        parts = [] if self.row is None else [f"row {self.row:,}"]
        parts += [] if self.line is None else [f"line {self.line:,}"]
        return ", ".join(
            parts + ([] if self.column is None else [f"column {printable(self.column)}"])
        )


class Difference(Exception):
    """The first thing in an output that is not as the input has it, or as it should be."""

    def __init__(
        self, what: str, location: Location | None = None, given: Any = None, found: Any = None
    ) -> None:
        self.what, self.location, self.given, self.found = (
            what,
            location or Location(),
            given,
            found,
        )
        super().__init__(f"{self.location}: {what}" if str(self.location) else what)


def differs(location: Location, given: Any, found: Any) -> Difference:
    """Return the difference of two values."""
    return Difference(
        f"{shown(given)} in the input, {shown(found)} in the output",
        location,
        shown(given),
        shown(found),
    )


def shown(value: Any) -> str:
    """Return a value for a message: printable and not too long."""
    if value is None:
        return "null"
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    text = printable(value)
    return f"'{text}'" if len(text) <= SHOWN_CHARACTERS else f"'{text[:SHOWN_CHARACTERS]}…'"


@contextlib.contextmanager
def as_difference() -> Iterator[None]:
    """Turn what cannot be read of an output, which is known to be there, into a Difference."""
    try:
        yield
    except InputError as error:
        raise Difference(f"the output is damaged: {error.message}") from error
    except UsageError as error:
        raise Difference(error.message) from error
