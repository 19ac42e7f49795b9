"""CSV bytes -> records: where each record and field begins and ends, exactly.

Two functions give the same result at different speeds. The fast one finds every quote, delimiter
and line end of a block with numpy, and takes the records whose quoting follows RFC 4180. At the
first byte that does not (a quote inside an unquoted field, text after a closing quote, an escape
character) the exact one takes over, field by field, to the end of the block. Both find the records
and fields that Python's csv module finds (tests/test_records.py compares them), and their offsets,
which that module does not give.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from batchsent.errors import InputError
from batchsent.formats.records import Dialect, Offsets, Problem, Records

# Small enough to be held several times over, large enough that numpy's cost a call vanishes.
BLOCK_BYTES = 4 << 20

LF, CR = 10, 13


class ByteStream(Protocol):
    """What the scanner reads from."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""


R_co = TypeVar("R_co", bound=Records, covariant=True)
R = TypeVar("R", bound=Records)


class Split(Protocol[R_co]):
    """How the complete records of a piece are found."""

    def __call__(
        self, data: bytes, /, *, at_end: bool, first_byte: int = 0, first_line: int = 1
    ) -> R_co:
        """Return the complete records of a piece that begins where a record does.

        At the end of the file, all of it.
        """


def scan(
    stream: ByteStream,
    dialect: Dialect,
    *,
    buffered: bytes = b"",
    first_byte: int = 0,
    first_line: int = 1,
    max_record_bytes: int,
    block_bytes: int = BLOCK_BYTES,
    name: str = "input",
) -> Iterator[Records]:
    """Yield the records of a CSV as `scan_records` does.

    Blank lines are not records (the csv module's rule).
    """
    return scan_records(
        stream,
        partial(split, dialect=dialect),
        buffered=buffered,
        first_byte=first_byte,
        first_line=first_line,
        max_record_bytes=max_record_bytes,
        block_bytes=block_bytes,
        name=name,
    )


def scan_records(
    stream: ByteStream,
    find: Split[R],
    *,
    buffered: bytes = b"",
    first_byte: int = 0,
    first_line: int = 1,
    max_record_bytes: int,
    block_bytes: int = BLOCK_BYTES,
    name: str = "input",
) -> Iterator[R]:
    """Yield the records of a stream, as `find` finds them, in blocks of about `block_bytes`.

    `buffered` was read from it already. `first_byte` and `first_line` are those of `buffered`.
    Raises InputError for a record longer than `max_record_bytes`, holding little more than that.
    """
    data, at_end = buffered, False
    while not at_end:
        # An unfinished record doubles what is read next, so that rescanning it stays linear.
        most = max_record_bytes + min(block_bytes, max_record_bytes)
        block = stream.read(min(max(block_bytes, len(data)), most - len(data)))
        at_end = not block
        data = data + block if data else block
        records = find(data, at_end=at_end, first_byte=first_byte, first_line=first_line)
        done = records.stop
        if done or at_end:
            yield records
        first_line = records.line(done)
        first_byte += done
        data = data[done:]
        if len(data) > max_record_bytes:
            raise _record_too_long(
                find(data, at_end=True, first_line=first_line), max_record_bytes, name
            )


def _record_too_long(records: Records, limit: int, name: str) -> InputError:
    start = int(records.starts[0]) if len(records) else 0
    what, offset = f"a record longer than {limit:,} bytes", start
    if 0 in records.problems:
        what, offset = (
            f"a quote opened on this line is not closed within {limit:,} bytes",
            records.problems[0].offset,
        )
    line = records.line(offset)
    return InputError(
        f"{name}, line {line}: {what}",
        hint="correct that line, or raise --max-field-bytes if a text really is that long",
        line=line,
    )


@dataclass(frozen=True)
class _Found:
    """Complete records of a piece, as arrays."""

    starts: Offsets  # (records,)
    ends: Offsets  # (records,)
    line_ends: Offsets  # (records,)
    field_counts: Offsets  # (records,)
    field_ends: Offsets  # (fields,)
    stop: int  # after the last complete record


def split(
    data: bytes, dialect: Dialect, *, at_end: bool, first_byte: int = 0, first_line: int = 1
) -> Records:
    """Return the complete records of a piece that begins where a record does.

    At the end of the file, all of it.
    """
    found, is_rfc4180, problems = [], False, {}
    if dialect.escapechar is None and not dialect.skip_initial_space:
        span, is_rfc4180 = _split_rfc4180(data, dialect, at_end)
        found.append(span)
    if not is_rfc4180:
        done, before = (found[0].stop, len(found[0].starts)) if found else (0, 0)
        span, odd = _split_like_csv_module(data, done, dialect, at_end)
        found.append(span)
        problems = {before + n: problem for n, problem in odd.items()}
    joined = [
        np.concatenate([getattr(span, name) for span in found])
        for name in ("starts", "ends", "line_ends", "field_ends")
    ]
    field_counts = np.concatenate([span.field_counts for span in found])
    return Records(
        data=data,
        begin=0,
        stop=len(data) if at_end else found[-1].stop,
        starts=joined[0],
        ends=joined[1],
        line_ends=joined[2],
        field_offsets=np.concatenate([[0], np.cumsum(field_counts)]).astype(np.int64),
        field_ends=joined[3],
        problems=problems,
        first_byte=first_byte,
        first_line=first_line,
    )


def _split_rfc4180(data: bytes, dialect: Dialect, at_end: bool) -> tuple[_Found, bool]:
    """Find records by the parity of the quotes before each byte.

    Stop where the quoting does not follow RFC 4180. Returns the records before that, and whether
    they are all there are.
    """
    quote, delimiter = dialect.quotechar[0], dialect.delimiter[0]
    array = np.frombuffer(data, np.uint8)
    special = (array == delimiter) | (array == quote) | (array == LF) | (array == CR)
    at = np.flatnonzero(special)
    kind = array[at]
    valid_until = len(data)
    if (kind == quote).any():
        outside, valid_until = _outside_quotes(at, kind == quote, len(data), at_end)
        at, kind = at[outside], kind[outside]
    is_rfc4180 = valid_until == len(data)
    is_end = _is_record_end(array, at, kind, at_end) & (at < valid_until)
    if at_end and is_rfc4180:
        stop = int(at[is_end.nonzero()[0][-1]]) + 1 if is_end.any() else 0
        if stop < len(data):  # no line end after the last record: the end of the file is one
            at, kind = np.append(at, len(data)), np.append(kind, np.uint8(LF))
            is_end = np.append(is_end, True)
    is_line_feed = kind[is_end] == LF
    return _collect(array, at, kind == delimiter, is_end, is_line_feed), is_rfc4180


# Example: a , " b , " " c " LF      the record has the fields  a  and  b,"c
#  at        1 2   4 5 6   8 9       positions of special bytes
#  is_quote  0 1   0 1 1   1 0
#  odd       0 1   1 0 1   0 0       an odd number of quotes up to here: inside a quoted field
#  outside   1 0   0 0 0   0 1       the delimiter and the line end that count
# The quotes at 2 and 6 are opening ones, since they are odd, those at 5 and 8 closing ones.
def _outside_quotes(
    at: Offsets, is_quote: NDArray[np.bool_], size: int, at_end: bool
) -> tuple[NDArray[np.bool_], int]:
    """Tell which special bytes are outside of quoted fields, and up to where that is certain.

    That is `size` unless a quote stands where RFC 4180 has none.
    """
    odd = (np.cumsum(is_quote) & 1).astype(bool)
    touches_next = np.append(at[1:] - at[:-1] == 1, at[-1] + 1 == size)
    touches_last = np.append(at[0] == 0, touches_next[:-1])
    # An opening quote stands after a delimiter, a line end or (a doubled quote) a closing one; a
    # closing one stands before a delimiter, a line end or another quote.
    wrong = is_quote & ~np.where(odd, touches_last, touches_next)
    if at_end and odd[-1]:
        wrong[np.flatnonzero(is_quote)[-1]] = True  # the file ends inside quotes
    valid_until = int(at[wrong.argmax()]) if wrong.any() else size
    outside: NDArray[np.bool_] = ~(odd | is_quote)
    return outside, valid_until


def _is_record_end(
    array: NDArray[np.uint8], at: Offsets, kind: NDArray[np.uint8], at_end: bool
) -> NDArray[np.bool_]:
    """Tell which special bytes end a record: LF, and a CR that no LF follows."""
    is_end: NDArray[np.bool_] = (kind == LF) | (kind == CR)
    crs = np.flatnonzero(kind == CR)
    if len(crs):
        following = at[crs] + 1
        inside = following < len(array)
        is_end[crs[inside]] = array[following[inside]] != LF
        # A CR that is the last byte of a piece may have its LF in the next one.
        is_end[crs[~inside]] = at_end
    return is_end


# Example: a , b CR LF CR d LF      a record, a blank line, a record
#  at        1   3  4  5    7       positions of special bytes
#  is_end    0   0  1  1    1       the CR before an LF is no end of its own
#  ends          3     5    7       of records: before the CR of a CR LF
#  line_ends     5     6    8       after the LF or the lone CR
#  starts        0     5    6       the second record starts where it ends: it is a blank line
def _collect(
    array: NDArray[np.uint8],
    at: Offsets,
    is_delimiter: NDArray[np.bool_],
    is_end: NDArray[np.bool_],
    is_line_feed: NDArray[np.bool_],
) -> _Found:
    """Return the records between some special bytes; blank lines are left out.

    `is_line_feed` says of each record end whether it is an LF: a CR before it belongs to it.
    """
    end_positions = at[is_end]
    line_ends = np.minimum(end_positions + 1, len(array))
    ends = end_positions.copy()
    after_cr = is_line_feed & (end_positions > 0)
    after_cr[after_cr] = array[end_positions[after_cr] - 1] == CR
    ends[after_cr] -= 1
    starts = np.append(0, line_ends[:-1]) if len(line_ends) else line_ends
    stop = int(line_ends[-1]) if len(line_ends) else 0
    # Fields end at every delimiter and at every record end, before the CR of a CR LF.
    is_field_end = (is_delimiter & (at < stop)) | is_end
    field_ends = at[is_field_end]
    last_fields = np.flatnonzero(is_end[is_field_end])
    field_ends[last_fields] = ends
    field_counts = np.diff(last_fields, prepend=-1)
    blank = ends == starts
    if blank.any():
        keep = np.ones(len(field_ends), bool)
        keep[last_fields[blank]] = False  # a blank line is one empty field
        field_ends, full = field_ends[keep], ~blank
        starts, ends, line_ends = starts[full], ends[full], line_ends[full]
        field_counts = field_counts[full]
    return _Found(starts, ends, line_ends, field_counts, field_ends, stop)


def _split_like_csv_module(
    data: bytes, start: int, dialect: Dialect, at_end: bool
) -> tuple[_Found, dict[int, Problem]]:
    """Find records field by field, from `start` on, as the csv module's state machine does."""
    starts: list[int] = []
    ends: list[int] = []
    line_ends: list[int] = []
    field_counts: list[int] = []
    field_ends: list[int] = []
    problems: dict[int, Problem] = {}
    scanner = _Scanner(data, dialect, at_end)
    position = start
    while position < len(data):
        fields, following, problem = scanner.find_record(position)
        if following is None:
            break
        if fields[-1] > position:  # no blank line
            if problem:
                problems[len(starts)] = problem
            starts.append(position)
            ends.append(fields[-1])
            line_ends.append(following)
            field_counts.append(len(fields))
            field_ends += fields
        position = following
    found = _Found(
        starts=np.array(starts, np.int64),
        ends=np.array(ends, np.int64),
        line_ends=np.array(line_ends, np.int64),
        field_counts=np.array(field_counts, np.int64),
        field_ends=np.array(field_ends, np.int64),
        stop=position,
    )
    return found, problems


class _Scanner:
    """Goes through a piece field by field; bound once, since it is called for every field."""

    def __init__(self, data: bytes, dialect: Dialect, at_end: bool) -> None:
        self._data, self._size, self._at_end = data, len(data), at_end
        self._quoted, self._plain = dialect.quoted_field.match, dialect.plain_field.match
        self._delimiter, self._escapechar = dialect.delimiter[0], dialect.escapechar

    def find_record(self, start: int) -> tuple[list[int], int | None, Problem | None]:
        """Return where the fields of a record end, where the next one starts, and what is wrong.

        The next record is None where this one is not finished in the piece.
        """
        data, size = self._data, self._size
        ends: list[int] = []
        problem: Problem | None = None
        position = start
        while True:
            end, wrong = self.find_field_end(position)
            if end is None:
                return ends, None, problem
            problem = problem or wrong
            ends.append(end)
            if end == size or data[end] != self._delimiter:
                break
            position = end + 1
        following = end
        if data[following : following + 1] == b"\r":
            following += 1
        # A record that ends with the piece may be longer, or have an LF after its CR.
        if following == size and not self._at_end:
            return ends, None, problem
        if data[following : following + 1] == b"\n":
            following += 1
        return ends, following, problem

    def find_field_end(self, start: int) -> tuple[int | None, Problem | None]:
        """Return where a field ends and what is wrong with it.

        The end is None where it is not in the piece.
        """
        end, problem = self._size, None
        match = self._quoted(self._data, start)
        if match is None:
            plain = self._plain(self._data, start)
            assert plain is not None  # it matches the empty field
            end = plain.end()
        elif not match[2]:  # nothing but the end of the file ends a field whose quote stays open
            if not self._at_end:
                return None, None
            problem = Problem("a quote opened on this line is never closed", start)
        else:
            end = match.end()
            if match[3] and (b"\n" in match[1] or b"\r" in match[1]):
                problem = Problem(
                    "a quoted field begins on this line and ends in the middle of a later one (a "
                    "missing quote?)",
                    start,
                )
        if end == self._size - 1 and self._data[end:] == self._escapechar:
            if not self._at_end:
                return None, None  # what it escapes is in the next piece
            problem = problem or Problem("an escape character is the last of the file", start)
            end = self._size
        return end, problem
