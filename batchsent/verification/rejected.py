"""The rows that a run left out, against the rejects file beside its output."""

from collections.abc import Iterator
from pathlib import Path

from batchsent.chunk import Reject
from batchsent.filenames import exists
from batchsent.formats.reading import ReadOptions
from batchsent.formats.records import Dialect
from batchsent.formats.splitting import scan
from batchsent.formats.streams import InputStream
from batchsent.text import printable
from batchsent.verification.copied import longest_record
from batchsent.verification.differences import Difference, Location, as_difference


class RejectsFile:
    """A rejects file, gone through beside the rows that its input rejects, in order."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self._name = printable(path)
        self._stream: InputStream | None = None
        self._entries: Iterator[list[bytes]] = iter(())
        if exists(path):
            self._stream = InputStream(str(path))
            self._entries = entries(self._stream, longest_record(options))
            next(self._entries, None)  # the header

    def take(self, reject: Reject) -> None:
        """Raise Difference where a row that was left out is not the next one of the file."""
        location = Location(line=reject.line)
        if self._stream is None:
            raise Difference(
                f"this row was left out, and there is no {self._name} to name it", location
            )
        entry = next(self._entries, None)
        place = [str(reject.line).encode(), str(reject.byte_offset).encode()]
        if entry is None or entry[:2] != place:
            raise Difference(f"this row was left out, and {self._name} does not name it", location)
        if entry[3:] != [reject.raw]:
            raise Difference(f"{self._name} has another row in its place", location)

    def finish(self) -> None:
        """Raise Difference if the file names more rows."""
        if next(self._entries, None) is not None:
            raise Difference(f"{self._name} names rows that can be read")

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()


def entries(stream: InputStream, longest: int) -> Iterator[list[bytes]]:
    """Yield the fields of each record of a rejects file.

    Raises Difference for one that is damaged.
    """
    dialect = Dialect()
    with as_difference():
        for run in scan(stream, dialect, max_record_bytes=longest, name="the rejects file"):
            for n in range(len(run)):
                one = run.slice(n, n + 1)
                yield [dialect.unquote(one.fields(c)[0]) for c in range(int(one.field_counts[0]))]
