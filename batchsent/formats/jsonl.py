"""JSON lines, read: one object a line, whose members are the columns."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Self

import pyarrow as pa

from batchsent.chunk import Chunk, Reject
from batchsent.errors import InputError, UsageError
from batchsent.formats.json_members import KINDS
from batchsent.formats.jsonl_rows import (
    JsonRows,
    LineChecks,
    TextMember,
    decoded,
    first_values,
    is_text,
    jq_hint,
    with_member,
)
from batchsent.formats.lines import Lines, split_lines
from batchsent.formats.reading import (
    MAX_COLUMNS,
    ReadOptions,
    Structure,
    cells_of,
    facts_of,
    find_column,
)
from batchsent.formats.splitting import scan_records
from batchsent.formats.streams import BOMS, InputStream
from batchsent.formats.text_chunks import cut, limited, structure_of
from batchsent.formats.text_names import (
    Usual,
    find_text_columns,
    flag_for,
    has_text_column,
    joint_of,
    likely_text_column,
    names_of_text,
    with_usual,
)
from batchsent.row_texts import Texts
from batchsent.text import printable, without_surrogates
from batchsent.text_columns import TextColumns, join_texts

# The columns are the members of the lines in so many bytes: a thousand reviews.
START_BYTES = 1 << 20


class JsonLinesSource:
    """An input of JSON lines whose first lines have been read."""

    format = "jsonl"

    def __init__(
        self,
        stream: InputStream,
        options: ReadOptions,
        gold_column: str | None,
        *,
        needs_text: bool,
        usual: Usual | None,
    ) -> None:
        self._stream, self._options = stream, options
        self.name, self.version = stream.name, stream.version
        self._longest_line = 4 * max(options.max_field_bytes, 16 << 10)
        self._checks = LineChecks(options, (), self.name)
        head, at_end = self._head()
        self.preamble = codecs.BOM_UTF8 if head.startswith(codecs.BOM_UTF8) else b""
        first = self._first_rows(split_lines(head[len(self.preamble) :], at_end=at_end), needs_text)
        names = list(dict.fromkeys(name for row in first for name in row))
        if len(names) > MAX_COLUMNS:
            raise InputError(
                f"{self.name}: {len(names):,} different members in the first lines, more than "
                f"{MAX_COLUMNS:,}",
                hint="objects whose names are data cannot be read as rows",
            )
        self._names = tuple(names)
        self.columns = [without_surrogates(name) for name in names]
        self.schema = pa.schema([(column, pa.string()) for column in self.columns])
        options = with_usual(options, lambda wanted: self._has(wanted, first), usual)
        self._text_members = self._find_texts(first, options, needs_text=needs_text)
        self.text_columns: TextColumns | None = None
        if self._text_members:
            text_names = tuple(member.name for member in self._text_members)
            joint = joint_of(options, len(self._text_members))
            self.text_columns = TextColumns(text_names, joint)
        self._checks = replace(self._checks, texts=self._text_members)
        self._gold: int | None = None
        if gold_column is not None:
            self._gold = find_column(self.columns, gold_column, "--gold", self.name)
        self._invalid = 0
        self._extension: tuple[str, str] | None = None  # name and value of the member of `extend`
        self._runs = self._begin()

    def _head(self) -> tuple[bytes, bool]:
        """Return the first START_BYTES, or more up to a line end, and whether that is all."""
        size = START_BYTES
        while True:
            head = self._stream.peek(size)
            if len(head) < size:
                return head, True
            if b"\n" in head or size > self._longest_line:
                return head, False
            size *= 2

    def _first_rows(self, lines: Lines, needs_text: bool) -> list[dict[str, Any]]:
        """Return those of the first lines that are objects.

        Raises InputError where none is, or where the file is something else.
        """
        head = lines.data
        marked = next((found for mark, found in BOMS if head.startswith(mark)), None)
        if marked or b"\0" in head[:4]:
            raise InputError(
                f"{self.name}: this looks like {(marked or 'utf-16')[:6].upper()}; JSON lines are "
                "UTF-8",
                hint="convert it first: iconv -f UTF-16 -t UTF-8",
            )
        rows: list[dict[str, Any]] = []
        first_problem: InputError | None = None
        for number, raw in enumerate(lines.fields(0)):
            row, problem = self._checks.read(raw)
            if problem is None:
                rows.append(row)
            elif first_problem is None:
                line = lines.line(int(lines.starts[number]))
                first_problem = InputError(
                    f"{self.name}, line {line}: {problem[0]}", hint=problem[1], line=line
                )
        if rows or not needs_text:
            return rows
        if head.lstrip()[:1] == b"[":
            raise InputError(
                f"{self.name}: this is a JSON array, not JSON lines",
                hint=jq_hint("'.[]'", self.name),
            )
        if first_problem is not None:
            raise first_problem
        if len(head) > self._longest_line:
            raise InputError(
                f"{self.name}, line 1: a record longer than {self._longest_line:,} bytes",
                hint="write each object on one line",
            )
        found = "there are only blank lines" if head else "empty input"
        raise InputError(
            f"{self.name}: {found}",
            hint="without a line there are no columns: at least one object is needed, such as "
            '{"text": "..."}',
        )

    def _find_texts(
        self, first: list[dict[str, Any]], options: ReadOptions, *, needs_text: bool
    ) -> tuple[TextMember, ...]:
        """Return where the texts are; nowhere where that is not known and not needed.

        Raises UsageError, and InputError where there is no member at all.
        """
        if not needs_text and not has_text_column(self.columns, options):
            return ()
        if not self.columns:
            raise InputError(
                f"{self.name}: the objects of the first lines have no members",
                hint="a member text with the review is expected",
            )
        if options.text_column is not None and options.text_column_index is None:
            found = [self._find_member(wanted, first) for wanted in names_of_text(options)]
        else:
            positions = find_text_columns(
                self.columns, options, self.name, lambda: first_values(first)
            )
            found = [TextMember((self._names[position],)) for position in positions]
        for text in found:
            kinds = {KINDS[type(text.of(row))] for row in first if not is_text(text.of(row))}
            if kinds and not any(is_text(text.of(row)) for row in first):
                inside = {
                    name: values
                    for name, values in first_values(first).items()
                    if name.startswith(f"{text.name}.")
                }
                likely = likely_text_column(inside)
                hint = "name the member with the reviews with --text-column"
                raise UsageError(
                    f"{self.name}: {printable(text.name)} is {' or '.join(sorted(kinds))}, "
                    "not a string",
                    hint=hint if likely is None else f"add {flag_for(likely)}",
                )
        return tuple(found)

    def _find_member(self, wanted: str, first: list[dict[str, Any]]) -> TextMember:
        """Return where a named text is, also inside an object. Raises UsageError."""
        outer, *inner = wanted.split(".")
        if wanted in self.columns or not inner:
            try:
                position = find_column(self.columns, wanted, "--text-column", self.name)
            except UsageError as error:
                inside = [name for name in first_values(first) if name.endswith(f".{wanted}")]
                if len(inside) == 1:
                    error.hint = f"did you mean {flag_for(inside[0])}?"
                raise
            return TextMember((self._names[position],))
        position = find_column(self.columns, outer, "--text-column", self.name)
        text = TextMember((self._names[position], *inner))
        if not any(text.of(row) is not None for row in first):
            raise UsageError(
                f"{self.name} has no member called {printable(wanted)} in its first lines",
                hint=f"{printable(outer)} must be an object with the text in it",
            )
        return text

    def _has(self, wanted: str, first: list[dict[str, Any]]) -> bool:
        """Tell whether the first lines have a text of this name."""
        if wanted in self.columns:
            return True
        text = TextMember(tuple(wanted.split(".")))
        return any(text.of(row) is not None for row in first)

    def _begin(self) -> Iterator[Lines]:
        """Read from the first line on."""
        self._stream.read(len(self.preamble))
        return scan_records(
            self._stream,
            split_lines,
            first_byte=len(self.preamble),
            max_record_bytes=self._longest_line,
            name=self.name,
        )

    @property
    def first(self) -> Self:
        """The source itself: it reads one file."""
        return self

    def extend(self, column: str, value: str) -> None:
        """Add a member that has the same value in every line; the last line gets its end too."""
        self._extension = column, value
        self._names = (*self._names, column)
        self.columns = [*self.columns, column]
        self.schema = self.schema.append(pa.field(column, pa.string()))

    def take_columns_of(self, other: "JsonLinesSource") -> None:
        """Have the columns of another source: a member that is none of them has no column."""
        gold = None if self._gold is None else self.columns[self._gold]
        self._names, self.columns, self.schema = other._names, other.columns, other.schema
        if gold is not None:
            self._gold = self.columns.index(gold)

    def restrict(self, added: Sequence[str], *, fixed_columns: bool) -> None:
        """Take rows that an output cannot hold as bad rows, before any row is read."""
        self._checks = replace(
            self._checks,
            added=frozenset(added) | frozenset(self._extension[:1] if self._extension else ()),
            columns=frozenset(self._names) if fixed_columns else None,
        )

    def chunks(self, columns: Sequence[str] = ()) -> Iterator[Chunk]:
        """Yield the rows once, in order, with the cells of `columns`.

        Raises InputError for a bad row unless they are to be left out.
        """
        start = 0
        positions = [self.columns.index(column) for column in columns]
        if self._gold is not None:
            positions.append(self._gold)
        kept = {self._names[position] for position in positions}
        kept.update(member.path[0] for member in self._text_members)
        for pieces in cut(self._pieces(frozenset(kept)), self._options.chunk_rows):
            runs = [piece for piece in pieces if isinstance(piece, Lines)]
            if self._extension is not None:
                runs = [with_member(run, *self._extension) for run in runs]
            carried = JsonRows(tuple(runs), self._names, frozenset(kept))
            chunk = Chunk(
                start_row=start,
                texts=self._texts(carried, sum(map(len, runs))),
                carried=carried,
                gold=None if self._gold is None else carried.cells(self._gold),
                rejected=tuple(piece for piece in pieces if isinstance(piece, Reject)),
                columns=cells_of(carried, self, columns),
            )
            start += chunk.rows
            yield chunk

    def check(self, utf8_columns: list[str]) -> Structure:
        """Read a regular file for its structure alone; `chunks` begins at its first row after that.

        Every cell is UTF-8, so `utf8_columns` does not matter. Raises InputError for the first bad
        row unless they are to be left out.
        """
        structure = structure_of(self._pieces(frozenset()), self._stream)
        self._runs = self._begin()
        return structure

    def _pieces(self, kept: frozenset[str]) -> Iterator[Lines | Reject]:
        """Yield runs of good rows, up to the limit, and the bad rows between them.

        The rows have their members `kept`.
        """
        return limited(self._checks.sort_out(self._runs, kept), self._options.limit)

    def _texts(self, carried: JsonRows, rows: int) -> Texts:
        """Return the texts of the rows; None where there is none."""
        if self.text_columns is None:
            return [None] * rows
        columns = [
            [self._readable(member.of(row), raw) for row, raw in carried.rows()]
            for member in self._text_members
        ]
        return join_texts(columns, self.text_columns.joint)

    def _readable(self, text: str | None, raw: bytes) -> str | None:
        """Return a text of the line `raw` without half surrogate pairs; count damaged ones."""
        if text is None:
            return None
        whole = without_surrogates(text)
        # U+FFFD in its UTF-8 form or as \ufffd is the user's own.
        if "\ufffd" in whole and (whole != text or decoded(raw) is None):
            self._invalid += 1
        return whole

    def facts(self) -> dict[str, Any]:
        """Return the input section of the summary."""
        stream = self._stream
        return facts_of(
            self,
            self._gold,
            size=stream.size,
            sha256=stream.sha256,
            compression=stream.compression,
        )

    def warnings(self) -> list[dict[str, str]]:
        """Return what a person should know of what was read."""
        if not self._invalid:
            return []
        return [
            {
                "code": "invalid_encoding",
                "message": f"{self._invalid:,} text(s) hold bytes that are not valid utf-8, or "
                "halves of surrogate pairs; the model read U+FFFD in their place, the output keeps "
                "the bytes",
                "hint": "convert the file to utf-8 first, with iconv for instance, or take invalid "
                "bytes as bad rows with --encoding-errors strict",
            }
        ]

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
