"""On a cluster nothing is different but the speed: same bytes, same ends, nothing lost."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from batchsent.errors import DeviceError, UsageError
from batchsent.run.folder import batch_all
from tests.children import Child, run, wait_for
from tests.hash_model import HashModels

pytest.importorskip("ray", reason="ray is an extra: pip install 'batchsent[ray]'")

ROOT = Path(__file__).parents[1]
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two nodes on this machine, with one CPU each."""
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    from ray.cluster_utils import Cluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        try:
            made.other = made.add_node(**NODE)
            yield made
        finally:
            made.shutdown()


def workers_of(*nodes, doing):
    """The processes of workers on some nodes that are doing something, such as `run` a file."""
    raylets = {node.all_processes["raylet"][0].process.pid for node in nodes}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if (
                parent in raylets
                and f"Worker.{doing}".encode() in (process / "cmdline").read_bytes()
            ):
                found.append(int(process.name))
        except (OSError, ValueError, IndexError):
            pass
    return found


def nodes_of(cluster):
    return [cluster.head_node, *cluster.worker_nodes]


def reviews(path, rows=60, begin=0):
    """Write a CSV of different texts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("id,text\n" + "".join(f"{n},review {begin + n}\n" for n in range(rows)))


@pytest.fixture
def tree(tmp_path):
    """The folder `in` with four files, and `plain`, what one machine makes of it."""
    for n, name in enumerate(("a.csv", "b.csv", "sub/c.csv", "sub/d.csv")):
        reviews(tmp_path / "in" / name, begin=100 * n)
    assert run(["in", "-o", "plain"], tmp_path)[0] == 0
    return tmp_path


@pytest.fixture
def dump(tmp_path):
    """The file in.csv of 20 chunks, and plain.csv, what one machine makes of it."""
    reviews(tmp_path / "in.csv", rows=400)
    assert run([*COMMAND, "-o", "plain.csv"], tmp_path)[0] == 0
    return tmp_path


COMMAND = ["in.csv", "--chunk-rows", "20"]
RAY = ["--engine", "ray"]


def outputs(folder):
    """The outputs below a folder with their bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.csv")}


def same(folder, output="out.csv"):
    """Whether an output has the bytes that one machine writes."""
    return (folder / output).read_bytes() == (folder / "plain.csv").read_bytes()


def test_a_tree_is_scored_file_by_file(cluster, tree):
    """Each file has the bytes, the summary and the line in the log that one machine gives it; the
    summary of the whole is the same.
    """
    code, stderr = run(["in", "-o", "out", *RAY, "--address", cluster.address], tree)
    assert code == 0
    assert outputs(tree / "out") == outputs(tree / "plain")
    whole, plain = (
        json.loads((tree / f / "batchsent.summary.json").read_text()) for f in ("out", "plain")
    )
    for document in (whole, plain):
        for file in document["files"]:
            file["output"] = Path(file["output"]).name
    assert whole == plain
    lines = stderr.splitlines()
    assert sum(": 60 rows" in line for line in lines) == 4
    assert [line for line in lines if line.startswith("model")] == [
        "model hash (NEGATIVE, POSITIVE)"
    ]
    assert lines[-1].startswith("complete: 4 files; 240 of 240 rows scored")
    assert not list((tree / "out").rglob(".*"))
    assert "ray" not in stderr.lower().replace(" ray ", "")


def test_a_killed_workers_file_is_taken_up_by_another(cluster, tree):
    """It goes on from the parts, and the command ends as if nothing had been; stdout is empty."""
    child = Child(
        ["in", "-o", "out", *RAY, "--address", cluster.address, "--chunk-rows", "20"],
        tree,
        batch_s=0.2,
        stdout=tree / "stdout",
    )
    wait_for(lambda: list((tree / "out").rglob("part-*")), 60)
    os.kill(workers_of(*nodes_of(cluster), doing="run")[0], signal.SIGKILL)
    assert child.wait(120) == 0
    assert "a worker was lost, and another goes on with its work" in child.stderr
    # Ray itself would say what happened on stdout, where the data may go.
    assert (tree / "stdout").read_bytes() == b""
    assert "resuming an earlier run" in child.stderr
    assert outputs(tree / "out") == outputs(tree / "plain")


def test_ctrl_c_keeps_the_work_of_all_workers(cluster, tree):
    """The command ends with 130, and run again without Ray it goes on."""
    command = ["in", "-o", "out", "--chunk-rows", "20"]
    child = Child([*command, *RAY, "--address", cluster.address], tree, batch_s=0.3)
    wait_for(lambda: len(list((tree / "out").rglob("part-*"))) > 1, 60)
    os.kill(child.pid, signal.SIGINT)
    assert child.wait() == 130
    assert "run the same command again to resume" in child.stderr
    assert "stopped by SIGINT" in child.stderr
    assert not workers_of(*nodes_of(cluster), doing="run")
    code, stderr = run(command, tree)
    assert code == 0
    assert "resuming an earlier run" in stderr
    assert outputs(tree / "out") == outputs(tree / "plain")


def test_one_file_is_scored_chunk_by_chunk_with_a_real_model(
    fork_server, cluster, tmp_path, tiny_model
):
    """The bytes are those of one machine."""
    reviews(tmp_path / "in.csv", rows=300)
    options = {"model": str(tiny_model), "device": "cpu", "chunk_rows": 40}
    batch_all([str(tmp_path / "in.csv")], str(tmp_path / "plain.csv"), **options)
    command = [
        fork_server.python,
        "-m",
        "batchsent",
        "batch",
        *["in.csv", "-o", "out.csv", "--chunk-rows", "40"],
    ]
    command += ["--model", tiny_model, "--device", "cpu", *RAY, "--workers", "1"]
    done = subprocess.run(
        [*command, "--address", cluster.address],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "scoring on 1 worker of the cluster, with a CPU each" in done.stderr
    assert same(tmp_path)


def test_a_lost_node_is_survived_and_a_killed_driver_resumed_without_ray(cluster, dump):
    """The chunks of a lost node go to the other; killed, the run is finished on one machine."""
    child = Child(
        [*COMMAND, "-o", "out.csv", *RAY, "--address", cluster.address], dump, batch_s=0.25
    )
    work = dump / "out.csv.batchsent"
    wait_for(lambda: len(list(work.glob("part-*"))) > 2, 60)
    cluster.remove_node(cluster.other, allow_graceful=False)
    try:
        wait_for(lambda: "a worker was lost" in child.stderr, 60)
        child.process.kill()
        child.wait()
        assert not (dump / "out.csv").exists()
        wait_for(lambda: not workers_of(cluster.head_node, doing="score"), 60)
    finally:
        cluster.other = cluster.add_node(**NODE)
    code, stderr = run([*COMMAND, "-o", "out.csv"], dump)
    assert code == 0
    assert "resuming an earlier run" in stderr
    assert same(dump)


def test_without_any_worker_left_the_command_ends_with_7(cluster, dump):
    """A worker takes a GPU where the cluster has any; when their only node is lost, no other waits
    for ever.
    """
    node = cluster.add_node(num_cpus=0, num_gpus=1, object_store_memory=80_000_000)
    command = [*COMMAND, "-o", "out.csv", *RAY, "--address", cluster.address]
    child = Child(command, dump, batch_s=0.25)
    wait_for(lambda: workers_of(node, doing="score"), 60)
    cluster.remove_node(node, allow_graceful=False)
    assert child.wait(90) == 7
    assert "scoring on 1 worker of the cluster, with a GPU each" in child.stderr
    assert "no worker is left: no node has had a GPU" in child.stderr
    assert not (dump / "out.csv").exists()


def test_a_node_without_the_model_folder_is_named(cluster, dump, tiny_model):
    """With the path that it lacks, before anything is scored."""
    folder = os.open(tiny_model, os.O_RDONLY)
    code = (
        "import os, sys; from batchsent.cli import main; "
        "main(['batch', 'in.csv', '-o', 'out.csv', '--engine', 'ray', '--address', sys.argv[1],"
        " '--model', f'/proc/self/fd/{sys.argv[2]}'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, cluster.address, str(folder)],
        cwd=dump,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        pass_fds=[folder],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 6, done.stderr
    assert f"it has no model folder /proc/self/fd/{folder}" in done.stderr
    assert "batchsent: node " in done.stderr


def test_the_ray_data_recipe_runs(fork_server, cluster, tmp_path, tiny_model):
    """Its rows are those of the input, with label and score."""
    import pandas as pd

    command = ["examples/ray_data_reviews.py", "examples/reviews.csv", tmp_path / "out", tiny_model]
    done = subprocess.run(
        [fork_server.python, *command],
        cwd=ROOT,
        env=os.environ | {"RAY_ADDRESS": cluster.address, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    scored = pd.read_parquet(tmp_path / "out")
    expected = pd.read_csv(ROOT / "examples/reviews.csv")
    assert sorted(scored["id"]) == sorted(expected["id"])
    assert scored["label"].isin(["NEGATIVE", "POSITIVE"]).any()


def test_where_ray_is_missing_the_command_says_what_to_install(monkeypatch, tmp_path):
    """Before anything is read."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="requires the package ray") as raised:
        batch_all(["in.csv"], "out.csv", models=HashModels(), engine="ray")
    assert raised.value.hint == 'pip install "batchsent[ray]"'


def test_options_of_a_cluster_are_refused_without_one():
    """And those that cannot be meant with one."""
    for options, said in (
        ({"workers": 2}, "--workers requires a cluster"),
        ({"address": "auto"}, "--address requires a cluster"),
        ({"engine": "ray", "device": "cuda:1"}, "a GPU of its own"),
        ({"engine": "ray", "address": "ray://host:10001"}, "is not HOST:PORT"),
    ):
        with pytest.raises(UsageError, match=said):
            batch_all(["in.csv"], "out.csv", models=HashModels(), **options)


def test_a_cluster_that_does_not_answer_is_no_bug(tmp_path):
    """It may answer later: exit code 7."""
    reviews(tmp_path / "in.csv")
    with pytest.raises(DeviceError, match=r"no Ray cluster at 127\.0\.0\.1:1: .*refused"):
        batch_all(
            [str(tmp_path / "in.csv")],
            str(tmp_path / "out.csv"),
            models=HashModels(),
            engine="ray",
            address="127.0.0.1:1",
        )


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["file", "tree"])
def test_workers_killed_at_any_moment_lose_nothing(cluster, tmp_path, kind):
    """At each stage of their work, while they start and while they end: the bytes are the same, or
    the command says that its workers were lost and ends with 3 or 7, and the next one has them.
    """
    for n in range(4):
        reviews(tmp_path / "in" / f"{n}.csv", rows=100, begin=100 * n)
    source = "in/0.csv" if kind == "file" else "in"
    suffix = ".csv" if kind == "file" else ""
    command = [source, "--chunk-rows", "10"]
    assert run([*command, "-o", f"plain{suffix}"], tmp_path)[0] == 0
    dice = random.Random(14)
    for _ in range(12):
        child = Child(
            [*command, "-o", f"out{suffix}", *RAY],
            tmp_path,
            batch_s=0.03,
            env={"RAY_ADDRESS": cluster.address},
        )
        for _ in range(dice.randrange(1, 5)):
            time.sleep(dice.uniform(0, 2.5))
            for pid in workers_of(*nodes_of(cluster), doing=""):
                if dice.random() < 0.5:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        assert child.wait(180) in {0, 3, 7}, child.stderr
        assert run([*command, "-o", f"out{suffix}"], tmp_path)[0] == 0
        if kind == "file":
            assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()
            for path in tmp_path.glob("out.csv*"):
                path.unlink()
        else:
            assert outputs(tmp_path / "out") == outputs(tmp_path / "plain")
            shutil.rmtree(tmp_path / "out")


@pytest.mark.soak
def test_a_worker_that_hangs_for_a_while_changes_nothing(cluster, dump):
    """The others go on with the chunks after its own, and the order is that of the input."""
    child = Child(
        [*COMMAND, "-o", "out.csv", *RAY], dump, batch_s=0.1, env={"RAY_ADDRESS": cluster.address}
    )
    wait_for(lambda: len(workers_of(*nodes_of(cluster), doing="score")) == 2, 60)
    slow = workers_of(*nodes_of(cluster), doing="score")[0]
    os.kill(slow, signal.SIGSTOP)
    time.sleep(5)
    os.kill(slow, signal.SIGCONT)
    assert child.wait(120) == 0
    assert same(dump)
