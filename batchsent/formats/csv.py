"""CSV and TSV, read: which bytes are rows, which rows can be taken, which field is the text."""

import codecs
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from batchsent.chunk import Chunk, Reject
from batchsent.errors import InputError, UsageError
from batchsent.formats.csv_chunks import CsvRows, cut, limited
from batchsent.formats.dialects import find_dialect, find_encoding
from batchsent.formats.reading import (
    MAX_COLUMNS,
    ReadOptions,
    facts_of,
    find_column,
    find_text_column,
)
from batchsent.formats.records import Records
from batchsent.formats.splitting import scan
from batchsent.formats.streams import WIDE, InputStream, Transcoded


class CsvSource:
    """A CSV input whose header has been read."""

    format = "csv"

    def __init__(
        self,
        stream: InputStream,
        head: bytes,
        options: ReadOptions,
        gold_column: str | None,
        *,
        tabs: bool,
    ) -> None:
        self._stream, self._options = stream, options
        self.name = stream.name
        self.encoding = find_encoding(head, options.encoding, self.name)
        reader: Any = stream
        if self.encoding in WIDE:
            reader = Transcoded(stream, self.encoding, head)
            head = reader.read(64 << 10)
        preamble, head = self._take_preamble(head, reader)
        self.dialect = find_dialect(head, options, self.encoding, tabs=tabs)
        if self.dialect.delimiter == b"\t":
            self.format = "tsv"
        self._runs = scan(
            reader,
            self.dialect,
            buffered=head,
            first_byte=len(preamble),
            first_line=1 + options.skip_lines,
            max_record_bytes=4 * max(options.max_field_bytes, 16 << 10),
            name=self.name,
        )
        first = next(self._runs)
        while not len(first) and (run := next(self._runs, None)) is not None:
            preamble += first.data[first.begin : first.stop]
            first = run
        if not len(first):
            raise InputError(
                f"{self.name}: there are only blank lines",
                hint="a header line, at least, is expected",
            )
        width = int(first.field_counts[0])
        if width > MAX_COLUMNS:
            raise InputError(
                f"{self.name}, line {first.line(int(first.starts[0]))}: {width:,} columns, more "
                f"than {MAX_COLUMNS:,}"
            )
        if problem := first.problems.get(0):
            raise InputError(
                f"{self.name}, line {first.line(problem.offset)}: {problem.what}",
                hint=self._hint(b""),
            )
        top = first.slice(0, 1)
        if options.no_header:
            self.header, self._first = None, first
            self.columns = [f"column_{n + 1}" for n in range(width)]
            if options.text_column_index is None and options.text_column is None and width > 1:
                raise UsageError(
                    f"{self.name}: without a header the text column goes by its position",
                    hint=f"add --text-column-index N, with N from 1 to {width}",
                )
        else:
            self.header, self._first = top, first.slice(1, len(first))
            self.columns = [self._value(top.fields(n)[0]) for n in range(width)]
        self.preamble = preamble
        only = options.no_header and width == 1 and options.text_column is None
        self.text_index = 0 if only else find_text_column(self.columns, options, self.name)
        self._gold = (
            None
            if gold_column is None
            else find_column(self.columns, gold_column, "--gold", self.name)
        )
        self.schema = pa.schema([(column, pa.string()) for column in self.columns])
        self._invalid_rows = 0
        self._trailing_rows = 0

    def _take_preamble(self, head: bytes, reader: Any) -> tuple[bytes, bytes]:
        """Return the byte order mark with the lines to skip, and what is behind them."""
        mark = codecs.BOM_UTF8 if head.startswith(codecs.BOM_UTF8) else b""
        preamble, rest = mark, head[len(mark) :]
        for line in range(self._options.skip_lines):
            while b"\n" not in rest and (more := reader.read(64 << 10)) and len(rest) < 16 << 20:
                rest += more
            end = rest.find(b"\n") + 1
            if not end:
                raise UsageError(
                    f"{self.name} has {line} whole line(s) only", hint="lower --skip-lines"
                )
            preamble, rest = preamble + rest[:end], rest[end:]
        return preamble, rest

    def _value(self, raw: bytes) -> str:
        """Return a field as text; invalid bytes become U+FFFD."""
        return self.dialect.unquote(raw).decode(
            "utf-8" if self.encoding in WIDE else self.encoding, "replace"
        )

    def chunks(self) -> Iterator[Chunk]:
        """Yield the rows once, in order.

        Raises InputError for a bad row unless they are to be left out.
        """
        start = 0
        for group in cut(
            limited(self._sorted_out(), self._options.limit), self._options.chunk_rows
        ):
            runs = tuple(piece for piece in group if isinstance(piece, Records))
            chunk = Chunk(
                start_row=start,
                texts=[text for run in runs for text in self._texts(run)],
                carried=CsvRows(runs, self.dialect, self._value),
                gold=None
                if self._gold is None
                else [self._value(raw) for run in runs for raw in run.fields(self._gold)],
                rejected=tuple(piece for piece in group if isinstance(piece, Reject)),
            )
            start += chunk.rows
            yield chunk

    def check(self, utf8_columns: list[str]) -> tuple[int | None, int]:
        """Read the whole input for its structure alone; return good and bad rows.

        In CSV bytes are bytes, so `utf8_columns` does not matter. Raises InputError for the first
        bad row unless they are to be left out. Some 300 MB/s, before a model that takes hours.
        """
        good = bad = 0
        for piece in limited(self._sorted_out(), self._options.limit):
            if isinstance(piece, Reject):
                bad += 1
            else:
                good += len(piece)
        while self._stream.read(1 << 20):  # behind a limit, for the hash
            pass
        return good, bad

    def _runs_with_first(self) -> Iterator[Records]:
        yield self._first
        yield from self._runs

    def _sorted_out(self) -> Iterator[Records | Reject]:
        """Yield runs of good rows and the bad rows between them, in file order."""
        for run in self._runs_with_first():
            first = 0
            for number, reason, offset, hint in self._bad_rows(run):
                if self._options.bad_rows == "error":
                    line = run.line(offset)
                    raise InputError(f"{self.name}, line {line}: {reason}", hint=hint, line=line)
                if first < number:
                    yield run.slice(first, number)
                begin, end = int(run.starts[number]), int(run.ends[number])
                yield Reject(run.line(begin), run.first_byte + begin, reason, run.data[begin:end])
                first = number + 1
            if first == 0 or first < len(run):
                yield run.slice(first, len(run))

    def _bad_rows(self, run: Records) -> Iterator[tuple[int, str, int, str]]:
        """Yield number, reason, byte offset and hint of every row that cannot be taken."""
        width, longest = len(self.columns), self._options.max_field_bytes
        bad = run.field_counts != width
        bad[list(run.problems)] = True
        bad |= run.ends - run.starts > longest  # only such a record can hold such a field
        if self._options.encoding_errors == "strict":
            bad[
                [
                    n
                    for n in range(len(run))
                    if not self._decodes(run.data[run.starts[n] : run.ends[n]])
                ]
            ] = True
        for number in np.flatnonzero(bad).tolist():
            offset = int(run.starts[number])
            raw = run.data[offset : int(run.ends[number])]
            one = run.slice(number, number + 1)
            found = int(one.field_counts[0])
            if problem := run.problems.get(number):
                yield number, problem.what, problem.offset, self._hint(raw)
            elif found != width:
                yield (
                    number,
                    f"{found} field(s) where {width} are expected",
                    offset,
                    self._hint(raw),
                )
            elif (
                size := max(
                    int(b - a)
                    for a, b in (map(int, np.concatenate(one.bounds(n))) for n in range(width))
                )
            ) > longest:
                yield (
                    number,
                    f"a field of {size:,} bytes, more than {longest:,}",
                    offset,
                    self._hint(raw, "--max-field-bytes"),
                )
            elif not self._decodes(raw):
                yield (
                    number,
                    f"bytes that are not valid {self.encoding}",
                    offset,
                    self._hint(raw, "--encoding"),
                )

    def _decodes(self, raw: bytes) -> bool:
        try:
            raw.decode("utf-8" if self.encoding in WIDE else self.encoding)
        except UnicodeDecodeError:
            return False
        return True

    def _hint(self, raw: bytes, flag: str | None = None) -> str:
        quote = self.dialect.quotechar
        if flag is not None:
            try_first = f"raise or change {flag}"
        elif b"\\" + quote in raw and self.dialect.escapechar is None:
            try_first = "if quotes are escaped with a backslash, add --escapechar '\\'"
        elif self.dialect.delimiter + b" " + quote in raw and not self.dialect.skip_initial_space:
            try_first = "if fields are quoted behind a space, add --skip-initial-space"
        else:
            try_first = "mend the line"
        return f"{try_first}, or add --bad-rows reject to leave such rows out"

    def _texts(self, run: Records) -> list[str | None]:
        """Decode the text column; the file keeps its bytes, whatever they are."""
        quote, encoding = (
            self.dialect.quotechar,
            "utf-8" if self.encoding in WIDE else self.encoding,
        )
        values = run.fields(self.text_index)
        if self.dialect.escapechar is None and not self.dialect.skip_initial_space:
            for n, raw in enumerate(values):
                if raw[:1] != quote:
                    continue
                if raw[-1:] == quote and raw.count(quote) == 2:
                    values[n] = raw[1:-1]
                else:
                    values[n] = self._unquote(raw)
        else:
            values = [self._unquote(raw) for raw in values]
        try:
            # One call for all of them: a million short texts take 0.1 s in place of 0.4.
            together: list[str | None] = list(b"\0".join(values).decode(encoding).split("\0"))
            if len(together) == len(values):  # no text has a NUL in it
                return together
        except UnicodeDecodeError:
            pass
        return [self._decode(value, encoding) for value in values]

    def _unquote(self, raw: bytes) -> bytes:
        # Text behind a closing quote is taken as csv takes it, but it may be a mistake.
        if raw[:1] == self.dialect.quotechar != raw[-1:]:
            self._trailing_rows += 1
        return self.dialect.unquote(raw)

    def _decode(self, value: bytes, encoding: str) -> str:
        try:
            return value.decode(encoding)
        except UnicodeDecodeError:
            self._invalid_rows += 1
            return value.decode(encoding, "replace")

    def facts(self) -> dict[str, Any]:
        """Return the input section of the summary."""
        dialect, stream = self.dialect, self._stream
        return facts_of(
            self,
            self.columns[self.text_index],
            self._gold,
            size=stream.size,
            sha256=stream.sha256,
            compression=stream.compression,
            dialect={
                "delimiter": dialect.delimiter.decode("latin-1"),
                "quotechar": dialect.quotechar.decode("latin-1"),
                "escapechar": None
                if dialect.escapechar is None
                else dialect.escapechar.decode("latin-1"),
                "skip_initial_space": dialect.skip_initial_space,
                "encoding": self.encoding,
                "header": self.header is not None,
            },
        )

    def warnings(self) -> list[dict[str, str]]:
        """Return what a person should know of what was read."""
        found = []
        if self._invalid_rows:
            found.append(
                {
                    "code": "invalid_encoding",
                    "message": f"{self._invalid_rows:,} text(s) hold bytes that are not valid "
                    f"{self.encoding}; the model read U+FFFD in their place, the output keeps the "
                    "bytes",
                    "hint": "give the right --encoding, or --encoding-errors strict to treat them "
                    "as bad rows",
                }
            )
        if self._trailing_rows:
            found.append(
                {
                    "code": "text_after_quote",
                    "message": f"{self._trailing_rows:,} text(s) go on behind their closing quote",
                    "hint": "look at how the file quotes its fields",
                }
            )
        return found

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
