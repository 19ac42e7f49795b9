"""Propose what to type for a CSV whose text column was not found: all options in one line."""

from dataclasses import replace

from batchsent.formats.csv_fields import FieldDecoder
from batchsent.formats.dialects import DELIMITERS, find_encoding, guess_dialect
from batchsent.formats.reading import ReadOptions, list_columns
from batchsent.formats.records import Dialect
from batchsent.formats.splitting import split
from batchsent.formats.streams import WIDE
from batchsent.formats.text_names import has_text_word, names_of_text, text_columns
from batchsent.text import printable

MOST_ROWS = 100  # rows whose values are looked at
CLEARLY_LONGER = 2  # how many times longer the values of the text column are than all others


def propose(
    head: bytes, dialect: Dialect, encoding: str, options: ReadOptions, name: str
) -> tuple[str, list[str]] | None:
    r"""Return what to type for a file that begins with `head`, and its columns if that is done.

    `dialect` and `encoding` are those that did not serve; None where nothing better is known.

    ``Kunde;Bewertung\n...`` -> ``add --delimiter ';' --encoding cp1252 --text-column 'Bewertung'``
    """
    flags = []
    if options.delimiter is None:
        guessed = _guess(head, dialect)
        if guessed.delimiter != dialect.delimiter:
            dialect = guessed
            typed = {b"\t": "\\t"}.get(dialect.delimiter, dialect.delimiter.decode())
            flags.append(f"--delimiter '{typed}'")
    if encoding == "utf-8":
        encoding = find_encoding(head, "auto", name)
        if encoding != "utf-8":
            flags.append(f"--encoding {encoding}")
    if options.no_header:
        return None
    columns, values = _table(head, dialect, "utf-8" if encoding in WIDE else encoding)
    wanted, usual = names_of_text(options), text_columns(columns)
    if not flags and (wanted or usual or any(map(has_text_word, columns))):
        return None
    why = ""
    if wanted and not set(wanted) <= set(columns) and len(usual) == 1:
        flags.append(f"--text-column '{columns[usual[0]]}'")
    elif not (wanted and set(wanted) <= set(columns)) and len(usual) != 1:
        found = likely_text_column(columns, values)
        if found is not None:
            shown = printable(columns[found])
            flags.append(f"--text-column '{shown}'")
            if not has_text_word(columns[found]):
                why = f"the longest values are in {shown}: "
        elif flags:
            flags.append("--text-column NAME")
            why = f"the columns are {list_columns(columns)}: "
    return (f"{why}add {' '.join(flags)}", columns) if flags else None


def _guess(head: bytes, like: Dialect) -> Dialect:
    """Return the dialect that rows of equal width have, else the one of a header in one piece."""
    guessed = guess_dialect(head, like)
    header = split(head, like, at_end=True).slice(0, 1).fields(0)[0]
    most = max(DELIMITERS, key=header.count)
    if guessed.delimiter == like.delimiter and header.count(most) > header.count(like.delimiter):
        return replace(like, delimiter=most)
    return guessed


def _table(head: bytes, dialect: Dialect, encoding: str) -> tuple[list[str], list[list[str]]]:
    """Return the names in the first record, and the values of each column below it."""
    found = split(head, dialect, at_end=len(head) < 64 << 10)
    width = int(found.field_counts[0])
    rows = 1
    while rows < min(len(found), 1 + MOST_ROWS) and found.field_counts[rows] == width:
        rows += 1
    same = found.slice(0, rows)
    decoder = FieldDecoder(dialect, encoding)
    table = [decoder.texts(same.fields(position)) for position in range(width)]
    return [column[0] for column in table], [column[1:] for column in table]


def likely_text_column(columns: list[str], values: list[list[str]]) -> int | None:
    """Return the only column with text or review in its name, else the one with long values."""
    named = [n for n, column in enumerate(columns) if has_text_word(column)]
    if len(named) == 1:
        return named[0]
    lengths = [sum(map(len, column)) for column in values]
    longest = max(range(len(lengths)), key=lengths.__getitem__)
    others = max((size for n, size in enumerate(lengths) if n != longest), default=0)
    return longest if lengths[longest] > CLEARLY_LONGER * others else None
