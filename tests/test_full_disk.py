"""A disk that is full or has no fsync: true figures, nothing lost, no needless failure."""

import contextlib
import re
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.children import run

ROWS = "id,text\n" + "".join(f"{n},{'review ' * 20}{n}\n" for n in range(2000))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 kB and 24 inodes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=24", "tmpfs", folder],
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_k19_a_full_disk_is_told_with_what_is_free_and_what_is_needed(tmp_path, small_disk):
    """K19: exit 5, before the model loads where the output is a copy with more at the ends of its
    lines; with room made the same command ends well.
    """
    (tmp_path / "in.csv").write_text(ROWS)
    command = ["in.csv", "-o", "disk/out.csv", "--chunk-rows", "500"]
    code, stderr = run(command, tmp_path)
    found = re.search(r"([\d,]+) bytes are free; about ([\d,]+) bytes are needed", stderr)
    free, needed = (int(number.replace(",", "")) for number in found.groups())
    assert (code, needed) == (5, len(ROWS))
    assert 0 <= free <= 256 << 10
    assert list(small_disk.iterdir()) == []
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    assert run(command, tmp_path)[0] == 0


def test_k19_a_disk_that_fills_while_a_row_group_is_written_is_told(tmp_path, small_disk):
    """K19: a row group of Parquet is written while later rows come; exit 5, and no output."""
    texts = pa.array([f"{n} {n * n} {n * n * n}" * 10 for n in range(6_000)])
    pq.write_table(pa.table({"text": texts}), tmp_path / "in.parquet", row_group_size=500)
    command = ["in.parquet", "-o", "disk/out.parquet", "--chunk-rows", "500"]
    code, stderr = run(command, tmp_path)
    assert (code, "bytes are free" in stderr) == (5, True), stderr
    assert not (small_disk / "out.parquet").exists()
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    assert run(command, tmp_path)[0] == 0
    out = pq.ParquetFile(small_disk / "out.parquet")
    assert [out.metadata.row_group(n).num_rows for n in range(12)] == [500] * 12
    assert out.read(["text"])["text"].combine_chunks().equals(texts)


def test_k19_inodes_that_are_used_up_are_told_as_such(tmp_path, small_disk):
    """K19: there is room, and no file can be made."""
    (tmp_path / "in.csv").write_text("text\nshort\n")
    with contextlib.suppress(OSError):
        for number in range(100):
            (small_disk / str(number)).touch()
    code, stderr = run(["in.csv", "-o", "disk/out.csv"], tmp_path)
    assert (code, "all 24 inodes are in use" in stderr) == (5, True), stderr


@pytest.mark.parametrize("point", ["fsync", "fsync-directory"])
def test_k16_a_file_system_without_fsync_is_no_failure(tmp_path, point):
    """K16: the run completes, whichever of its files or folders cannot be made durable."""
    (tmp_path / "in.csv").write_text("text\nshort\n")
    for number in range(1, 8):
        env = {"BATCHSENT_FAULT": f"{point}:{number}:enotsup"}
        code, stderr = run(["in.csv", "-o", f"out{number}.csv", "-q"], tmp_path, env=env)
        assert (code, stderr) == (0, "")
        assert (tmp_path / f"out{number}.csv.summary.json").stat().st_size
