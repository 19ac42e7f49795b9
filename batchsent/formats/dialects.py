"""How the bytes of a CSV are read: its encoding and its dialect, given or detected."""

import codecs

from batchsent.errors import InputError, UsageError
from batchsent.formats.reading import ReadOptions
from batchsent.formats.records import Dialect
from batchsent.formats.splitting import split
from batchsent.formats.streams import BOMS, MULTIBYTE, WIDE, canonical_encoding
from batchsent.text import printable

DELIMITERS = (b",", b";", b"\t", b"|")


def find_encoding(head: bytes, asked: str, name: str) -> str:
    """Return the encoding of a file that begins with `head`; `asked` may be auto.

    Raises InputError for a file that is plainly in another one, UsageError for one that cannot be
    read as CSV.
    """
    marked = next((found for mark, found in BOMS if head.startswith(mark)), None) or unmarked(head)
    if asked == "auto":
        if marked:
            return marked
        return "utf-8" if _is_utf8(head) else "cp1252"
    encoding = canonical_encoding(asked)
    if encoding == "utf-8" and marked:
        raise InputError(
            f"{name}: this looks like {marked[:6].upper()}, not UTF-8",
            hint=f"add --encoding {marked}",
        )
    # The mark tells the byte order, and is kept because it is decoded as the character it is.
    if marked and encoding in WIDE:
        return marked
    return f"{encoding}-le" if encoding in {"utf-16", "utf-32"} else encoding


def _is_utf8(head: bytes) -> bool:
    """Tell whether a file that begins with `head` can be UTF-8."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def is_utf8_read_as(encoding: str, head: bytes) -> bool:
    """Tell whether `head` has characters of UTF-8 that are read as others of a typed `encoding`.

    In cp1252 `schön` would be `schÃ¶n` then.
    """
    return encoding not in {"utf-8", *WIDE} and not head.isascii() and _is_utf8(head)


def unmarked(head: bytes) -> str | None:
    """Return the UTF-16 of a file without a mark: every other byte of its start is NUL."""
    zeros = "".join("0" if byte == 0 else "x" for byte in head[:4])
    return {"x0x0": "utf-16-le", "0x0x": "utf-16-be"}.get(zeros)


def find_dialect(head: bytes, options: ReadOptions, encoding: str, *, tabs: bool) -> Dialect:
    """Return the dialect that was asked for, its delimiter a tab where `tabs` says so.

    Auto looks at `head`. Raises UsageError for characters that cannot tell fields apart.
    """
    quote = one_byte("--quotechar", options.quotechar, encoding)
    escape = (
        None
        if options.escapechar is None
        else one_byte("--escapechar", options.escapechar, encoding)
    )
    if options.delimiter == "auto":
        return guess_dialect(head, Dialect(b",", quote, escape, options.skip_initial_space))
    typed = options.delimiter or ("\t" if tabs else ",")
    delimiter = one_byte("--delimiter", {"\\t": "\t", "tab": "\t"}.get(typed, typed), encoding)
    if len({delimiter, quote, escape} - {None}) < (2 if escape is None else 3):
        raise UsageError("--delimiter, --quotechar and --escapechar must differ")
    return Dialect(delimiter, quote, escape, options.skip_initial_space)


def one_byte(flag: str, character: str, encoding: str) -> bytes:
    """Return a dialect character as its byte.

    Raises UsageError where it has none, or no unmistakable one.
    """
    if len(character) != 1 or not character.isascii() or character in "\r\n":
        raise UsageError(f"{flag} {printable(character)}: one ASCII character is expected")
    if encoding in MULTIBYTE and ord(character) >= 0x40:
        raise UsageError(
            f"{flag} {printable(character)} can be half of a character in {encoding}",
            hint="convert the file to utf-8",
        )
    return character.encode()


def guess_dialect(head: bytes, like: Dialect) -> Dialect:
    """Return the dialect with the widest rows of equal width in the first 64 kB."""
    best, width = like, 1
    for delimiter in DELIMITERS:
        dialect = Dialect(delimiter, like.quotechar, like.escapechar, like.skip_initial_space)
        found = split(head, dialect, at_end=len(head) < 64 << 10)
        field_counts = set(found.field_counts.tolist())
        if len(field_counts) == 1 and not found.problems and (this := field_counts.pop()) > width:
            best, width = dialect, this
    return best
