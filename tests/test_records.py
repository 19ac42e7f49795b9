"""Records are found exactly: against Python's csv module, byte for byte, however the file is cut
into pieces.
"""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchsent.errors import InputError
from batchsent.formats.records import Dialect
from batchsent.formats.splitting import scan, split
from tests.csv_cases import as_csv_reads
from tests.dribble import Dribble

ALPHABET = st.text(alphabet='ab,"\r\n ;\\', max_size=40).map(lambda text: text.encode())


def values(found, dialect):
    """The fields of every record, unquoted."""
    rows = []
    for n in range(len(found)):
        one = found.slice(n, n + 1)
        rows.append(
            [dialect.unquote(one.fields(column)[0]) for column in range(int(one.field_counts[0]))]
        )
    return rows


@given(ALPHABET)
@example(b'"ab"cd,"x""y"\r\n')
@example(b'5" nail,a\n"b,\n",c')
@example(b'"a\r\nb",c\r\r\n\rd')
@example(b'""abc"",x\n')
@settings(max_examples=1500, deadline=None)
def test_reads_what_the_csv_module_reads(data):
    """Values and number of records are those of csv.reader for any bytes at all."""
    assert values(split(data, Dialect(), at_end=True), Dialect()) == as_csv_reads(data)


@given(ALPHABET)
@settings(max_examples=500, deadline=None)
def test_skip_initial_space_is_the_csv_modules(data):
    """Spaces behind a delimiter are skipped as csv.reader(skipinitialspace=True) does."""
    dialect = Dialect(skip_initial_space=True)
    ours, theirs = (
        values(split(data, dialect, at_end=True), dialect),
        as_csv_reads(data, skipinitialspace=True),
    )
    # A line of spaces only is no row for csv.reader here; for us it is one empty field, so that no
    # byte is lost.
    assert [row for row in ours if row != [b""]] == [row for row in theirs if row != [b""]]


@given(
    ALPHABET.filter(
        lambda data: not data.endswith(b"\\") and b"\\\r" not in data and b"\\\n" not in data
    )
)
@settings(max_examples=800, deadline=None)
def test_escape_characters_are_the_csv_modules(data):
    """Escape characters mean what csv.reader makes of them."""
    dialect = Dialect(escapechar=b"\\")
    assert values(split(data, dialect, at_end=True), dialect) == as_csv_reads(data, escapechar="\\")


@given(ALPHABET, st.integers(1, 7), st.integers(1, 9))
@settings(max_examples=800, deadline=None)
def test_pieces_do_not_matter(data, step, block):
    """However the bytes arrive, the records are the same and the runs cover every byte once."""
    stream = Dribble(data, step)
    runs = list(scan(stream, Dialect(), max_record_bytes=1 << 20, block_bytes=block))
    assert b"".join(run.data[run.begin : run.stop] for run in runs) == data
    rows = [row for run in runs for row in values(run, Dialect())]
    assert rows == values(split(data, Dialect(), at_end=True), Dialect())
    lines = [run.line(int(start)) for run in runs for start in run.starts]
    whole = split(data, Dialect(), at_end=True)
    assert lines == [whole.line(int(start)) for start in whole.starts]


@given(ALPHABET, st.integers(1, 7), st.integers(1, 9))
@settings(max_examples=400, deadline=None)
@example(b"id,text\n1,foo\\", 1, 1)
def test_pieces_do_not_matter_with_an_escape_character(data, step, block):
    """An escape character at the end of a piece waits for what it escapes.

    At the end of the file it is a problem.
    """
    dialect = Dialect(escapechar=b"\\")
    stream = Dribble(data, step)
    runs = list(scan(stream, dialect, max_record_bytes=1 << 20, block_bytes=block))
    whole = split(data, dialect, at_end=True)
    assert [row for run in runs for row in values(run, dialect)] == values(whole, dialect)
    assert sum(len(run.problems) for run in runs) == len(whole.problems)


def test_a_slice_keeps_blank_lines_with_the_record_behind_them():
    """Slices side by side give the bytes of the whole."""
    data = b"\na,b\n\r\n\nc,d\r\n\n"
    found = split(data, Dialect(), at_end=True)
    parts = [found.slice(0, 1), found.slice(1, 2)]
    assert [part.data[part.begin : part.stop] for part in parts] == [b"\na,b\n", b"\r\n\nc,d\r\n\n"]


def test_a_quote_that_is_never_closed_is_told_with_its_line():
    """The line named is the one that opened the quote, not the one the file ends on."""
    found = split(b'1,a\n2,"b\n3,c\n4,d\n', Dialect(), at_end=True)
    (problem,) = found.problems.values()
    assert (found.line(problem.offset), "never closed" in problem.what) == (2, True)


def test_a_missing_quote_that_swallows_a_line_is_told():
    """Two rows never become one in silence: text behind a closing quote on a later line is a
    problem.
    """
    found = split(b'1,"a\n2,"b"\n', Dialect(), at_end=True)
    (problem,) = found.problems.values()
    assert (found.line(problem.offset), "later one" in problem.what) == (1, True)


def test_text_behind_a_closing_quote_on_one_line_is_taken_as_it_is():
    """Python's csv module and spreadsheets read "ab"cd as abcd."""
    found = split(b'1,"ab"cd\n', Dialect(), at_end=True)
    assert values(found, Dialect()) == [[b"1", b"abcd"]]
    assert not found.problems


def test_a_record_without_end_stops_at_the_limit():
    """A file that is one endless line is refused within bounded memory."""

    class Endless:
        given = 0

        def read(self, size):
            self.given += size
            return b"x" * size

    stream = Endless()
    with pytest.raises(InputError, match="line 1: a record longer than 65,536 bytes"):
        list(scan(stream, Dialect(), max_record_bytes=1 << 16))
    assert stream.given < 1 << 18


@given(st.binary(max_size=20))
def test_quote_and_unquote_are_inverse(value):
    """What we write as a field reads back as it was."""
    for dialect in (Dialect(), Dialect(delimiter=b"\t"), Dialect(escapechar=b"\\")):
        assert dialect.unquote(dialect.quote(value)) == value
