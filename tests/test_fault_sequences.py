"""Any sequence of runs, kills, faults, damage and other runs ends with the bytes of an undisturbed
run.
"""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.children import Child, run, wait_for
from tests.dump import make_dump

FAULTS = st.integers(1, 60)


class Runs(RuleBasedStateMachine):
    """One output, and all that people and machines do to it."""

    form = "csv"

    def __init__(self):
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="sequences-"))
        self.dump = make_dump(self.home, self.form)

    def teardown(self):
        self.dump.finish()
        shutil.rmtree(self.home)

    @rule(n=FAULTS)
    def killed_at_a_file_operation(self, n):
        """Kill -9 at the n-th file operation; a shorter run simply ends."""
        code, _ = run(self.dump.command, self.dump.folder, env={"BATCHSENT_FAULT": f"*:{n}:kill"})
        assert code in {0, -signal.SIGKILL}

    @rule(n=FAULTS, action=st.sampled_from(["raise", "enospc"]))
    def fails_at_a_file_operation(self, n, action):
        """A write, fsync or rename that fails ends the run with 5, or comes too late to matter."""
        code, stderr = run(
            self.dump.command, self.dump.folder, env={"BATCHSENT_FAULT": f"*:{n}:{action}"}
        )
        assert code in {0, 5}, stderr

    @rule()
    def stopped(self):
        """SIGTERM as soon as there is work to stop; one that is done already exits 0."""
        child = Child(self.dump.command, self.dump.folder, batch_s=0.02)
        wait_for(
            lambda: (
                child.process.exitcode is not None
                or list(self.dump.folder.glob("*.batchsent/part-*"))
            )
        )
        if child.process.exitcode is None:
            os.kill(child.pid, signal.SIGTERM)
        # -15: it came before the run had begun, and the kernel answered.
        assert child.wait() in {0, 143, -signal.SIGTERM}

    @rule()
    def run_twice_at_once(self):
        """Two runs on one output: one may be locked out, neither harms the other."""
        first = Child(self.dump.command, self.dump.folder, batch_s=0.005)
        second = self.home / "second"
        second.mkdir(exist_ok=True)
        output = self.dump.output
        code, stderr = run([self.dump.command[0], "-o", output, *self.dump.command[3:]], second)
        assert {first.wait(), code} <= {0, 11}, stderr

    @precondition(lambda self: list(self.dump.folder.glob("*.batchsent/part-*")))
    @rule(where=st.floats(0, 1), data=st.binary(min_size=1, max_size=3))
    def a_part_is_damaged(self, where, data):
        """Bytes of a part are overwritten."""
        part = sorted(self.dump.folder.glob("*.batchsent/part-*"))[0]
        content = bytearray(part.read_bytes())
        at = int(where * max(len(content) - 1, 0))
        content[at : at + len(data)] = data
        part.write_bytes(content)

    @rule()
    def another_command_is_refused_or_right(self):
        """A command with another option never takes over unfinished work, and never replaces the
        output.
        """
        parts = list(self.dump.folder.glob("*.batchsent/part-*"))
        before = sorted(self.dump.folder.rglob("*"))
        code, _ = run([*self.dump.command, "--chunk-rows", 7, "--dry-run"], self.dump.folder)
        assert code in ({2} if parts else {0, 2})
        stderr = self.dump.folder / "stderr.log"
        assert {*self.dump.folder.rglob("*"), stderr} == {*before, stderr}

    @rule()
    def finished(self):
        """The same command runs to its end."""
        self.dump.finish()

    @invariant()
    def output_is_absent_or_complete(self):
        """At any moment."""
        self.dump.check_invariant()


class ParquetRuns(Runs):
    """The same with Parquet."""

    form = "parquet"


# a failing sequence is short enough as it is found
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
SETTINGS = settings(
    deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, phases=PHASES
)


@pytest.mark.parametrize("machine", [Runs, ParquetRuns])
def test_sequences_of_runs_end_well(machine):
    """Twelve sequences of up to eight events, found by hypothesis."""
    run_state_machine_as_test(
        machine, settings=settings(SETTINGS, max_examples=12, stateful_step_count=8)
    )


@pytest.mark.soak
@pytest.mark.parametrize("machine", [Runs, ParquetRuns])
def test_very_many_sequences_of_runs_end_well(machine):
    """A hundred longer ones."""
    run_state_machine_as_test(
        machine, settings=settings(SETTINGS, max_examples=100, stateful_step_count=15)
    )
