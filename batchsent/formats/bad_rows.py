"""Rows of a text file that cannot be taken: they end the reading, or are left out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from batchsent.chunk import Reject
from batchsent.errors import InputError
from batchsent.formats.reading import ReadOptions
from batchsent.formats.records import Records

R = TypeVar("R", bound=Records)


@dataclass(frozen=True)
class BadRow:
    """A record that cannot be taken."""

    number: int  # in its run
    reason: str
    offset: int  # of the byte to look at, in the run's data
    hint: str


def sort_out(
    run: R, bad_rows: Iterable[BadRow], options: ReadOptions, name: str
) -> Iterator[R | Reject]:
    """Yield the good rows of a run and the `bad_rows` between them, in file order.

    Raises InputError for the first bad row of the input `name` unless they are to be left out.
    """
    first = 0
    for bad in bad_rows:
        if options.bad_rows == "error":
            line = run.line(bad.offset)
            raise InputError(f"{name}, line {line}: {bad.reason}", hint=bad.hint, line=line)
        if first < bad.number:
            yield run.slice(first, bad.number)
        begin, end = int(run.starts[bad.number]), int(run.ends[bad.number])
        raw = run.data[begin:end]
        yield Reject(run.line(begin), run.first_byte + begin, bad.reason, raw)
        first = bad.number + 1
    if first == 0 or first < len(run):
        yield run.slice(first, len(run))


def or_leave_out(first: str) -> str:
    """Return the hint for a bad row: what to try first, or to leave such rows out."""
    return f"{first}, or add --bad-rows reject to leave such rows out"
