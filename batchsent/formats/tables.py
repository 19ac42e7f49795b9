"""A small finished table -> a file of its own, in any output format."""

import pyarrow as pa

from batchsent.formats.catalog import FORMATS
from batchsent.formats.opening import format_of
from batchsent.formats.streams import OutputFile


def write_table(
    file: OutputFile, path: str, table: pa.Table, output_format: str | None = None
) -> None:
    """Write a whole table to `file`.

    `path` tells the format and the compression, unless `output_format` does. In CSV strings are
    quoted, null is an empty unquoted field. Raises UsageError for a path that tells nothing.
    """
    name = output_format or format_of(path, what="output") or "csv"
    FORMATS[name].write_table(file, path, table)
