"""Several processes score one dump: the bytes of one process, whatever becomes of them."""

import json
import os
import signal
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from batchsent import batch
from batchsent.errors import DeviceError, ModelError, UsageError
from batchsent.model.device import choose_device
from batchsent.model.devices import choose_devices, equal_gpus, plans_of
from batchsent.model.machine import usable_cores
from batchsent.model.nvidia import DriverFiles
from batchsent.model.options import ModelOptions
from batchsent.model.pool import ProcessPlan, ProcessPool
from batchsent.model.pool_facts import merged_facts
from batchsent.run import stopped_processes
from batchsent.run.model_on_devices import ModelOnDevices
from batchsent.run.options import BatchOptions
from tests import spawned_targets as targets
from tests.children import Child, run, runs, wait_for
from tests.dump import make_dump
from tests.hash_model import HashModels, Models


def spawned_by(pid):
    """The processes that a process has spawned and that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.fixture
def dump(tmp_path):
    """Sixty rows in three chunks, and a command that scores them in two processes."""
    found = make_dump(tmp_path, "csv")
    found.command = [*found.command, "--processes", 2]
    return found


def start(dump):
    """Start the command, slowly; wait until both processes score; return it and their numbers."""
    child = Child(dump.command, dump.folder, batch_s=0.6)
    manifest = dump.folder / f"out.{dump.form}.batchsent" / "manifest.json"
    wait_for(manifest.exists)
    spawned = spawned_by(child.pid)
    assert len(spawned) == 2
    return child, spawned


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_bytes_are_those_of_one_process(tmp_path, form):
    """The summary says what each process has done; nothing is left beside the output."""
    dump = make_dump(tmp_path, form)
    code, stderr = run([*dump.command, "--processes", 2], dump.folder)
    assert (code, stderr) == (0, "")
    dump.check_finished()
    devices = json.loads(dump.summary.read_bytes())["device"]["devices"]
    assert [one["name"] for one in devices] == ["cpu", "cpu"]
    assert sum(one["rows"] for one in devices) == dump.expected_summary["rows"]["scored"]


def test_ctrl_c_says_what_it_says_with_one_process_and_keeps_the_work_of_both(dump):
    """A terminal sends it to all of them. One process resumes what two have begun."""
    child, spawned = start(dump)
    wait_for(lambda: list(dump.folder.glob("*.batchsent/part-*")))
    for pid in (child.pid, *spawned):
        os.kill(pid, signal.SIGINT)
    assert child.wait() == 130
    first, second = child.stderr.splitlines()
    assert first == "batchsent: stopped by SIGINT"
    assert "rows are scored and kept, long texts first: run the same command again" in second
    wait_for(lambda: not any(map(runs, spawned)))
    dump.check_invariant()
    code, _ = run(dump.command[:-2], dump.folder)
    assert code == 0
    assert json.loads(dump.summary.read_bytes())["run"]["resumed_rows"] >= 32
    dump.check_finished()


def test_a_process_that_is_killed_leaves_its_rows_to_the_other(dump):
    """The run ends well, and its summary says what happened."""
    child, (first, _) = start(dump)
    os.kill(first, signal.SIGKILL)
    assert child.wait() == 0
    dump.check_finished()
    (said,) = json.loads(dump.summary.read_bytes())["device"]["warnings"]
    assert f"(pid {first}) was ended by SIGKILL, as where memory is full; the others go on" in said


def test_without_any_process_left_the_run_ends_with_7_and_its_work_kept(dump):
    """The message says what ended the last one; the same command again finishes the work."""
    child, spawned = start(dump)
    wait_for(lambda: list(dump.folder.glob("*.batchsent/part-*")))
    for pid in spawned:
        os.kill(pid, signal.SIGKILL)
    assert child.wait() == 7
    assert "no process of this run is left: the process on cpu (pid" in child.stderr
    assert "was ended by SIGKILL" in child.stderr
    assert "run the same command again" in child.stderr
    dump.check_invariant()
    assert list(dump.folder.glob("*.batchsent/part-*"))
    dump.finish()


def test_processes_end_with_the_run_that_is_killed(dump):
    """Nobody scores for a run that is gone; the same command again finishes the work."""
    child, spawned = start(dump)
    child.process.kill()
    assert child.wait() == -signal.SIGKILL
    wait_for(lambda: not any(map(runs, spawned)))
    dump.finish()


def look_often():
    """In the child: tell of a stopped process after a second."""
    stopped_processes.LOOK_S, stopped_processes.LOOKS = 0.2, 5


def test_a_process_that_is_stopped_is_told_of_and_the_run_goes_on_as_told(dump):
    """One is continued, another killed: the warning names both ways, the bytes are the same."""
    child = Child(dump.command, dump.folder, batch_s=0.6, setup=look_often)
    wait_for((dump.folder / f"out.{dump.form}.batchsent" / "manifest.json").exists)
    first, second = spawned_by(child.pid)
    for pid in (first, second):
        os.kill(pid, signal.SIGSTOP)
    for pid in (first, second):
        wait_for(lambda pid=pid: f"(pid {pid}) is stopped (state T)" in child.stderr)
        assert f"`kill -CONT {pid}`" in child.stderr
        assert f"`kill -KILL {pid}`" in child.stderr
    os.kill(first, signal.SIGCONT)
    os.kill(second, signal.SIGKILL)
    assert child.wait() == 0
    assert child.stderr.count("is stopped") == 2
    dump.check_finished()


def scored_by(kind, folder, processes, texts):
    """Score some texts, one a chunk, by a kind of scorer in several processes."""
    (folder / "in.csv").write_text("text\n" + "\n".join(texts) + "\n")
    with closing(ProcessPool([ProcessPlan("cpu", kind)] * processes)) as pool:
        return batch(folder / "in.csv", folder / "out.csv", models=Models(pool), chunk_rows=1)


def test_rows_that_kill_three_processes_end_the_run(tmp_path):
    """A fourth one is not given them. The rows before them are kept."""
    with pytest.raises(DeviceError, match="3 processes of this run died on the same rows") as e:
        scored_by(targets.Killed, tmp_path, 4, ["one", "two", "poison"])
    assert "Where memory was full" in e.value.hint
    assert len(list((tmp_path / "out.csv.batchsent").glob("part-*"))) == 2


def test_errors_in_a_process_are_those_of_one_process(tmp_path):
    """While it loads the model and while it scores: message, hint and exit code."""
    with pytest.raises(ModelError, match=r"^no such model") as caught:
        ProcessPool([ProcessPlan("cpu", targets.unloadable)] * 2)
    assert (caught.value.hint, caught.value.exit_code) == ("look there", 6)
    with pytest.raises(DeviceError, match=r"^the device is gone") as caught:
        scored_by(targets.Failing, tmp_path, 2, ["one", "poison"])
    assert (caught.value.hint, caught.value.exit_code) == ("plug it in", 7)


def test_the_processes_live_for_all_inputs_of_a_command(tmp_path):
    """Each summary counts the rows of its own input."""
    inputs = []
    for n in (3, 5):
        inputs.append(tmp_path / f"in{n}.csv")
        inputs[-1].write_text("text\n" + "".join(f"review {i} of {n}\n" for i in range(n)))
    models = HashModels(processes=2)
    batch(inputs, tmp_path / "out", models=models, chunk_rows=1)
    with closing(models.pool):
        assert len(spawned_by(os.getpid())) >= 2
    for n in (3, 5):
        summary = json.loads((tmp_path / "out" / f"in{n}.csv.summary.json").read_bytes())
        assert sum(one["rows"] for one in summary["device"]["devices"]) == n


# --- which devices


def cuda(*gpus):
    """A stand-in for torch with these GPUs: names, and memory in GB."""
    properties = [
        SimpleNamespace(name=name, major=9, minor=0, total_memory=memory * 10**9)
        for name, memory in gpus
    ]
    return SimpleNamespace(
        cuda=SimpleNamespace(
            device_count=lambda: len(properties), get_device_properties=properties.__getitem__
        )
    )


H200, T4 = ("NVIDIA H200", 141), ("Tesla T4", 16)


def test_all_equal_gpus_are_used_and_others_are_named():
    """A display's GPU would give other last digits."""
    assert equal_gpus(cuda(H200, H200, H200), ()).names == ("cuda:0", "cuda:1", "cuda:2")
    found = equal_gpus(cuda(H200, T4, H200), ())
    assert found.names == ("cuda:0", "cuda:2")
    assert found.left_out == "not used: cuda:1 (Tesla T4) is not like cuda:0 (NVIDIA H200)"


def test_some_gpus_are_named():
    """Those that differ, or are not there, are refused."""
    assert equal_gpus(cuda(T4, H200, H200), (2, 1)).names == ("cuda:2", "cuda:1")
    with pytest.raises(UsageError, match=r"cuda:0 \(Tesla T4\) is not like cuda:1"):
        equal_gpus(cuda(T4, H200, H200), (1, 0, 2))
    with pytest.raises(DeviceError, match="there is no device cuda:3"):
        equal_gpus(cuda(H200), (0, 3))


@pytest.mark.parametrize(
    ("device", "processes", "said"),
    [
        ("cuda:0,0", 1, "names a GPU twice"),
        ("cuda:0,x", 1, "is not a device"),
        ("cuda:", 1, "is not a device"),
        ("cuda", 2, "--processes 2 is for CPUs"),
        ("mps", 2, "--processes 2 is for CPUs"),
    ],
)
def test_devices_that_cannot_be_meant_are_refused(device, processes, said):
    """Before anything is read."""
    with pytest.raises(UsageError, match=said):
        ModelOnDevices(BatchOptions(device=device, processes=processes)).check()


def test_more_processes_than_cores_are_refused(tmp_path, tiny_model):
    """A thousand models would fill the memory: nothing is started, and what to type is said."""
    cores = usable_cores()
    source = tmp_path / "in.csv"
    source.write_text("text\na good film\n")
    with pytest.raises(UsageError, match=f"processes=1000: .*may use {cores} core") as caught:
        batch(source, tmp_path / "out.csv", model=tiny_model, device="cpu", processes=1000)
    assert caught.value.hint in {f"use processes={cores}", "leave processes out"}
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]
    ModelOnDevices(BatchOptions(device="cpu", processes=cores)).check()


def test_several_gpus_are_refused_where_one_is_used():
    """`predict` and `evaluate` use one."""
    with pytest.raises(UsageError, match="names several GPUs, and one is used here"):
        choose_device("cuda:1,2", "auto")


def test_without_a_gpu_auto_is_the_cpu(tmp_path):
    """In as many processes as are asked for."""
    none = DriverFiles(tmp_path / "none", tmp_path / "none")
    assert choose_devices("auto", "auto", 3, none).names == ("auto", "auto", "auto")
    assert choose_devices("cpu", "auto").names == ("cpu",)


def test_a_process_sees_its_own_gpu_only(monkeypatch):
    """What a library puts on "the" GPU would be on the first one, for all of them."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    plans = plans_of(None, ModelOptions(), ["cuda:0", "cuda:2"])
    assert [plan.device for plan in plans] == ["cuda:0", "cuda:2"]
    assert [dict(plan.variables) for plan in plans] == [
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": "2"},
    ]
    assert {plan.open_scorer.args[1].device for plan in plans} == {"cuda:0"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-abc,7")
    plans = plans_of(None, ModelOptions(), ["cuda:1"])
    assert dict(plans[0].variables) == {"CUDA_VISIBLE_DEVICES": "GPU-abc"}


def test_the_figures_of_several_scorers_are_added_up():
    """Counts are sums, memory is that of the largest; what is known of one only is its own."""

    def counted(texts, exited, flips, difference):
        canaries = {"texts": 64, "largest_difference": difference, "label_flips": flips}
        agreement = {"with": "float32", "texts": texts, "label_flips": flips}
        return {
            "early_exit": {"layer": 2, "texts": texts, "exited": exited},
            "canaries": canaries,
            "agreement": agreement | {"largest_difference": difference},
        }

    one = {
        "model": counted(10, 3, 1, 0.1) | {"cascade": counted(20, 9, 0, 0.2)},
        "device": {"peak_memory_bytes": 5, "busy_share": 0.9, "warnings": ["hot"]},
    }
    two = {
        "model": counted(7, 2, 1, 0.3) | {"cascade": counted(5, 1, 2, 0.1)},
        "device": {"peak_memory_bytes": None, "busy_share": 0.6, "warnings": ["hot", "old"]},
    }
    found = merged_facts([one, two], [200, 100])
    total = counted(17, 5, 2, 0.3)
    total["canaries"]["label_flips"] = 1  # both have scored the same texts
    assert found["model"] == total | {"cascade": counted(25, 10, 2, 0.2)}
    assert found["device"]["peak_memory_bytes"] == 5
    assert found["device"]["busy_share"] == pytest.approx(0.8)
    assert found["device"]["warnings"] == ["hot", "old"]
    assert merged_facts([one, two])["device"]["busy_share"] == pytest.approx(0.75)
