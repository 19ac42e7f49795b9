"""Spawned processes: they answer, say how they died, end with their parent and are silent."""

import os
import signal
import subprocess
import sys
from contextlib import closing

import pytest

from batchsent.errors import ModelError
from batchsent.model.spawned import ProcessDied, SpawnedProcess
from tests import spawned_targets as targets
from tests.children import runs, wait_for


def test_it_answers_in_order_and_ends_when_it_is_closed():
    """Messages that were sent before the first answer wait for it."""
    with closing(SpawnedProcess(targets.double)) as process:
        for number in range(5):
            process.send(number)
        assert [process.receive() for _ in range(5)] == [0, 2, 4, 6, 8]
        assert not process.poll()
    assert not runs(process.pid)


def test_an_error_of_it_is_raised_here_with_all_that_it_says():
    """The message, the hint, the details and the exit code are those of the error there."""
    with (
        closing(SpawnedProcess(targets.refuse, "look there")) as process,
        pytest.raises(ModelError, match="no such model") as caught,
    ):
        process.receive()
    found = caught.value
    assert (found.hint, found.details, found.exit_code) == ("look there", {"folder": "there"}, 6)


def test_a_mistake_in_it_is_raised_here_with_its_traceback():
    """What it had answered before comes first; sending to it raises the same."""
    with closing(SpawnedProcess(targets.stumble)) as process:
        assert process.receive() == "before"
        with pytest.raises(KeyError, match="missing") as caught:
            process.receive()
    assert "in stumble" in str(caught.value.__cause__)


def test_its_death_says_how(capfd):
    """A signal by its name; an exit code with the last line it printed, which nobody else sees."""
    with closing(SpawnedProcess(targets.work)) as process:
        assert process.receive() == "begun"
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(ProcessDied, match="was ended by SIGKILL, as where memory is full"):
            process.receive()
        with pytest.raises(ProcessDied) as caught:
            process.send("more")
        assert caught.value.exit_code == 7
    with (
        closing(SpawnedProcess(targets.leave, 3)) as process,
        pytest.raises(ProcessDied, match="ended with exit code 3: the driver is gone"),
    ):
        process.receive()
    assert capfd.readouterr() == ("", "")


def test_the_signals_of_a_terminal_do_not_end_it(capfd):
    """Ctrl-C, a closed terminal and `timeout` reach the whole group: its parent decides."""
    with closing(SpawnedProcess(targets.double)) as process:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(process.pid, number)  # from its first moment on
        process.send(4)
        assert process.receive() == 8
        os.kill(process.pid, signal.SIGINT)
        process.send(5)
        assert process.receive() == 10
    assert capfd.readouterr() == ("", "")


def test_it_ends_with_its_parent_however_that_ends():
    """Its parent is killed while it works: it is gone within seconds."""
    code = "from tests.spawned_targets import parent; parent()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        pid = int(process.stdout.readline())
        assert runs(pid)
        process.kill()
    wait_for(lambda: not runs(pid))
