"""Memory stays within a bound, whatever the input: bombs, endless lines, huge fields, huge row
groups.

Each case is a process of its own that tells the peak of its own memory, pages of mapped files not
counted: those the kernel drops when it needs to.
"""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[1]
CODE = """
import json, resource, sys, threading, time
from batchsent.errors import BatchsentError
from batchsent.commands.batch import batch
from tests.hash_model import HashModels
options = json.loads(sys.argv[3])
peak = 0
def sample():
    global peak
    while True:
        peak = max(peak, next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")))
        time.sleep(0.01)
threading.Thread(target=sample, daemon=True).start()
resource.setrlimit(resource.RLIMIT_NOFILE, (options.pop("files", 1024),) * 2)
try:
    code, said = batch(sys.argv[1], sys.argv[2], models=HashModels(batch_rows=4096), **options)["exit_code"], ""
except BatchsentError as error:
    code, said = error.exit_code, str(error)
print(json.dumps([code, said, peak >> 10]))
"""
# A process that has everything imported holds 130 MB; a record of 64 MB, its offsets and copies
# take the rest.
BOUND_MB = 800

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak is read from /proc"
)


def peak(source, target, stdin=None, **options):
    """Exit code, message and peak memory in MB of scoring `source`."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, source, target, json.dumps(options)],
        cwd=ROOT,
        stdin=stdin,
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    return json.loads(done.stdout)


def piped(command, target, **options):
    """The same of what a shell command writes to a pipe."""
    with subprocess.Popen(
        ["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as producer:
        found = peak("-", target, stdin=producer.stdout, **options)
        producer.stdout.close()
    return found


def test_a27_ten_thousand_columns_are_fine_and_five_million_are_damage(tmp_path):
    """A header of 5 million fields is refused by the cap on columns."""
    (tmp_path / "in.csv").write_bytes(b"text" + b",c" * 5_000_000 + b"\n")
    code, said, megabytes = peak(tmp_path / "in.csv", tmp_path / "out.csv")
    assert (code, "columns, more than 65,536" in said) == (4, True)
    assert megabytes < BOUND_MB
    (tmp_path / "in.csv").write_bytes(
        b"text" + b",c" * 9_999 + b"\n" + (b"a" + b",1" * 9_999 + b"\n") * 100
    )
    assert peak(tmp_path / "in.csv", tmp_path / "out.csv")[0] == 0


def test_a29_a_field_beyond_the_cap_is_told_within_the_bound(tmp_path):
    """A field of 60 MB names its line; the cap is on one field, not on the file."""
    (tmp_path / "in.csv").write_bytes(b"text\nok\n" + b"x" * 60_000_000 + b"\nok\n")
    code, said, megabytes = peak(tmp_path / "in.csv", tmp_path / "out.csv")
    assert (code, "line 3: a field of 60,000,000 bytes" in said) == (4, True)
    assert megabytes < BOUND_MB


def test_a30_a_line_without_end_is_refused_within_the_bound(tmp_path):
    """`/dev/zero` as a CSV ends after some megabytes, not after all memory."""
    code, said, megabytes = piped("cat /dev/zero", tmp_path / "out.csv")
    assert (code, "line 1: a record longer than 67,108,864 bytes" in said) == (4, True)
    assert megabytes < BOUND_MB


def test_a17_a_quote_that_is_never_closed_is_told_within_the_bound(tmp_path):
    """However much follows it in a pipe."""
    code, said, megabytes = piped(
        "echo 'id,text'; echo '1,\"open'; yes 2,closed", tmp_path / "out.csv"
    )
    assert (code, "line 2: a quote opened on this line" in said) == (4, True)
    assert megabytes < BOUND_MB


def test_h14_a_gzip_bomb_hits_the_cap(tmp_path):
    """A hundred megabytes of zeros in a hundred kilobytes: the record's cap ends it."""
    with gzip.open(tmp_path / "in.csv.gz", "wb", compresslevel=9) as file:
        file.write(b"text\n")
        for _ in range(100):
            file.write(bytes(1 << 20))
    code, said, megabytes = peak(tmp_path / "in.csv.gz", tmp_path / "out.csv")
    assert (code, "line 2: a record longer" in said) == (4, True)
    assert megabytes < BOUND_MB


def test_i01_a_stream_is_read_in_constant_memory(tmp_path):
    """300,000 rows through a pipe peak like 100,000."""
    small = piped(
        "yes '1,some words of a review' | head -n 100000 | sed 1iid,text", tmp_path / "a.csv"
    )
    large = piped(
        "yes '1,some words of a review' | head -n 300000 | sed 1iid,text", tmp_path / "b.csv"
    )
    assert (small[0], large[0]) == (0, 0)
    assert large[2] < small[2] + 60


@pytest.mark.soak
def test_i01_two_gigabytes_are_read_in_constant_memory(tmp_path):
    """The same with 1,500 bytes a row."""
    line = "1," + "some words of a review " * 65
    found = piped(f"yes '{line}' | head -n 1400000 | sed 1iid,text", tmp_path / "b.csv")
    assert (found[0], found[2] < BOUND_MB) == (0, True)


@pytest.mark.parametrize(
    ("rows", "length"), [(500, 1 << 20), (150, 3 << 20)], ids=["1_mb_texts", "3_mb_texts"]
)
def test_c05_a_dictionary_bomb_is_read_in_small_pieces(tmp_path, rows, length):
    """One text of a megabyte, many times over, is a kilobyte of Parquet and half a gigabyte of
    rows.
    """
    column = pa.DictionaryArray.from_arrays(
        pa.array([0] * rows, pa.int32()), pa.array(["x" * length])
    )
    pq.write_table(
        pa.table({"text": column}).cast(pa.schema([("text", pa.string())])),
        tmp_path / "in.parquet",
        compression="zstd",
    )
    assert (tmp_path / "in.parquet").stat().st_size < 100_000
    code, said, megabytes = peak(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert code in {0, 4}, said
    assert megabytes < BOUND_MB


def test_c06_a_page_bomb_is_refused(tmp_path):
    """400 MB of one letter in zstd pages."""
    texts = pa.array(["y" * (1 << 20)] * 400)
    pq.write_table(
        pa.table({"text": texts}), tmp_path / "in.parquet", compression="zstd", use_dictionary=False
    )
    code, said, megabytes = peak(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert (code, "would become 4" in said) == (4, True)
    assert megabytes < BOUND_MB


def test_c04_a_huge_row_group_waits_on_disk(tmp_path):
    """A row group of 256 MB of random text comes out as one row group, without lying in memory."""
    import numpy as np

    letters = np.random.default_rng(1).integers(97, 123, 256 << 20, np.uint8)
    offsets = pa.py_buffer(np.arange(0, (256 << 20) + 1, 2000, dtype=np.int32))
    rows = (256 << 20) // 2000
    texts = pa.Array.from_buffers(pa.string(), rows, [None, offsets, pa.py_buffer(letters)])
    table = pa.table({"n": pa.array(range(rows), pa.int32()), "text": texts})
    pq.write_table(
        table,
        tmp_path / "in.parquet",
        row_group_size=rows,
        use_dictionary=False,
        compression="none",
    )
    code, said, megabytes = peak(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert code == 0, said
    assert megabytes < BOUND_MB
    out = pq.ParquetFile(tmp_path / "out.parquet")
    assert out.num_row_groups == 1
    assert pq.read_table(tmp_path / "out.parquet", columns=["n", "text"]).equals(table)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "in.parquet",
        "out.parquet",
        "out.parquet.summary.json",
    ]


def test_i08_few_file_descriptors_are_enough(tmp_path):
    """`ulimit -n 64` is no trouble."""
    (tmp_path / "in.csv").write_text("text\n" + "a\n" * 1000)
    assert peak(tmp_path / "in.csv", tmp_path / "out.parquet", files=64)[0] == 0


def test_i07_the_summary_does_not_grow_with_the_rows(tmp_path):
    """Ten times the rows, the same size of summary but for some digits."""
    sizes = []
    for rows in (1_000, 10_000):
        (tmp_path / "in.csv").write_text("text\n" + "".join(f"row {n}\n" for n in range(rows)))
        peak(tmp_path / "in.csv", tmp_path / f"{rows}.csv")
        sizes.append((tmp_path / f"{rows}.csv.summary.json").stat().st_size)
    assert sizes[1] < sizes[0] + 400
