"""K14: memory that runs out ends a run with a plain error that says what to lower, never as a bug."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.errors import DeviceError, InputError
from batchsent.formats import open_source
from batchsent.memory import memory_errors, shortage
from tests.children import run

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("limit_kb", [300_000, 600_000, 1_000_000, 1_400_000])
def test_k14_a_limit_that_leaves_no_room_for_the_libraries_is_told(tmp_path, limit_kb):
    """K14: under `ulimit -v` numpy's OpenBLAS would kill the process, scipy's would wait for ever."""
    (tmp_path / "in.csv").write_text("text\ngood\n")
    command = f"ulimit -v {limit_kb}; exec {sys.executable} -m batchsent batch in.csv -o out.csv"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 7, done.stderr
    assert "leaves less than" in done.stderr
    assert "ulimit -v unlimited" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.csv").exists()


def test_k14_help_needs_no_room(tmp_path):
    """K14: `batchsent --help` loads no library, so it works under a limit that nothing else does."""
    command = f"ulimit -v 200000; exec {sys.executable} -m batchsent --help"
    assert (
        subprocess.run(
            ["bash", "-c", command], cwd=ROOT, capture_output=True, timeout=60
        ).returncode
        == 0
    )


def limit_to(megabytes):
    """Leave this much address space beyond what the process has."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (megabytes << 20),) * 2)


def limit_to_150():
    limit_to(150)


def limit_to_250():
    limit_to(250)


@pytest.fixture(scope="module")
def long_dump(tmp_path_factory):
    """One review of 60 MB, as CSV and as Parquet.

    What fails is then an allocation of megabytes. Where the last kilobytes are gone, glibc ends
    the process itself ("cannot allocate memory for thread-local data").
    """
    folder = tmp_path_factory.mktemp("long")
    text = "good film " * (6 << 20)
    (folder / "in.csv").write_text(f"text\ngood\n{text}\n")
    pq.write_table(pa.table({"text": ["good", text]}), folder / "in.parquet")
    return folder


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("setup", [limit_to_150, limit_to_250])
def test_k14_memory_that_runs_out_in_a_run_is_a_plain_error(long_dump, tmp_path, suffix, setup):
    """K14: wherever it runs out, the run ends with 7, leaves no output, and can be finished with
    more memory.
    """
    arguments = [
        long_dump / f"in.{suffix}",
        "-o",
        f"out.{suffix}",
    ]
    if suffix == "csv":
        arguments += ["--max-field-bytes", 1_000_000_000]
    code, stderr = run(arguments, tmp_path, setup=setup)
    assert code == 7, stderr
    assert "there is not enough memory" in stderr
    assert "--chunk-rows" in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / f"out.{suffix}").exists()
    failed = tmp_path / f"out.{suffix}.summary.failed.json"
    assert not failed.exists() or json.loads(failed.read_bytes())["exit_code"] == 7
    assert run(arguments, tmp_path)[0] == 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        pa.ArrowMemoryError("malloc of size 64 failed"),
        RuntimeError("can't start new thread"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(12, "Cannot allocate memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you "
            "tried ..."
        ),
        RuntimeError("could not create a primitive"),
        RuntimeError("std::bad_alloc"),
    ],
    ids=repr,
)
def test_k14_what_libraries_say_of_memory_is_understood(error):
    """K14: Python, Arrow, the loader, the kernel, PyTorch and oneDNN each have words of their own
    for it.
    """
    with pytest.raises(DeviceError, match="there is not enough memory") as raised, memory_errors():
        raise error
    assert "--batch-tokens" in raised.value.hint


@pytest.mark.parametrize(
    "error",
    [RuntimeError("shape mismatch"), ImportError("no module x"), OSError(2, "x"), InputError("x")],
)
def test_other_errors_stay_what_they_are(error):
    """A mistake of ours is still reported as one."""
    assert shortage(error) is None
    with pytest.raises(type(error)), memory_errors():
        raise error


def test_k14_a_damaged_file_that_asks_for_more_than_the_machine_has_is_damaged(tmp_path):
    """K14: the size of a buffer in a damaged Arrow stream is the file's fault, exit 4."""
    batch = pa.record_batch({"text": ["a good film", "a bad one"]})
    with pa.ipc.new_stream(
        tmp_path / "in.arrows", batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
    ) as w:
        w.write_batch(batch)
    raw = (tmp_path / "in.arrows").read_bytes()
    # A compressed buffer begins with its size when it is unpacked, before zstd's own mark.
    at = raw.index(b"\x28\xb5\x2f\xfd") - 8
    (tmp_path / "in.arrows").write_bytes(raw[:at] + (1 << 60).to_bytes(8, "little") + raw[at + 8 :])
    source = open_source(str(tmp_path / "in.arrows"))
    with pytest.raises(
        InputError, match="damaged Arrow stream: malloc of size 1152921504606846976 failed"
    ):
        list(source.chunks())
