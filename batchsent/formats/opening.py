"""From a path to the module that reads or writes it."""

import io
import typing
from pathlib import Path

import pyarrow as pa

from batchsent.errors import InputError, UsageError
from batchsent.filenames import is_folder
from batchsent.formats.reading import ReadOptions, Sink, Source
from batchsent.formats.streams import COMPRESSIONS, InputStream, OutputFile, check_compressed_name
from batchsent.text import printable

SUFFIXES = {
    ".csv": "csv",
    ".txt": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
}
# How a stream begins, and a file, which is a stream with this in front and a table of contents
# behind.
ARROW = (b"\xff\xff\xff\xff", b"ARROW1\0\0")


def format_of(path: str, *, what: str) -> str | None:
    """Return csv, tsv, parquet or arrow by the suffix, None for `-`.

    Raises UsageError, naming `what` the path is, for a suffix that tells nothing.
    """
    if path == "-":
        return None
    name = Path(path)
    inner = name.with_suffix("") if name.suffix.lower() in COMPRESSIONS else name
    found = SUFFIXES.get(inner.suffix.lower())
    if found is None:
        raise UsageError(
            f"{printable(path)}: the {what}'s format does not show in its name",
            hint=f"use one of {', '.join(SUFFIXES)} (also with .gz or .zst), or say "
            f"--{what}-format",
        )
    if inner is not name and found == "parquet":
        raise UsageError(
            f"{printable(path)}: Parquet is compressed inside", hint="leave out the last suffix"
        )
    return found


def open_source(
    path: str, options: ReadOptions | None = None, *, gold_column: str | None = None
) -> Source:
    """Open an input (`-` is stdin), read its header and find its columns.

    Raises InputError for what cannot be read, UsageError for columns or options that do not fit it.
    """
    options = options or ReadOptions()
    name = options.input_format or format_of(path, what="input")
    if path != "-" and is_folder(path):
        raise UsageError(f"{printable(path)} is a folder", hint="name the files in it")
    if name == "parquet":
        if path == "-":
            raise UsageError(
                "Parquet cannot be read from a pipe: its table of contents is at its end",
                hint="name the file, or pipe an Arrow stream or CSV",
            )
        from batchsent.formats.parquet import ParquetSource

        return ParquetSource(path, options, gold_column)
    stream = InputStream(path)
    try:
        head = stream.read(64 << 10)
        if not head:
            raise InputError(
                f"{stream.name}: empty input", hint="a header line, at least, is expected"
            )
        if name == "arrow" or (name is None and head.startswith(ARROW)):
            from batchsent.formats.arrow import ArrowSource

            return ArrowSource(stream, head, options, gold_column)
        check_compressed_name(head, stream)
        if head.startswith((b"PAR1", *ARROW)):
            found = "parquet" if head.startswith(b"PAR1") else "arrow"
            raise InputError(
                f"{stream.name}: this is a {found} file", hint=f"add --input-format {found}"
            )
        from batchsent.formats.csv import CsvSource

        return CsvSource(stream, head, options, gold_column, tabs=name == "tsv")
    except BaseException:
        stream.close()
        raise


def open_sink(
    file: OutputFile, path: str, source: Source, added: pa.Schema, output_format: str | None
) -> Sink:
    """Start the output for a source's rows in `file`; `path` tells the format and the compression.

    `-` gets the input's own format where that can be streamed. Raises UsageError for columns the
    format cannot hold.
    """
    name = sink_format(path, source, output_format)
    if name == "parquet":
        if path == "-":
            raise UsageError(
                "Parquet is not written to a pipe", hint="use --output-format arrow, or name a file"
            )
        from batchsent.formats.parquet import ParquetSink

        return ParquetSink(file, path, source, added)
    if name == "arrow":
        from batchsent.formats.arrow import ArrowSink

        return ArrowSink(file, path, source, added)
    from batchsent.formats.csv_sinks import open_csv_sink

    return open_csv_sink(file, path, source, added, tabs=name == "tsv")


def sink_format(path: str, source: Source, output_format: str | None) -> str:
    """Return the format that a source's rows are written in."""
    return (
        output_format
        or format_of(path, what="output")
        or {"parquet": "arrow"}.get(source.format, source.format)
    )


def columns_to_decode(path: str, source: Source, output_format: str | None) -> list[str]:
    """Return the columns whose text must be UTF-8 to be written.

    An Arrow stream with such bytes is refused by its readers. In CSV bytes are bytes, but nested
    values become JSON.
    """
    name = sink_format(path, source, output_format)
    if name == "parquet":
        return []
    kinds = {field.name: field.type for field in source.schema}
    return [
        column
        for column, kind in kinds.items()
        if pa.types.is_nested(kind) or (name == "arrow" and is_text(kind))
    ]


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a column has text in it, whatever way it is kept."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return is_text(kind.value_type)
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def check_sink(path: str, source: Source, added: pa.Schema, output_format: str | None) -> None:
    """Raise UsageError for columns that the output's format or encoding cannot hold."""
    open_sink(typing.cast(OutputFile, io.BytesIO()), path, source, added, output_format)


def check_new_columns(
    source: Source, added: list[str], *, prefix_flag: str = "--prefix pred_"
) -> None:
    """Refuse to add a column that the input has already. Raises UsageError."""
    for column in added:
        if column in source.columns:
            raise UsageError(
                f"{source.name} has a column called {printable(column)} already",
                hint=f"add {prefix_flag} to call the new columns something else",
                column=column,
            )
