"""--stop-after and --stop-at: the batch is finished, the work kept, the same command goes on."""

import contextlib
import datetime
import importlib.util
import json
import shlex
import sys
import textwrap
import time
import types
from pathlib import Path

import pytest

from batchsent.commands.batch import batch
from batchsent.errors import Interrupted, TimeUp, UsageError
from batchsent.files.deadline import Deadline, next_time, parse_duration
from batchsent.files.signals import Signals
from tests.children import run
from tests.dump import make_dump
from tests.hash_model import HashModels

ROOT = Path(__file__).parents[1]
GO_ON = "run this to go on: "


@pytest.fixture(params=["csv", "parquet"])
def dump(request, tmp_path):
    """An input, the command that scores it in three chunks of two batches, and the output."""
    return make_dump(tmp_path, request.param)


def command_to_go_on(stderr, typed):
    """The words of the command that a message tells to type, after `batchsent batch`.

    They are those that were `typed`; what is returned has all the time that a busy machine needs.
    """
    (line,) = [line for line in stderr.splitlines() if GO_ON in line]
    words = shlex.split(line.partition(GO_ON)[2])
    assert words == ["batchsent", "batch", *map(str, typed)]
    words[words.index("--stop-after") + 1] = "1h"
    return words[2:]


def test_a_run_stops_and_the_command_that_it_names_goes_on(dump):
    """Exit code 12 with the rows that are kept; the command printed gives the same bytes."""
    command = [*dump.command, "--stop-after", "0.4s"]
    code, stderr = run(command, dump.folder, batch_s=0.15)
    assert code == 12
    assert "stopped by --stop-after 0.4s: " in stderr
    assert not dump.output.exists()
    said = stderr
    code, _ = run(command_to_go_on(stderr, command), dump.folder)
    assert code == 0
    kept = json.loads(dump.summary.read_bytes())["run"]["resumed_rows"]
    assert kept < 60
    assert f" {kept} of 60 rows of " in said or (kept == 0 and "not loaded yet" in said)
    dump.check_finished()


def test_many_short_runs_come_to_the_end(tmp_path):
    """Each keeps what it did, the last one writes what an undisturbed run writes."""
    dump = make_dump(tmp_path, "csv")
    codes, seconds = [], 0.2
    while not codes or codes[-1] == 12:
        assert len(codes) < 20
        limit = ["--stop-after", f"{seconds:.3f}s"]
        code, stderr = run([*dump.command, *limit], dump.folder, batch_s=0.1)
        codes.append(code)
        seconds *= 1.3  # on a busy machine the first ones have no time for a batch
        dump.check_invariant()
    assert codes[-1] == 0, stderr
    assert 12 in codes
    dump.check_finished()


def test_it_stops_at_a_time_of_the_clock(tmp_path):
    """--stop-at with seconds; a run that ends before it is a run as any other."""
    dump = make_dump(tmp_path, "csv")
    soon = (datetime.datetime.now() + datetime.timedelta(seconds=3)).strftime("%H:%M:%S")  # noqa: DTZ005
    code, stderr = run([*dump.command, "--stop-at", soon], dump.folder, batch_s=1)
    assert (code, f"stopped by --stop-at {soon}: " in stderr) == (12, True)
    code, _ = run([*dump.command, "--stop-at", "0:00", "--stop-after", "2h"], dump.folder)
    assert code == 0
    dump.check_finished()


def test_a_folder_stops_before_its_next_file(tmp_path):
    """What is finished stays, and is said; the same command goes on with the rest."""
    dumps = tmp_path / "dumps"
    dumps.mkdir()
    for name in "abc":
        (dumps / f"{name}.csv").write_text("text\n" + "".join(f"{name} {n}\n" for n in range(16)))
    command = ["dumps", "-o", "scored/", "--stop-after", "0.6s"]
    code, stderr = run(command, tmp_path, batch_s=0.4)
    assert code == 12
    assert "stopped by --stop-after 0.6s" in stderr
    finished = len(list((tmp_path / "scored").glob("*.csv")))
    assert f"; {finished} of 3 files are finished" in stderr
    assert finished < 3
    assert not (tmp_path / "scored" / "batchsent.summary.json").exists()
    code, stderr = run(command_to_go_on(stderr, command), tmp_path)
    assert code == 0
    assert stderr.count("is up to date") == finished
    assert len(list((tmp_path / "scored").glob("*.csv"))) == 3


def test_a_file_that_failed_is_not_called_finished(tmp_path):
    """Of a bad file, and one for which there was no time, none is finished."""
    dumps = tmp_path / "dumps"
    dumps.mkdir()
    (dumps / "a.csv").write_text("nothing to read\n1\n")
    (dumps / "b.csv").write_text("text\n" + "".join(f"{n}\n" for n in range(60)))
    code, stderr = run(["dumps", "-o", "scored/", "--stop-after", "0.4s"], tmp_path, batch_s=0.4)
    assert (code, "; 0 of 2 files are finished" in stderr) == (12, True)


def test_a_folder_whose_time_was_up_before_the_first_file(tmp_path):
    """Nothing is begun."""
    (tmp_path / "a.csv").write_text("text\nx\n")
    (tmp_path / "b.csv").write_text("text\nx\n")
    models = HashModels()
    with pytest.raises(TimeUp, match="0 of 2 files are finished"):
        batch(
            [tmp_path / "a.csv", tmp_path / "b.csv"],
            tmp_path / "scored",
            models=models,
            stop_after="0.001s",
        )
    assert not models.opened
    assert not (tmp_path / "scored").exists()


def test_a_pipe_goes_on_where_the_same_input_is_piped_again(tmp_path):
    """Stdin is read anew; the message says to pipe it in."""
    dump = make_dump(tmp_path, "csv")
    source = dump.command[0]
    command = ["-", *dump.command[1:], "--stop-after", "0.4s"]
    code, stderr = run(command, dump.folder, batch_s=0.15, stdin=str(source))
    assert (code, "of stdin are scored" in stderr or "yet for stdin" in stderr) == (12, True)
    assert "pipe the same input in again and run this to go on: batchsent batch -" in stderr
    code, stderr = run(command_to_go_on(stderr, command), dump.folder, stdin=str(source))
    assert code == 0, stderr
    assert dump.output.read_bytes() == dump.expected


def test_the_command_to_go_on_does_not_start_over(tmp_path):
    """--restart, which would throw the kept work away, is left out of it; --overwrite stays."""
    dump = make_dump(tmp_path, "csv")
    command = [*dump.command, "--restart", "--overwrite", "--stop-after", "0.4s"]
    code, stderr = run(command, dump.folder, batch_s=0.15)
    assert code == 12
    words = command_to_go_on(stderr, [word for word in command if word != "--restart"])
    begun = "rows of" in stderr  # a busy machine may not come so far
    code, stderr = run([*words, "--log-format", "json"], dump.folder)
    assert (code, "resuming an earlier run" in stderr) == (0, begun)
    dump.check_finished()


def test_machines_are_told_too(tmp_path):
    """The JSON log ends with the exit code, and so does the summary of the unfinished run."""
    dump = make_dump(tmp_path, "csv")
    command = [*dump.command, "--stop-after", "0.4s", "--log-format", "json"]
    code, stderr = run(command, dump.folder, batch_s=0.15)
    last = json.loads(stderr.splitlines()[-1])
    assert (code, last["exit_code"]) == (12, 12)
    failed = [json.loads(path.read_bytes()) for path in dump.folder.glob("*failed*.json")]
    begun = "rows of" in last["message"]  # a busy machine may not come so far
    assert [document["exit_code"] for document in failed] == [12] * begun
    assert run(command_to_go_on(last["hint"], command), dump.folder)[0] == 0
    dump.check_finished()


def test_an_output_that_is_up_to_date_needs_no_time(tmp_path):
    """The check of a finished output is not stopped, however little time there is."""
    (tmp_path / "in.csv").write_text("text\nx\n")
    batch(tmp_path / "in.csv", tmp_path / "out.csv", models=HashModels())
    again = batch(
        tmp_path / "in.csv", tmp_path / "out.csv", models=HashModels(), stop_after="0.001s"
    )
    assert again["status"] == "up_to_date"


def test_a_program_is_told_in_its_own_words(tmp_path):
    """The error is an Interrupted, and names a call and no command."""
    (tmp_path / "in.csv").write_text("text\n" + "".join(f"{n}\n" for n in range(60)))
    models = HashModels(batch_s=0.1)
    with pytest.raises(Interrupted, match=r"stopped by --stop-after 0\.2s: ") as caught:
        batch(tmp_path / "in.csv", tmp_path / "out.csv", models=models, stop_after="0.2s")
    assert caught.value.exit_code == 12
    assert caught.value.hint == "call batch again with the same arguments to go on"
    summary = batch(tmp_path / "in.csv", tmp_path / "out.csv", models=models)
    assert summary["run"]["resumed_rows"] < 60


def test_time_that_is_up_when_all_is_scored_stops_nothing():
    """Writing and the names of the files need seconds: the run ends as usual."""
    signals = Signals(Deadline("--stop-after 1s", 0.0, time.monotonic))
    with signals, signals.deferred():
        pass
    with pytest.raises(TimeUp), signals, signals.deferred():
        assert signals.stop()


def test_a_model_is_not_loaded_when_the_time_is_up(tmp_path):
    """Of a large model and a short time the message says that nothing was scored."""
    (tmp_path / "in.csv").write_text("text\nx\n")
    models = HashModels()
    with pytest.raises(TimeUp, match="the model was not loaded yet for ") as caught:
        batch(tmp_path / "in.csv", tmp_path / "out.csv", models=models, stop_after="0.001s")
    assert caught.value.hint == "call batch again with the same arguments to go on"
    assert not models.opened
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize(
    ("options", "said", "hint"),
    [
        ({"stop_after": "3"}, "--stop-after 3 is not a duration with its unit", "3h, 3m or 3s"),
        ({"stop_after": "1.5"}, "is not a duration", "1h, 1m or 1s"),
        ({"stop_after": "soon"}, "is not a duration", "3h"),
        ({"stop_after": "3h3h"}, "is not a duration", "3h"),
        ({"stop_after": "30m1h"}, "is not a duration", "30h"),
        ({"stop_after": "-3h"}, "is not a duration", "3h"),
        ({"stop_after": "3h "}, None, None),
        ({"stop_after": "9" * 400 + "h"}, "is not a duration", "write"),
        ({"stop_after": "0h0s"}, "leaves no time", "45s"),
        ({"stop_at": "6"}, "--stop-at 6 is not a time of the day", "06:00"),
        ({"stop_at": "24:00"}, "is not a time of the day", "23:30"),
        ({"stop_at": "06:60"}, "is not a time of the day", "06:00"),
        ({"stop_at": "6 pm"}, "is not a time of the day", "06:00"),
        ({"stop_at": "٠٦:٠٠"}, "is not a time of the day", "06:00"),
    ],
)
def test_what_is_no_time_is_refused(tmp_path, options, said, hint):
    """Before the model is loaded; the message says how it is written."""
    (tmp_path / "in.csv").write_text("text\nx\n")
    models = HashModels()
    if said is None:
        batch(tmp_path / "in.csv", tmp_path / "out.csv", models=models, **options)
        return
    with pytest.raises(UsageError) as caught:
        batch(tmp_path / "in.csv", tmp_path / "out.csv", models=models, **options)
    assert said in caught.value.message
    assert hint in caught.value.hint
    assert not models.opened


@pytest.mark.parametrize("option", [("--stop-after", "3h"), ("--stop-at", "06:00")])
def test_what_goes_into_a_pipe_cannot_be_stopped_so(tmp_path, option):
    """Half an output on stdout could not be resumed: refused, nothing is written."""
    (tmp_path / "in.csv").write_text("text\nx\n")
    out = tmp_path / "stdout"
    code, stderr = run(["in.csv", "-o", "-", *option], tmp_path, stdout=str(out))
    assert (code, "require an output file" in stderr) == (2, True)
    assert out.read_bytes() == b""


def test_durations():
    """Each unit once, the longest first; fractions are fine."""
    texts = ("3h", "90m", "45s", "1h30m", "1.5h", "2d", "1d2h3m4s", "0.5s")
    assert [parse_duration(text) for text in texts] == [
        10_800, 5_400, 45, 5_400, 5_400, 172_800, 93_784, 0.5,
    ]  # fmt: skip


@pytest.fixture
def berlin(monkeypatch):
    """The clock of a machine in Berlin, which is put forward and back."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield lambda text: datetime.datetime.fromisoformat(text).timestamp()
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("now", "typed", "then"),
    [
        ("2026-11-27T02:00+01:00", "06:00", "2026-11-27T06:00+01:00"),
        ("2026-11-27T06:00+01:00", "06:00", "2026-11-28T06:00+01:00"),
        ("2026-11-27T23:59+01:00", "6:00", "2026-11-28T06:00+01:00"),
        ("2026-12-31T22:00+01:00", "06:00:30", "2027-01-01T06:00:30+01:00"),
        # The night of 29 March has no 02:30, and an hour less until 06:00.
        ("2026-03-28T22:00+01:00", "06:00", "2026-03-29T06:00+02:00"),
        ("2026-03-29T01:00+01:00", "02:30", "2026-03-29T03:30+02:00"),
        ("2026-03-29T04:00+02:00", "02:30", "2026-03-30T02:30+02:00"),
        # The night of 25 October has 02:30 twice.
        ("2026-10-25T01:00+02:00", "02:30", "2026-10-25T02:30+02:00"),
        ("2026-10-25T02:45+02:00", "02:30", "2026-10-25T02:30+01:00"),
        ("2026-10-25T02:45+01:00", "02:30", "2026-10-26T02:30+01:00"),
        ("2026-10-24T22:00+02:00", "06:00", "2026-10-25T06:00+01:00"),
    ],
)
def test_the_next_such_time_of_the_local_clock(berlin, now, typed, then):
    """Today or tomorrow, also where clocks are put forward or back."""
    assert next_time(typed, berlin(now)) == berlin(then)


def test_of_two_limits_the_first_counts():
    """--stop-after and --stop-at together."""
    assert Deadline.of("1s", "00:00").name == "--stop-after 1s"
    far = (datetime.datetime.now() + datetime.timedelta(hours=1)).strftime("%H:%M")  # noqa: DTZ005
    assert Deadline.of("2d", far).name == f"--stop-at {far}"
    assert Deadline.of(None, None) is None


@pytest.fixture
def dag(monkeypatch):
    """The example, with as much of Airflow as it uses."""
    airflow, exceptions, sdk = (
        types.ModuleType(name) for name in ("airflow", "airflow.exceptions", "airflow.sdk")
    )
    for name in ("AirflowException", "AirflowSkipException", "AirflowFailException"):
        setattr(exceptions, name, type(name, (Exception,), {}))
    made = {}

    def dag(**settings):
        return lambda function: lambda: function()

    def task(**settings):
        def wrap(function):
            made[function.__name__] = function, settings
            return lambda: None

        return wrap

    sdk.dag, sdk.task = dag, task
    for module in (airflow, exceptions, sdk):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    spec = importlib.util.spec_from_file_location("airflow_dag", ROOT / "examples/airflow_dag.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.made = made
    return module


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        *[(code, None) for code in (0, 3)],
        (11, "AirflowSkipException"),
        *[(code, "AirflowException") for code in (7, 12, 129, 130, 143, -9)],
        *[(code, "AirflowFailException") for code in (1, 2, 4, 5, 6, 8, 141)],
    ],
)
def test_the_airflow_example_maps_exit_codes(dag, code, raised):
    """What is done, what is skipped, what is tried again, and what fails at once."""
    if raised is None:
        dag.judge(code)
        return
    with pytest.raises(Exception, match=r"batchsent|another run") as caught:
        dag.judge(code)
    assert caught.type.__name__ == raised


def test_the_airflow_task_goes_on_when_it_is_tried_again(dag, tmp_path, monkeypatch):
    """A real run that was stopped is retried until it is done; one of a wrong model fails."""
    slow = textwrap.dedent(
        """
        import sys
        from tests.hash_model import main
        at = sys.argv.index("--stop-after")
        sys.argv[at + 1] = "0.4s"
        sys.argv[1:] = ["batch_s=0.15", *sys.argv[1:]]
        main()
        """
    )
    dumps = tmp_path / "dumps"
    dumps.mkdir()
    (dumps / "a.csv").write_text("text\n" + "".join(f"{n}\n" for n in range(60)))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(dag, "COMMAND", [sys.executable, "-c", slow])
    monkeypatch.setattr(dag, "DUMPS", str(dumps))
    monkeypatch.setattr(dag, "SCORED", str(tmp_path / "scored"))
    score, settings = dag.made["score"]
    assert settings["retries"] > 0
    tries = 0
    while not (tmp_path / "scored" / "batchsent.summary.json").exists():
        tries += 1
        assert tries < 30
        with contextlib.suppress(dag.AirflowException):
            score()
    assert tries > 1
    monkeypatch.setattr(dag, "DUMPS", str(tmp_path / "nothing"))
    with pytest.raises(Exception, match="ended with") as caught:
        score()
    assert caught.type.__name__ == "AirflowFailException"
