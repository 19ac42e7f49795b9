"""CSV as tests hold it against the output: ugly inputs, what they mean, and what scoring adds."""

import csv
import io

import pyarrow as pa

from batchsent.formats.records import Dialect
from batchsent.formats.splitting import split
from tests.hash_model import expected

UGLY = [
    ("A01 leading zeros, exponents, dates", b"id,text\n007,a\n1e5,0.10\n2024-01-02,b\n"),
    ("A02 empty and quoted empty", b'id,text\n,a\n"",b\n'),
    ("A03 NA and null as texts", b"id,text\n1,NA\n2,null\n3,None\n4,nan\n"),
    ("A04 line ends inside quotes", b'id,text\r\n1,"a\r\nb"\r\n2,"c\nd"\r\n3,"e\rf"\r\n'),
    ("A06 mixed line ends", b"id,text\r\n1,a\n2,b\r3,c\r\n"),
    ("A08 no line end at the end", b"id,text\n1,a"),
    ("A09 header only", b"id,text\n"),
    ("A09 header only, no line end", b"id,text"),
    ("A12 blank lines between rows", b"\nid,text\n\n1,a\n\r\n2,b\n\n\n"),
    ("A18 text behind a closing quote", b'id,text\n1,"ab"cd\n2,"x"\n'),
    ("A18 a quote inside an unquoted field", b'id,text\n1,5" nail\n2,b\n'),
    ("B01 byte order mark", b"\xef\xbb\xbfid,text\n1,a\n"),
    ("B03 latin-1 bytes", b"id,text\n1,caf\xe9\n2,\xff\xfe\n"),
    ("B07 NUL bytes", b"id,text\n1,a\x00b\n"),
    ("B09 nothing to read", "id,text\n1,\n2,   \n3,\u200b\n4,\u00a0\n".encode()),
    ("B10 emoji, overrides, combining", "id,text\n1,👩‍👩‍👧 \u202eabc\n2,e\u0301\u0301\n".encode()),
    ("B14 html", b"id,text\n1,a<br /><br />b\n"),
    ("one column", b"text\na\nb\n"),
    ("H09 formulas", b"id,text\n1,=1+1\n2,@x\n3,-5\n"),
]


def score_cells(text):
    """What CSV shows of a text's label and score."""
    label, score = expected(text)
    return ["", ""] if label is None else [label, pa.array([score]).cast(pa.string())[0].as_py()]


def without_new_fields(out):
    """Take the last two fields out of every record."""
    found = split(out, Dialect(), at_end=True)
    for n in reversed(range(len(found))):
        start = int(found.field_ends[found.field_offsets[n + 1] - 3])
        out = out[:start] + out[int(found.ends[n]) :]
    return out


def as_csv_reads(data, **dialect):
    """The same through Python's csv module, which skips blank lines in the same way."""
    text = data.decode("latin-1")
    reader = csv.reader(io.StringIO(text, newline=""), **dialect)
    return [[cell.encode("latin-1") for cell in row] for row in reader if row]
