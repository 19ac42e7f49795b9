"""The rows of JSON lines: which lines can be taken, and the cells of those that are."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from batchsent.chunk import Reject
from batchsent.formats.bad_rows import BadRow, or_leave_out, sort_out
from batchsent.formats.json_members import KINDS, BadLine, Number, member_texts, read_object
from batchsent.formats.json_values import quote
from batchsent.formats.lines import Lines, insert, split_lines
from batchsent.formats.reading import ReadOptions
from batchsent.formats.text_chunks import take_rows
from batchsent.formats.text_names import LOOKED_AT
from batchsent.text import printable, without_surrogates

Row = dict[str, Any]  # the members of a line, as `read_object` returns them


@dataclass(frozen=True)
class TextMember:
    """Where the text of a row is: the name of a member, then names inside its objects."""

    path: tuple[str, ...]

    @property
    def name(self) -> str:
        """How the text is named in messages and options."""
        return ".".join(self.path)

    def of(self, row: Row) -> Any:
        """Return the value of the text as it was read, None where it is missing."""
        value = row.get(self.path[0])
        for name in self.path[1:]:
            value = dict(value).get(name) if isinstance(value, tuple) else None
        return value


def is_text(value: Any) -> bool:
    """Tell whether a value is a string, or null."""
    return value is None or type(value) is str


@dataclass(frozen=True)
class LineChecks:
    """What a line must be to be taken."""

    options: ReadOptions
    texts: tuple[TextMember, ...]
    name: str  # of the input, for messages
    # names of members that lines may have; None where they may have any
    columns: frozenset[str] | None = None
    added: frozenset[str] = field(default_factory=frozenset)  # names of new columns

    def sort_out(self, runs: Iterable[Lines], kept: frozenset[str]) -> Iterator[Lines | Reject]:
        """Yield runs of good rows and the bad rows between them, in file order.

        The rows have their members `kept`: all of fifty small ones would be ten times the line.
        Raises InputError for a bad row unless they are to be left out.
        """
        for run in runs:
            rows: list[Row] = []
            bad: list[BadRow] = []
            for number, raw in enumerate(run.fields(0)):
                row, wrong = self.read(raw)
                rows.append({name: row[name] for name in kept if name in row})
                if wrong is not None:
                    bad.append(BadRow(number, wrong[0], int(run.starts[number]), wrong[1]))
            yield from sort_out(replace(run, members=tuple(rows)), bad, self.options, self.name)

    def read(self, raw: bytes) -> tuple[Row, tuple[str, str] | None]:
        """Return the members of a line, and what is wrong with it with a hint."""
        line = decoded(raw)
        if line is None:
            if self.options.encoding_errors == "strict":
                return {}, ("bytes that are not valid utf-8", or_leave_out("correct the line"))
            line = raw.decode("utf-8", "replace")
        try:
            row = read_object(line)
        except BadLine as error:
            return {}, (f"not a JSON object: {error}", self._hint(line))
        return row, self._judge(row, raw, line)

    def _judge(self, row: Row, raw: bytes, line: str) -> tuple[str, str] | None:
        """Return what is wrong with an object and a hint, None where nothing is."""
        for member in self.texts:
            text = member.of(row)
            if not is_text(text):
                what = f"the member {printable(member.name)} is {KINDS[type(text)]}, not a string"
                return what, or_leave_out("name the member with the reviews with --text-column")
        if not self.added.isdisjoint(row):
            taken = printable(next(name for name in row if name in self.added))
            return (
                f"a member called {taken}, like a new column",
                or_leave_out("add --prefix pred_ to call the new columns something else"),
            )
        if self.columns is not None and not self.columns.issuperset(row):
            other = printable(next(name for name in row if name not in self.columns)[:60])
            return (
                f"a member called {other}, which the start of the input does not have, so there is "
                "no column for it",
                or_leave_out("write JSON lines, which have a place for it"),
            )
        longest = self.options.max_field_bytes
        if len(raw) > longest:
            size = max((len(text.encode()) for text in member_texts(line).values()), default=0)
            if size > longest:
                what = f"a value of {size:,} bytes, more than {longest:,}"
                return what, or_leave_out("raise or change --max-field-bytes")
        return None

    def _hint(self, line: str) -> str:
        """Return what to try for a line that is no object."""
        bare = line.strip()
        if bare in {"{", "}"}:
            return jq_hint(".", self.name)
        if bare[:1] in {"[", "]"} or bare[-2:] == "},":
            return jq_hint("'.[]'", self.name)
        return or_leave_out("correct the line")


def jq_hint(program: str, name: str) -> str:
    """Return how to make JSON lines of the JSON in a file with jq."""
    if name == "stdin":
        return f"make JSON lines of it first: jq -c {program}"
    bare, dot, suffix = name.rpartition(".")
    unpack = {"gz": "zcat", "zst": "zstdcat"}.get(suffix.lower())
    if unpack is not None:
        bare = bare.rpartition(".")[0] or bare
        return (
            f"make JSON lines of it first: {unpack} {shlex.quote(name)} | jq -c {program} > "
            f"{shlex.quote(bare + '.lines.jsonl')}"
        )
    target = shlex.quote((bare if dot else name) + ".lines.jsonl")
    return f"make JSON lines of it first: jq -c {program} {shlex.quote(name)} > {target}"


def decoded(raw: bytes) -> str | None:
    """Return a line as text; None where it is not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


@dataclass(frozen=True)
class JsonRows:
    """The rows of a chunk as they stand in the file."""

    runs: tuple[Lines, ...]
    names: tuple[str, ...]  # of the columns, as the lines have them
    kept: frozenset[str]  # names of the members that the runs have

    def rows(self) -> Iterator[tuple[Row, bytes]]:
        """Yield the members of each row that are kept, and the line."""
        for run in self.runs:
            yield from zip(run.members, run.fields(0), strict=True)

    def whole_rows(self) -> Iterator[tuple[Row, bytes]]:
        """Yield all members of each row, and the line."""
        for run in self.runs:
            for raw in run.fields(0):
                yield read_object(raw.decode("utf-8", "replace")), raw

    def cells(self, position: int) -> list[str | None]:
        """Return a column: strings unescaped, other values as their JSON text, null as None."""
        name = self.names[position]
        rows = self.rows() if name in self.kept else self.whole_rows()
        return [cell(row, name, raw) for row, raw in rows]

    def column(self, position: int) -> pa.Array:
        """Return a column as an Arrow array of strings."""
        return pa.array(self.cells(position), pa.string())

    def take(self, rows: Sequence[int]) -> "JsonRows":
        """Return some rows of the chunk, named by their rising numbers, without blank lines."""
        return replace(self, runs=take_rows(self.runs, rows))

    def table(self, schema: pa.Schema) -> pa.Table:
        """Return every column as strings."""
        columns: list[list[str | None]] = [[] for _ in self.names]
        for row, raw in self.whole_rows():
            for name, cells in zip(self.names, columns, strict=True):
                cells.append(cell(row, name, raw))
        arrays = [pa.array(cells, pa.string()) for cells in columns]
        return pa.Table.from_arrays(arrays, schema=schema)


def cell(row: Row, name: str, raw: bytes) -> str | None:
    """Return a value of a line as a column of strings has it."""
    value = row.get(name)
    if type(value) is str:
        return without_surrogates(value)
    if value is None or isinstance(value, Number):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    # An object or an array, as it stands in the line.
    return member_texts(raw.decode("utf-8", "replace"))[name]


def with_member(run: Lines, name: str, value: str) -> Lines:
    """Return lines with one member more, a string; the last of them gets a line end."""
    data = insert(run, [f"{quote(name)}: {quote(value)}"] * len(run))
    if data and not data.endswith(b"\n"):
        data += b"\n"
    lines = split_lines(data, at_end=True, first_line=run.line(run.begin))
    return replace(lines, members=tuple({**row, name: value} for row in run.members))


def first_values(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the first strings of each member of some objects, by its name.

    Those of an object inside are called `review.text`.
    """
    found: dict[str, list[str]] = {}
    for row in rows[:LOOKED_AT]:
        for name, value in row.items():
            inside = dict(value) if isinstance(value, tuple) else {}  # pairs of an object
            each = {name: value} | {f"{name}.{inner}": text for inner, text in inside.items()}
            for shown, text in each.items():
                if isinstance(text, str):
                    found.setdefault(without_surrogates(shown), []).append(text)
    return found
