"""Records of a CSV: where each record and field begins and ends, and how a field is unquoted.

Decodes and rewrites nothing.
"""

import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

Offsets = NDArray[np.int64]


@dataclass(frozen=True)
class Dialect:
    """How fields and records are separated; each character is one byte."""

    delimiter: bytes = b","
    quotechar: bytes = b'"'
    escapechar: bytes | None = None
    skip_initial_space: bool = False

    @cached_property
    def quoted_field(self) -> re.Pattern[bytes]:
        """A field that begins with a quote: body, closing quote if any, text after it."""
        quote, stop = re.escape(self.quotechar), self._stop
        if self.escapechar is None:
            body, tail = b"(?:[^%b]|%b%b)*+" % (quote, quote, quote), b"[^%b]*+" % stop
        else:
            escape = re.escape(self.escapechar)
            body = b"(?:[^%b%b]|%b%b|%b.)*+" % (quote, escape, quote, quote, escape)
            # Right after the closing quote csv takes an escape character as it stands.
            tail = b"(?:[^%b](?:[^%b%b]|%b.)*+)?+" % (stop, stop, escape, escape)
        space = b" *+" if self.skip_initial_space else b""
        return re.compile(b"%b%b(%b)(%b?)(%b)" % (space, quote, body, quote, tail), re.DOTALL)

    @cached_property
    def plain_field(self) -> re.Pattern[bytes]:
        """A field without quoting, up to the delimiter or line end."""
        if self.escapechar is None:
            return re.compile(b"[^%b]*+" % self._stop)
        escape = re.escape(self.escapechar)
        return re.compile(b"(?:[^%b%b]|%b.)*+" % (self._stop, escape, escape), re.DOTALL)

    @property
    def _stop(self) -> bytes:
        return re.escape(self.delimiter) + rb"\r\n"

    def unquote(self, raw: bytes) -> bytes:
        """Return the value of a raw field, as Python's csv module reads it."""
        quote = self.quotechar
        if self.skip_initial_space:
            raw = raw.lstrip(b" ")
        if not raw.startswith(quote):
            return self._unescape(raw)
        if raw.endswith(quote) and len(raw) > 1 and self.escapechar is None:
            inner, pair = raw[1:-1], quote * 2
            # Where quotes come in pairs only, the field does not end within: `"a ""b"" c"`.
            if quote not in inner.replace(pair, b""):
                return inner.replace(pair, quote)
        match = self.quoted_field.match(raw)
        assert match is not None  # it begins with a quote
        body, _, tail = match.groups()
        if self.escapechar is None:
            return body.replace(quote * 2, quote) + tail
        pair = b"%b(%b)|%b(.)" % ((re.escape(quote),) * 2 + (re.escape(self.escapechar),))
        return re.sub(pair, rb"\1\2", body, flags=re.DOTALL) + tail[:1] + self._unescape(tail[1:])

    def _unescape(self, raw: bytes) -> bytes:
        if self.escapechar is None:
            return raw
        return re.sub(re.escape(self.escapechar) + b"(.)", rb"\1", raw, flags=re.DOTALL)

    def quote(self, value: bytes) -> bytes:
        """Return `value` as a raw field, quoted where it must be."""
        special = self.delimiter + self.quotechar + b"\r\n" + (self.escapechar or b"")
        if not any(c in special for c in value):
            return value
        if self.escapechar is not None:
            value = value.replace(self.escapechar, self.escapechar * 2)
        return self.quotechar + value.replace(self.quotechar, self.quotechar * 2) + self.quotechar


@dataclass(frozen=True)
class Problem:
    """What is wrong with the quoting of a record."""

    what: str
    offset: int  # of the quote that began it


@dataclass(frozen=True)
class Records:
    """A run of records within one piece of the file.

    All offsets count from the first byte of `data`.
    """

    data: bytes
    begin: int  # where the run begins: blank lines before the first record belong to it
    # where it stops, line end included; the next run begins there, so nothing is lost between runs
    stop: int
    starts: Offsets  # (records,) first byte
    ends: Offsets  # (records,) after the last byte, line end excluded
    line_ends: Offsets  # (records,) after the line end
    field_offsets: Offsets  # (records + 1,) into field_ends
    field_ends: Offsets  # (fields of the whole piece,) after the last byte of each field
    problems: dict[int, Problem] = field(default_factory=dict)  # by record number
    first_byte: int = 0  # of `data` in the decompressed file
    first_line: int = 1  # of `data` in the file, counted from 1

    def __len__(self) -> int:
        return len(self.starts)

    def slice(self, first: int, last: int) -> Self:
        """Return the records first..last-1 with the blank lines before each."""
        begin, stop = self.begin, self.stop
        if 0 < first < len(self):
            begin = int(self.line_ends[first - 1])
        elif first:
            begin = self.stop
        if last < len(self):
            stop = int(self.line_ends[last - 1]) if last else self.begin
        return replace(
            self,
            begin=begin,
            stop=stop,
            starts=self.starts[first:last],
            ends=self.ends[first:last],
            line_ends=self.line_ends[first:last],
            field_offsets=self.field_offsets[first : last + 1],
            problems={
                n - first: problem for n, problem in self.problems.items() if first <= n < last
            },
        )

    @property
    def field_counts(self) -> Offsets:
        """(records,) number of fields."""
        return np.diff(self.field_offsets)

    def bounds(self, column: int) -> tuple[Offsets, Offsets]:
        """Return where the fields of a column begin and end; every record must reach it."""
        index = self.field_offsets[:-1] + column
        # Fields are one delimiter apart, so each begins after the end of the one before it.
        starts = self.starts if column == 0 else self.field_ends[index - 1] + 1
        return starts, self.field_ends[index]

    def fields(self, column: int) -> list[bytes]:
        """Return the raw fields of a column, quotes and all."""
        data = self.data
        starts, ends = self.bounds(column)
        return [data[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]

    def line(self, offset: int) -> int:
        """Return the line that an offset lies on, counted from 1."""
        return self.first_line + count_lines(self.data[:offset])

    def with_field(self, raw: bytes, line_end: bytes) -> Self:
        """Return the records with one field more at the end of each.

        `raw` is the field with the delimiter before it; a last record without a line end gets
        `line_end`.
        """
        rows, width = len(self), len(raw)
        if not rows:
            return self
        data, at = self.data, self.begin
        pieces: list[bytes] = []
        for end in self.ends.tolist():
            pieces += (data[at:end], raw)
            at = end
        pieces.append(data[at : self.stop] if self.stop > at else line_end)
        whole = b"".join(pieces)
        # Record n moves by the n fields before it, and all by the bytes before the run.
        moved = width * np.arange(rows) - self.begin
        counts = self.field_counts
        inner = self.field_ends[self.field_offsets[0] : self.field_offsets[-1]]
        ends = self.ends + moved + width
        line_ends = self.line_ends + moved + width
        line_ends[-1] = max(line_ends[-1], ends[-1] + (len(line_end) if self.stop == at else 0))
        return replace(
            self,
            data=whole,
            begin=0,
            stop=len(whole),
            starts=self.starts + moved,
            ends=ends,
            line_ends=line_ends,
            field_offsets=np.append(0, np.cumsum(counts + 1)),
            field_ends=np.insert(inner + np.repeat(moved, counts), np.cumsum(counts), ends),
            first_byte=self.first_byte + self.begin,
            first_line=self.line(self.begin),
        )


def count_lines(data: bytes) -> int:
    """Count line ends: LF, CR LF or a lone CR."""
    if b"\r" not in data:
        return data.count(b"\n")
    return data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")
