"""Numbers by text, in a table on the disk: a hundred million texts in bounded memory.

A text is known by the first 128 bits of its BLAKE2b hash. The table is made in one pass: its
entries go into buckets by the beginning of their hash, and each bucket is sorted by itself. So at
most a 64th of a large table is sorted in memory, and afterwards the system keeps what it has room
for.
An entry has 21 bytes and 4 for each number: a hundred million texts with two labels take 2.9 GB.

The files have no name, so nothing is left of them however the process ends.
"""

import hashlib
import mmap
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

# 1.6 million entries a bucket of a hundred million; more files at once are not always allowed.
MOST_BUCKETS = 64
BUCKET_ROWS = 500_000
# Of a file's name on a system where it has one for a moment.
PREFIX = "texts-"
# How many entries are looked through together for those that were never marked.
BLOCK = 1 << 20

Block = tuple[Sequence[str], NDArray[np.float32]]  # texts (rows,) and their numbers (rows, width)


def keys_of(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Return (texts, 2) the hash of each text, as two numbers."""
    hashes = b"".join(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        for text in texts
    )
    return np.frombuffer(hashes, "<u8").reshape(-1, 2)


class TextTable:
    """The numbers of texts, found by text.

    `blocks` are the rows, `width` how many numbers each has, `rows` about how many there are. Of
    rows with the same text the first counts. The files are in `folder`, None for the system's
    folder of temporary files. Raises OSError.
    """

    def __init__(
        self, blocks: Iterable[Block], width: int, *, rows: int, folder: Path | None = None
    ) -> None:
        self._folder, self.rows = folder, 0
        entry = np.dtype([("key", "<u8", (2,)), ("numbers", "<f4", (width,))])
        high, low, numbers, counts = files = [self._file() for _ in range(4)]
        for found in self._buckets(
            blocks, entry, min(MOST_BUCKETS, 1 + max(0, rows) // BUCKET_ROWS)
        ):
            # Stable, so that the first of equal texts stays the first.
            bucket = found[np.lexsort((found["key"][:, 1], found["key"][:, 0]))]
            differs = (bucket["key"][1:] != bucket["key"][:-1]).any(axis=1)
            first = np.flatnonzero(np.append(len(bucket) > 0, differs))
            key = bucket["key"][first]
            rows_of = np.diff(first, append=len(bucket)).astype("<u4")
            columns = (key[:, 0], key[:, 1], bucket["numbers"][first], rows_of)
            for file, values in zip(files, columns, strict=True):
                file.write(values.tobytes())
            self.rows += len(bucket)
        self._high, self._low = _mapped(high, "<u8"), _mapped(low, "<u8")
        self._numbers = _mapped(numbers, "<f4").reshape(-1, width)
        self._counts = _mapped(counts, "<u4")
        # Written out, since a hole of a sparse file cannot be filled on a full disk.
        marks = self._file()
        for start in range(0, len(self._high), BLOCK):
            marks.write(bytes(min(BLOCK, len(self._high) - start)))
        self._marks = _mapped(marks, "u1")

    def _file(self) -> IO[bytes]:
        return tempfile.TemporaryFile(prefix=PREFIX, dir=self._folder)

    def _buckets(
        self, blocks: Iterable[Block], entry: np.dtype[Any], number: int
    ) -> Iterable[NDArray[Any]]:
        """Yield the entries of each bucket, the buckets in the order of their hashes."""
        files = [self._file() for _ in range(number)]
        for texts, numbers in blocks:
            entries = np.empty(len(texts), entry)
            entries["key"], entries["numbers"] = keys_of(texts), numbers
            bucket_of = (entries["key"][:, 0] >> np.uint64(32)) * np.uint64(number)
            bucket_of >>= np.uint64(32)
            for bucket, file in enumerate(files):
                file.write(entries[bucket_of == bucket].tobytes())
        for file in files:
            file.seek(0)
            yield np.frombuffer(file.read(), entry)
            file.close()

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return (texts,) the entry of each text by its key (texts, 2), -1 where there is none."""
        # In order, neighbours are looked up in the same pages of the file.
        order = np.argsort(keys[:, 0], kind="stable")
        high, low = keys[order, 0], keys[order, 1]
        at = np.searchsorted(self._high, high).astype(np.int64)
        found = np.full(len(keys), -1, np.int64)
        left = np.arange(len(keys))
        # Once around, but where the first halves of two hashes are equal.
        while len(left):
            left = left[at[left] < len(self._high)]
            left = left[self._high[at[left]] == high[left]]
            same = self._low[at[left]] == low[left]
            found[order[left[same]]] = at[left[same]]
            left = left[~same]
            at[left] += 1
        return found

    def numbers(self, entries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return (entries, width) the numbers of some entries."""
        found: NDArray[np.float32] = self._numbers[entries]
        return found

    def mark(self, entries: NDArray[np.int64]) -> None:
        """Note that some entries were found."""
        self._marks[entries] = 1

    def unmarked_rows(self) -> int:
        """Return of how many rows the entry was never marked."""
        rows = 0
        for start in range(0, len(self._marks), BLOCK):
            span = slice(start, start + BLOCK)
            rows += int(self._counts[span][self._marks[span] == 0].sum())
        return rows


def _mapped(file: IO[bytes], kind: str) -> NDArray[Any]:
    """Return what was written to a file as an array that stays on the disk; closes the file."""
    with file:
        file.flush()
        size = file.tell()
        if not size:
            return np.zeros(0, kind)
        return np.frombuffer(mmap.mmap(file.fileno(), size), kind)
