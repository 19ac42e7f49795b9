"""From a path to the entry of FORMATS that reads or writes it."""

import contextlib
import dataclasses
import io
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa

from batchsent.errors import InputError, UsageError
from batchsent.filenames import is_folder
from batchsent.formats.catalog import FORMATS, SUFFIXES, Format, recognize
from batchsent.formats.reading import READING_CSV, FileSource, ReadOptions, Rows, Sink, Source
from batchsent.formats.streams import (
    COMPRESSIONS,
    InputStream,
    OutputFile,
    canonical_encoding,
    check_compressed_name,
)
from batchsent.formats.text_names import Usual
from batchsent.options import flag_of
from batchsent.text import printable
from batchsent.urls import file_name

HEAD_BYTES = 64 << 10  # what is looked at to recognize a format, an encoding or a dialect

SPREADSHEETS = (".xlsx", ".xls", ".ods")


def format_of(path: str, *, what: str) -> str | None:
    """Return the name of a format, a key of FORMATS, by the suffix of a path; None for `-`.

    Raises UsageError, naming `what` the path is, for a suffix that tells nothing.
    """
    if path == "-":
        return None
    name = Path(file_name(path))
    inner = name.with_suffix("") if name.suffix.lower() in COMPRESSIONS else name
    found = SUFFIXES.get(inner.suffix.lower())
    is_json = what == "input" and inner.suffix.lower() == ".json"
    if found is None:
        first = "where each line is an object: --input-format jsonl; " if is_json else ""
        if inner.suffix.lower() in SPREADSHEETS:
            first = "save the sheet as CSV (UTF-8) and name that; else "
        raise UsageError(
            f"{printable(path)}: the {what}'s format does not show in its name",
            hint=f"{first}use one of {', '.join(SUFFIXES)} (also with .gz or .zst), or say "
            f"--{what}-format",
        )
    if inner is not name and not FORMATS[found].streams:
        raise UsageError(
            f"{printable(path)}: {FORMATS[found].title} is compressed inside",
            hint="decompress it, or, where the suffix alone is wrong, rename it"
            if what == "input"
            else "leave out the last suffix",
        )
    return found


def open_source(
    path: str,
    options: ReadOptions | None = None,
    *,
    gold_column: str | None = None,
    needs_text: bool = True,
    usual: Usual | None = None,
) -> FileSource:
    """Open an input (a path, a URL, `-` for stdin), read its header and find its columns.

    Without `needs_text` a file without a known text column is opened too: its texts are None.
    `usual` gives the text columns where the options name none.
    Raises InputError for what cannot be read, UsageError for columns or options that do not
    fit it.
    """
    options = options or ReadOptions()
    name = options.input_format or format_of(path, what="input")
    if path != "-" and is_folder(path):
        raise UsageError(f"{printable(path)} is a folder", hint="name the files in it")
    if path == "-" and name is not None and not FORMATS[name].streams:
        raise UsageError(
            f"{FORMATS[name].title} cannot be read from a pipe: its table of contents is at its "
            "end",
            hint="name the file, or pipe an Arrow stream or CSV",
        )
    stream = InputStream(path)
    try:
        known = find_format(name, stream)
        if path == "-":
            check_of_use(options, {stream.name: known})
        return known.open_source(stream, options, gold_column, needs_text=needs_text, usual=usual)
    except BaseException:
        stream.close()
        raise


def check_read_options(options: ReadOptions, paths: Iterable[str]) -> None:
    """Refuse an option of how CSV is read that no file at `paths` has a use for.

    Where one of them is CSV the others are read as if the option were not there. Stdin, which has
    no name that shows its format, is judged when it is opened. Raises UsageError.
    """
    formats = {}
    for path in paths:
        with contextlib.suppress(UsageError):  # of a name that shows no format: told when opened
            name = options.input_format or format_of(path, what="input")
            if name is None:
                return
            formats[printable(path)] = FORMATS[name]
    check_of_use(options, formats)


def check_of_use(options: ReadOptions, formats: Mapping[str, Format]) -> None:
    """Refuse an option of how CSV is read that no file has a use for; `formats` are by its name.

    `auto` asks for nothing, and other formats are UTF-8 anyway. Raises UsageError.
    """
    if not formats or any(known.reads is None for known in formats.values()):
        return
    name, known = next(iter(formats.items()))
    for field in dataclasses.fields(ReadOptions):
        value = getattr(options, field.name)
        if field.metadata["group"] != READING_CSV or value in {field.default, "auto"}:
            continue
        if any(field.name in (one.reads or ()) for one in formats.values()):
            continue
        if field.name == "encoding" and canonical_encoding(value) == "utf-8":
            continue
        hint = f"leave out {flag_of(field)}"
        if field.name == "encoding" and known.streams and known.reads:
            hint += f", or convert the file to utf-8 first: iconv -f {printable(value)} -t utf-8"
        raise UsageError(
            f"{name} is {known.title}, and {flag_of(field)} is about CSV",
            hint=hint,
        )


def find_format(name: str | None, stream: InputStream) -> Format:
    """Return the format of an input: that of its `name`, else by its first bytes, else CSV.

    Raises InputError where the bytes are plainly of another one.
    """
    head = stream.peek(HEAD_BYTES)
    recognized = recognize(head)
    if name is None:
        streams = recognized is not None and FORMATS[recognized].streams
        name = recognized if recognized is not None and streams else "csv"
    known = FORMATS[name]
    if not head and not known.may_be_empty:
        raise InputError(f"{stream.name}: empty input", hint=f"{known.expected} is expected")
    if recognized not in {None, name}:
        raise InputError(
            f"{stream.name}: this is a {recognized} file",
            hint=f"add --input-format {recognized}",
        )
    if recognized is None:
        check_compressed_name(head, stream)
    return known


def open_sink(
    file: OutputFile, path: str, source: Source, added: pa.Schema, output_format: str | None
) -> Sink:
    """Start the output for a source's rows in `file`; `path` tells the format and the compression.

    `-` gets the input's own format where that can be streamed. Raises UsageError for columns the
    format cannot hold.
    """
    known = FORMATS[sink_format(path, source, output_format)]
    if path == "-" and not known.streams:
        raise UsageError(
            f"{known.title} is not written to a pipe",
            hint="use --output-format arrow, or name a file",
        )
    source.restrict(added.names, fixed_columns=known.fixed_columns)
    return known.open_sink(file, path, source, added)


def sink_format(path: str, source: Source, output_format: str | None) -> str:
    """Return the format that a source's rows are written in."""
    name = output_format or format_of(path, what="output")
    if name is not None:
        return name
    # An Arrow stream is what keeps the types of a format that cannot be streamed.
    return source.format if FORMATS[source.format].streams else "arrow"


def columns_to_decode(path: str, source: Source, output_format: str | None) -> list[str]:
    """Return the columns whose text must be UTF-8 to be written."""
    needs_utf8 = FORMATS[sink_format(path, source, output_format)].needs_utf8
    kinds = {field.name: field.type for field in source.schema}
    return [column for column, kind in kinds.items() if needs_utf8(kind)]


def check_sink(path: str, source: Source, added: pa.Schema, output_format: str | None) -> None:
    """Raise UsageError for columns that the output's format or encoding cannot hold."""
    open_sink(typing.cast(OutputFile, io.BytesIO()), path, source, added, output_format)


def check_new_columns(source: Rows, added: list[str]) -> None:
    """Refuse to add a column that the input has already. Raises UsageError."""
    for column in added:
        if column in source.columns:
            raise UsageError(
                f"{source.name} has a column called {printable(column)} already",
                hint="add --prefix pred_ to call the new columns something else",
                column=column,
            )
