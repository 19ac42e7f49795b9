"""What every format shares: reading options, sources and sinks, finding a column by its name."""

import difflib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import pyarrow as pa

from batchsent.chunk import Carried, Chunk
from batchsent.errors import UsageError
from batchsent.formats.catalog import FORMATS
from batchsent.options import option
from batchsent.text import printable
from batchsent.text_columns import TextColumns

# A chunk of 8,192 IMDB reviews is 11 MB; longer texts end it earlier, so that memory stays bounded.
CHUNK_BYTES = 16 << 20
# A header wider than this is a damaged file, not a table.
MAX_COLUMNS = 65_536
READING_CSV = "Reading CSV"  # the group of the options that CSV is read by


@dataclass(frozen=True)
class RowOptions:
    """Which rows are scored, by which column, and how many together."""

    text_column: str | tuple[str, ...] | None = option(
        None,
        "Column with the reviews; repeated, the values of several are joined [default: those that "
        "the model was trained on by name, else the one called text or review].",
        metavar="NAME",
        multiple=True,
        group="Common",
    )
    text_joint: str | None = option(
        None,
        r"What is put between the values of several text columns, such as '\n' [default: as the "
        "model was trained, else an empty line].",
        metavar="TEXT",
        group="Columns",
    )
    text_column_index: int | None = option(
        None,
        "Position of the column with the reviews, counted from 1; for files without a header.",
        group="Columns",
    )
    chunk_rows: int = option(
        8192,
        "Rows read, scored and committed together.",
        minimum=1,
        affects="scores",
        group="Run",
    )
    limit: int | None = option(
        None,
        "Score the first N rows only.",
        short="-n",
        metavar="N",
        minimum=0,
        affects="writing",
        group="Common",
    )

    def __post_init__(self) -> None:
        """Refuse a text column that is named in two ways. Raises UsageError."""
        if self.text_column is not None and self.text_column_index is not None:
            raise UsageError(
                "--text-column and --text-column-index both say which column is the text",
                hint="leave one of them out",
            )


@dataclass(frozen=True)
class ReadOptions(RowOptions):
    """How a file is read."""

    input_format: str | None = option(
        None,
        "Format of the input, where the name does not tell.",
        choices=tuple(FORMATS),
        group="Run",
    )
    delimiter: str | None = option(
        None,
        "Field delimiter of CSV: one character, or auto [default: comma; tab for .tsv].",
        short="-d",
        group=READING_CSV,
    )
    quotechar: str = option('"', "Quote character of CSV.", group=READING_CSV)
    escapechar: str | None = option(
        None,
        "Escape character of CSV, for instance \\ [default: none, quotes are doubled].",
        group=READING_CSV,
    )
    skip_initial_space: bool = option(
        False, "Ignore spaces after a CSV delimiter.", group=READING_CSV
    )
    encoding: str = option(
        "utf-8",
        "Encoding of CSV, or auto (byte order marks, else utf-8, else cp1252).",
        group=READING_CSV,
    )
    encoding_errors: str = option(
        "replace",
        "Invalid bytes: the model reads U+FFFD and the output keeps them (replace), or they are "
        "bad rows (strict).",
        choices=("replace", "strict"),
        group=READING_CSV,
    )
    no_header: bool = option(
        False,
        "The CSV has no header line; columns go by --text-column-index.",
        group=READING_CSV,
    )
    skip_lines: int = option(
        0, "Lines before the CSV header, copied as they are.", minimum=0, group=READING_CSV
    )
    max_field_bytes: int = option(
        16 << 20,
        "Longest field of a CSV, or value of JSON lines; a longer one makes the row a bad row.",
        minimum=1,
        group=READING_CSV,
    )
    bad_rows: str = option(
        "error",
        "Rows that cannot be taken: stop (error), or leave them out and write them to "
        "OUTPUT.rejects.csv (reject).",
        choices=("error", "reject"),
        group="Run",
    )


@dataclass(frozen=True)
class Structure:
    """What reading an input for its structure alone tells."""

    rows: int | None  # rows that can be taken; None where only reading the values tells
    bad_rows: int
    sha256: str | None  # of the stored bytes; None where they were not read from end to end


class Rows(Protocol):
    """Rows with columns, of a file or of a frame."""

    name: str  # printable
    columns: list[str]
    schema: pa.Schema  # of the user's columns, as an Arrow table would have them
    text_columns: TextColumns | None  # None where they are not known: the texts are None then

    def chunks(self) -> Iterator[Chunk]:
        """Yield the rows once, in order."""

    def warnings(self) -> list[dict[str, str]]:
        """Return what a person should know of what was read."""

    def close(self) -> None:
        """Close what is read."""


class Source(Rows, Protocol):
    """An opened input: its header has been read and its columns checked."""

    format: str
    # what a store says that tells the object from a changed one; None for files and pipes
    version: str | None

    @property
    def first(self) -> "FileSource":
        """The source of the first of several files; itself where it reads one."""

    def chunks(self, columns: Sequence[str] = ()) -> Iterator[Chunk]:
        """Yield the rows once, in order; the chunks depend on the content and the options alone.

        The cells of `columns`, each the name of one column, come with every chunk.
        """

    def check(self, utf8_columns: list[str]) -> Structure:
        """Read a regular file for its structure alone; `chunks` begins at its first row after that.

        Text in `utf8_columns` must be UTF-8. Raises InputError for the first row that cannot be
        taken, unless bad rows are to be left out.
        """

    def facts(self) -> dict[str, Any]:
        """Return the input section of the summary; complete once the chunks have been read."""

    def restrict(self, added: Sequence[str], *, fixed_columns: bool) -> None:
        """Take rows that an output cannot hold as bad rows, before any row is read.

        They have a column called like one of those `added`, or, where the columns of the output are
        fixed, one that is not in `columns`.
        """


class FileSource(Source, Protocol):
    """An opened input that is one file, object or pipe."""

    def extend(self, column: str, value: str) -> None:
        """Add a column after the others, before any row is read: it has `value` in every row."""


class SameColumns:
    """A source of one file, whose rows all have the columns of its header."""

    @property
    def first(self) -> Self:
        """The source itself: it reads one file."""
        return self

    def restrict(self, added: Sequence[str], *, fixed_columns: bool) -> None:
        """Do nothing: `check_new_columns` has refused what does not fit."""


class Sink(Protocol):
    """An output being written."""

    def write(self, chunk: Chunk, added: pa.RecordBatch) -> None:
        """Write the rows of a chunk with the added columns after the user's."""

    def finish(self) -> None:
        """Write what is held back, and the format's end."""


def cells_of(carried: Carried, source: Rows, columns: Sequence[str]) -> Mapping[str, list[Any]]:
    """Return the cells of named columns of a chunk."""
    return {name: carried.cells(source.columns.index(name)) for name in columns}


def facts_of(
    source: Source,
    gold: int | None,
    *,
    size: int,
    sha256: str | None = None,
    compression: str | None = None,
    dialect: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the input section of the summary.

    `gold` is a position; `size` (bytes) and `sha256` are those of the input as it is stored.
    """
    text = source.text_columns
    read: dict[str, Any] = {"text": None}
    if text is not None and text.single:
        read = {"text": text.names[0]}
    elif text is not None:
        read = {"text": list(text.names), "joint": text.joint}
    return {
        "path": source.name,
        "format": source.format,
        "bytes": size,
        "sha256": sha256,
        "compression": compression,
        "dialect": dialect,
        "columns": {
            "count": len(source.columns),
            **read,
            "gold": None if gold is None else source.columns[gold],
        },
    }


def mend(columns: list[str]) -> str:
    """Return what to type where no column has the name that is meant."""
    if len(columns) == 1 or columns[0].startswith("#"):
        return (
            "name it with --text-column; if there are lines before the header, add --skip-lines N"
        )
    return "name it with --text-column"


def find_column(columns: list[str], wanted: str, flag: str, name: str) -> int:
    """Return the position of a named column.

    Raises UsageError when it is missing or there are several.
    """
    found = [n for n, column in enumerate(columns) if column == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"{name} has {len(found)} columns called {printable(wanted)}",
            hint="say which one by its position, counted from 1, with --text-column-index"
            if flag == "--text-column"
            else "rename one of them",
        )
    near = difflib.get_close_matches(wanted, columns, n=1) if len(columns) > 1 else []
    hint = None
    listed = [name.strip() for name in wanted.split(",")]
    if flag == "--text-column" and len(listed) > 1 and set(listed) <= set(columns):
        hint = "name each with a --text-column of its own"
    elif near:
        hint = f"did you mean {flag} {shlex.quote(printable(near[0]))}?"
    elif len(columns) == 1:
        hint = mend(columns)
    raise UsageError(
        f"{name} has no column called {printable(wanted)}; its columns are {list_columns(columns)}",
        hint=hint,
    )


def list_columns(columns: list[str]) -> str:
    """Return the names for an error message: printable, and not more than a person reads."""
    shown = ", ".join(printable(column[:60]) for column in columns[:20])
    return shown + (f" and {len(columns) - 20} more" if len(columns) > 20 else "")
