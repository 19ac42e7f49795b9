"""Bytes in and out: files, URLs, stdin, stdout, gzip and zstd by suffix, encodings."""

import codecs
import contextlib
import gzip
import io
import zlib
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from batchsent.errors import InputError, UsageError, reason
from batchsent.formats.objects import ObjectBytes, find_object
from batchsent.formats.stored_bytes import StoredBytes, open_file
from batchsent.text import printable
from batchsent.urls import file_name, is_url

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst"}
# Encodings in which every byte below 0x40 stands for its ASCII character, wherever it occurs: the
# structure of a CSV file can be read from the bytes, and nothing is ever re-encoded. (Trail bytes
# begin at 0x40, in GB 18030 at 0x30, and all CSV delimiters but | and \ are below.)
MULTIBYTE = {
    "big5",
    "big5hkscs",
    "cp932",
    "cp949",
    "cp950",
    "euc_jp",
    "euc_kr",
    "gb18030",
    "gb2312",
    "gbk",
    "shift_jis",
}
# A size may come from a damaged file, so memory is taken for what is there, piece by piece.
LARGEST_READ = 16 << 20
WIDE = {"utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"}
BOMS = [
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
]


def compression_of(path: str | Path) -> str | None:
    """Return gzip or zstd where the last suffix says so."""
    return COMPRESSIONS.get(Path(file_name(str(path))).suffix.lower())


class InputStream(io.RawIOBase):
    """A file, an object named by a URL, or stdin: decompressed by suffix, hashed as it is stored.

    `size` and `sha256` are those of the stored bytes read so far. Raises InputError for what cannot
    be read.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.name = "stdin" if path == "-" else printable(path)
        self.compression = None if path == "-" else compression_of(path)
        self._begin(ObjectBytes(find_object(path)) if is_url(path) else open_file(path, self.name))

    def _begin(self, stored: StoredBytes) -> None:
        """Read from the start of `stored` from now on."""
        self._stored = stored
        self._peeked = b""  # read to look at, not given to a reader yet
        self._stream: Any = stored
        if self.compression == "gzip":
            self._stream = gzip.GzipFile(fileobj=stored, mode="rb")
        elif self.compression == "zstd":
            self._stream = pa.CompressedInputStream(pa.PythonFile(stored, mode="r"), "zstd")

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end; they are read again by `read`."""
        if len(self._peeked) < size:
            self._peeked = self.read(size)
        return self._peeked[:size]

    def rewind(self) -> None:
        """Start over at the first byte of a regular file; its size and hash start over too."""
        before, self._stored = self._stored, self._stored.reopened()
        self._begin(self._stored)
        # A decompressor of before may close what it reads from at any time; it is another file now.
        before.close()

    @property
    def size(self) -> int:
        """Stored bytes read so far."""
        return self._stored.size

    @property
    def version(self) -> str | None:
        """What tells an object from a changed one; None for files, and where a store tells none."""
        return self._stored.version

    @property
    def sha256(self) -> str:
        """SHA-256 of the stored bytes read so far, in hex."""
        return self._stored.hash.hexdigest()

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes; fewer only at the end."""
        pieces, wanted = [], size
        if self._peeked:
            pieces = [self._peeked if size < 0 else self._peeked[:size]]
            self._peeked = self._peeked[len(pieces[0]) :]
            wanted = -1 if size < 0 else size - len(pieces[0])
        try:
            while wanted:
                piece = self._stream.read(min(wanted, LARGEST_READ))
                if not piece:
                    break
                pieces.append(piece)
                wanted = wanted - len(piece) if size >= 0 else -1
        except (EOFError, zlib.error, gzip.BadGzipFile, pa.ArrowInvalid) as error:
            raise self._damaged(error) from error
        except OSError as error:
            if self.compression == "zstd" and error.errno is None:
                raise self._damaged(error) from error
            raise InputError(f"{self.name}: cannot be read: {reason(error)}") from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _damaged(self, error: Exception) -> InputError:
        return InputError(
            f"{self.name}: damaged {self.compression} data near byte {self.size:,}: "
            f"{printable(error)}",
            hint="copy the file again from where it came from",
        )

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._stored.close()
        super().close()


def check_compressed_name(head: bytes, stream: InputStream) -> None:
    """Refuse compressed bytes under a name without their suffix. Raises InputError."""
    for magic, suffix in MAGIC.items():
        if head.startswith(magic):
            hint = f"rename the file so that it ends in {suffix}"
            if stream.path == "-":
                hint = "decompress the stream first"
            elif is_url(stream.path):
                hint = f"download it under a name that ends in {suffix}"
            raise InputError(f"{stream.name}: these are {COMPRESSIONS[suffix]} bytes", hint=hint)


class OutputFile(Protocol):
    """Where a format's bytes go: a file that appears whole, or stdout."""

    size: int

    @property
    def sha256(self) -> str:
        """SHA-256 of what was written, in hex."""

    def write(self, data: Any, /) -> int:
        """Write all of `data`."""


class Compressed(io.RawIOBase):
    """A writer that compresses into `file` by the suffix of `path`.

    Closing it leaves `file` open.
    """

    def __init__(self, file: Any, path: str) -> None:
        super().__init__()
        compression = compression_of(path)
        if compression == "gzip":
            # No name and no time in the header: the same rows give the same bytes.
            self._stream: Any = gzip.GzipFile(
                filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0
            )
        elif compression == "zstd":
            self._stream = pa.CompressedOutputStream(
                pa.PythonFile(_KeepOpen(file), mode="w"), "zstd"
            )
        else:
            self._stream = None
        self._file = file

    def writable(self) -> bool:
        """Say that it is a file to write to."""
        return True

    def write(self, data: Any) -> int:
        """Write all of `data`."""
        (self._file if self._stream is None else self._stream).write(data)
        return len(memoryview(data).cast("B"))

    def finish(self) -> None:
        """Write what the compressor still holds, and its trailer."""
        if self._stream is not None:
            self._stream.close()


class _KeepOpen(io.RawIOBase):
    """A file that arrow may close without closing the one below."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._file.tell())

    def write(self, data: Any) -> int:
        return int(self._file.write(data))


def canonical_encoding(name: str) -> str:
    """Return Python's name of an encoding that CSV files may have.

    Raises UsageError for one that does not exist or whose bytes cannot be read as CSV without
    changing them.
    """
    try:
        canonical = codecs.lookup(name).name
    except LookupError as error:
        raise UsageError(
            f"--encoding {printable(name)}: no such encoding",
            hint="for instance utf-8, latin-1, cp1252, shift_jis, utf-16",
        ) from error
    if canonical in {"utf-8", "utf-8-sig", "ascii"}:
        return "utf-8"
    if canonical in MULTIBYTE or canonical in WIDE:
        return canonical
    every_byte = bytes(range(256))
    with contextlib.suppress(UnicodeError, LookupError, TypeError):
        text = every_byte.decode(canonical, "replace")
        if (
            isinstance(text, str)
            and len(text) == 256
            and text[:128] == every_byte[:128].decode("ascii")
        ):
            return canonical
    raise UsageError(
        f"--encoding {printable(name)}: its bytes cannot be copied unchanged",
        hint="convert the file to utf-8 first, with iconv for instance",
    )


class Transcoded(io.RawIOBase):
    """A UTF-16 or UTF-32 stream read as UTF-8, without loss: what is not valid is refused.

    Raises InputError.
    """

    def __init__(self, stream: InputStream, encoding: str, buffered: bytes = b"") -> None:
        super().__init__()
        self._stream, self._buffered, self._name = stream, buffered, stream.name
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self._ended = False

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return about `size` bytes, none at the end."""
        while not self._ended:
            data, self._buffered = self._buffered or self._stream.read(max(size, 4096)), b""
            self._ended = not data
            try:
                text = self._decoder.decode(data, final=self._ended)
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{self._name}: not valid {error.encoding}: {error.reason}"
                ) from error
            if text:
                return text.encode("utf-8")
        return b""
