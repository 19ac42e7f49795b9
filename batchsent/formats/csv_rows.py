"""The rows of a CSV as a chunk carries them: the bytes of the file, and the columns in them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from batchsent.formats.csv_fields import FieldDecoder
from batchsent.formats.records import Records
from batchsent.formats.text_chunks import take_rows


@dataclass(frozen=True)
class CsvRows:
    """The rows of a chunk as they stand in the file."""

    runs: tuple[Records, ...]
    decoder: FieldDecoder

    def cells(self, position: int) -> list[str]:
        """Return a column as strings, exact after unquoting."""
        found: list[str] = []
        for run in self.runs:
            found += self.decoder.texts(run.fields(position))
        return found

    def column(self, position: int) -> pa.Array:
        """Return a column as an Arrow array of strings."""
        return pa.array(self.cells(position), pa.string())

    def take(self, rows: Sequence[int]) -> "CsvRows":
        """Return some rows of the chunk, named by their rising numbers, without blank lines."""
        return replace(self, runs=take_rows(self.runs, rows))

    def table(self, schema: pa.Schema) -> pa.Table:
        """Return every column as strings."""
        return pa.Table.from_arrays([self.column(n) for n in range(len(schema))], schema=schema)
