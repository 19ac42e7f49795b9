"""The file formats: FORMATS says of each how its files are recognized, read and written.

How an output is compared with its input stands in COMPARISONS (verification/comparing.py), which
needs an entry for each format too.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

if TYPE_CHECKING:
    from batchsent.formats.reading import FileSource, ReadOptions, Sink, Source
    from batchsent.formats.streams import InputStream, OutputFile
    from batchsent.formats.text_names import Usual


class OpenSource(Protocol):
    """How an input of a format is opened."""

    def __call__(
        self,
        stream: "InputStream",
        options: "ReadOptions",
        gold_column: str | None,
        *,
        needs_text: bool,
        usual: "Usual | None",
    ) -> "FileSource":
        """Read the header from the start of a stream and find the columns.

        The source closes the stream. Without `needs_text` a file without a known text column is
        opened too: its texts are None. `usual` says which they are for those who name none.
        Raises InputError and UsageError.
        """


# (file, path, source, added): start an output for the rows of a source and the columns added. The
# path tells the compression. Raises UsageError for columns that the format cannot hold.
OpenSink = Callable[["OutputFile", str, "Source", pa.Schema], "Sink"]
# (file, path, table): write a small finished table.
WriteTable = Callable[["OutputFile", str, pa.Table], None]


@dataclass(frozen=True)
class Format:
    """A file format: what its files are called, how they are read and written."""

    title: str  # in messages
    suffixes: tuple[str, ...]
    open_source: OpenSource
    open_sink: OpenSink
    write_table: WriteTable
    needs_utf8: Callable[[pa.DataType], bool]  # whether text of an Arrow type must be UTF-8
    expected: str  # what an input must begin with: the hint for an empty one names it
    begins_with: tuple[bytes, ...] = ()  # its possible first bytes; () where any may come first
    fixed_columns: bool = True  # False: a row may have members that the first rows do not have
    may_be_empty: bool = False  # whether a file without a byte is one without rows
    # Which options of the group READING_CSV are of use for it; None for all of them.
    reads: frozenset[str] | None = frozenset()
    # False: the table of contents is at the end, so a pipe cannot be read or written; the format
    # compresses its columns itself.
    streams: bool = True


def on_call(module: str, function: str, **fixed: Any) -> Callable[..., Any]:
    """Return a function whose module is imported when it is called.

    The names of the formats are choices of options: `--help` shows them and reads no file.
    """

    def call(*arguments: Any, **named: Any) -> Any:
        found = getattr(importlib.import_module(f"batchsent.formats.{module}"), function)
        return found(*arguments, **named, **fixed)

    return call


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a column has text in it, whatever way it is kept."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return is_text(kind.value_type)
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


FORMATS = {
    "csv": Format(
        title="CSV",
        suffixes=(".csv", ".txt"),
        open_source=on_call("csv", "CsvSource", tabs=False),
        open_sink=on_call("csv_sinks", "open_csv_sink", tabs=False),
        write_table=on_call("csv_sinks", "write_csv_table", tabs=False),
        needs_utf8=pa.types.is_nested,  # they become JSON; the bytes of others are copied
        expected="a header line, at least,",
        reads=None,
    ),
    "tsv": Format(
        title="TSV",
        suffixes=(".tsv", ".tab"),
        open_source=on_call("csv", "CsvSource", tabs=True),
        open_sink=on_call("csv_sinks", "open_csv_sink", tabs=True),
        write_table=on_call("csv_sinks", "write_csv_table", tabs=True),
        needs_utf8=pa.types.is_nested,
        expected="a header line, at least,",
        reads=None,
    ),
    "parquet": Format(
        title="Parquet",
        suffixes=(".parquet", ".pq"),
        open_source=on_call("parquet", "ParquetSource"),
        open_sink=on_call("parquet_sinks", "ParquetSink"),
        write_table=on_call("parquet_sinks", "write_parquet_table"),
        needs_utf8=lambda kind: False,  # bytes are copied, whatever the type claims
        expected="a Parquet file",
        begins_with=(b"PAR1",),
        streams=False,
    ),
    "arrow": Format(
        title="Arrow",
        suffixes=(".arrow", ".arrows"),
        open_source=on_call("arrow", "ArrowSource"),
        open_sink=on_call("arrow", "ArrowSink"),
        write_table=on_call("arrow", "write_arrow_table"),
        # Readers refuse a stream with text that is not UTF-8.
        needs_utf8=lambda kind: pa.types.is_nested(kind) or is_text(kind),
        expected="an Arrow stream",
        # A stream; and a file, which is a stream between this mark and a table of contents.
        begins_with=(b"\xff\xff\xff\xff", b"ARROW1\0\0"),
    ),
    "jsonl": Format(
        title="JSON lines",
        suffixes=(".jsonl", ".ndjson"),
        open_source=on_call("jsonl", "JsonLinesSource"),
        open_sink=on_call("jsonl_sinks", "open_jsonl_sink"),
        write_table=on_call("jsonl_sinks", "write_jsonl_table"),
        needs_utf8=lambda kind: pa.types.is_nested(kind) or is_text(kind),
        expected="a line with an object, at least,",
        # An object, or an array of objects, which is refused in words.
        begins_with=(b'{"', b'{ "', b'\xef\xbb\xbf{"', b'[{"'),
        fixed_columns=False,
        may_be_empty=True,
        reads=frozenset({"encoding_errors", "max_field_bytes"}),
    ),
}


def suffix_table() -> dict[str, str]:
    """Return the name of the format of each suffix."""
    table = {}
    for name, known in FORMATS.items():
        table.update(dict.fromkeys(known.suffixes, name))
    return table


SUFFIXES = suffix_table()


def recognize(head: bytes) -> str | None:
    """Return the format that the first bytes of a file prove; None where they prove none."""
    for name, known in FORMATS.items():
        if known.begins_with and head.startswith(known.begins_with):
            return name
    return None
