"""Tell of spawned processes that are stopped (SIGSTOP, Ctrl-Z): a run waits for them in silence."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from batchsent.model.spawned import STARTED
from batchsent.reporting import Reporter

# The processes are looked at every LOOK_S seconds. One that is stopped at LOOKS looks in a row is
# warned of. Looks are counted and not seconds: where the whole run was stopped with Ctrl-Z, this
# process did not look meanwhile, and continuing the run must not give a warning.
LOOK_S = 2.0
LOOKS = 15


@contextmanager
def telling_of_stopped(reporter: Reporter) -> Iterator[None]:
    """Warn, once for each stop, of a process that has been stopped for half a minute.

    The run neither continues nor ends the process, since somebody may have stopped it on purpose.
    """
    ended = threading.Event()

    def watch() -> None:
        looks: Counter[int] = Counter()
        while not ended.wait(LOOK_S):
            stopped = {process.pid for process in list(STARTED) if process.is_stopped()}
            looks = Counter({pid: looks[pid] + 1 for pid in stopped})
            for pid, times in looks.items():
                if times == LOOKS:
                    reporter.warning(
                        f"a process of this run (pid {pid}) is stopped (state T), and the run "
                        f"waits for it: `kill -CONT {pid}` lets it go on, `kill -KILL {pid}` "
                        "lets the run go on without it"
                    )

    thread = threading.Thread(target=watch, name="stopped", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
