"""Propose what to type for a CSV whose text column was not found: all options in one line."""

from dataclasses import replace

from batchsent.formats.csv_fields import FieldDecoder
from batchsent.formats.dialects import DELIMITERS, find_encoding, guess_dialect
from batchsent.formats.reading import ReadOptions, list_columns
from batchsent.formats.records import Dialect
from batchsent.formats.splitting import split
from batchsent.formats.streams import WIDE
from batchsent.formats.text_names import (
    LOOKED_AT,
    flag_for,
    likely_text_column,
    names_of_text,
    text_columns,
    why_likely,
)


def propose(
    head: bytes, dialect: Dialect, encoding: str, options: ReadOptions, name: str
) -> tuple[str, list[str]] | None:
    r"""Return what to type for a file that begins with `head`, and its columns if that is done.

    `dialect` and `encoding` are those that did not serve; None where they seem right.

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
    if not flags:
        return None
    columns, values = _table(head, dialect, "utf-8" if encoding in WIDE else encoding)
    wanted, usual = names_of_text(options), text_columns(columns)
    why = ""
    if wanted and not set(wanted) <= set(columns) and len(usual) == 1:
        flags.append(flag_for(columns[usual[0]]))
    elif not (wanted and set(wanted) <= set(columns)) and len(usual) != 1:
        found = likely_text_column(values)
        if found is None:
            flags.append("--text-column NAME")
            why = f"the columns are {list_columns(columns)}: "
        else:
            flags.append(flag_for(found))
            why = why_likely(found)
    return f"{why}add {' '.join(flags)}", columns


def _guess(head: bytes, like: Dialect) -> Dialect:
    """Return the dialect that rows of equal width have, else the one of a header in one piece."""
    guessed = guess_dialect(head, like)
    header = split(head, like, at_end=True).slice(0, 1).fields(0)[0]
    most = max(DELIMITERS, key=header.count)
    if guessed.delimiter == like.delimiter and header.count(most) > header.count(like.delimiter):
        return replace(like, delimiter=most)
    return guessed


def _table(head: bytes, dialect: Dialect, encoding: str) -> tuple[list[str], dict[str, list[str]]]:
    """Return the names in the first record, and the values of each column below it."""
    found = split(head, dialect, at_end=len(head) < 64 << 10)
    width = int(found.field_counts[0])
    rows = 1
    while rows < min(len(found), 1 + LOOKED_AT) and found.field_counts[rows] == width:
        rows += 1
    same = found.slice(0, rows)
    decoder = FieldDecoder(dialect, encoding)
    table = [decoder.texts(same.fields(position)) for position in range(width)]
    return [column[0] for column in table], {column[0]: column[1:] for column in table}
