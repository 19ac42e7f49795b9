"""A small finished table -> a file of its own, in any output format; knows nothing of chunks."""

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from batchsent.formats.csv_sinks import flat
from batchsent.formats.opening import format_of
from batchsent.formats.records import Dialect
from batchsent.formats.streams import Compressed, OutputFile


def write_table(
    file: OutputFile, path: str, table: pa.Table, output_format: str | None = None
) -> None:
    """Write a whole table to `file`.

    `path` tells the format and the compression, unless `output_format` does. In CSV strings are
    quoted, null is an empty unquoted field. Raises UsageError for a path that tells nothing.
    """
    name = output_format or format_of(path, what="output") or "csv"
    if name == "parquet":
        pq.write_table(table, pa.PythonFile(file, mode="w"))
        return
    stream = Compressed(file, path)
    if name == "arrow":
        with pa.ipc.new_stream(pa.PythonFile(stream, mode="w"), table.schema) as writer:
            writer.write_table(table)
    else:
        delimiter = "\t" if name == "tsv" else ","
        dialect = Dialect(delimiter.encode())
        stream.write(
            dialect.delimiter.join(dialect.quote(name.encode()) for name in table.column_names)
            + b"\n"
        )
        # Numbers as names: arrow would refuse a table with the same name twice, which the user's
        # may have.
        named = pa.table(
            [flat(column) for column in table.columns],
            names=[str(n) for n in range(table.num_columns)],
        )
        pa.csv.write_csv(
            named, stream, pa.csv.WriteOptions(include_header=False, delimiter=delimiter)
        )
    stream.finish()
