"""An Airflow DAG that scores the dumps of a day: exit codes of batchsent become skip, retry or fail.

For Airflow 3; in Airflow 2 `dag` and `task` come from airflow.decorators. Copy it into the folder of
your DAGs, and set COMMAND and DUMPS.
"""

import subprocess
from datetime import UTC, datetime, timedelta

from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.sdk import dag, task

COMMAND = ["/srv/reviews/.venv/bin/batchsent", "batch"]
DUMPS, SCORED, MODEL = "/srv/reviews/dumps", "/srv/reviews/scored", "/srv/reviews/models/sentiment"

# 3: rows were rejected, or some of several files failed; the log says which.
DONE = {0, 3}
# Another run is writing the same output, so there is nothing to do here.
SKIP = {11}
# The device failed, the time of --stop-after is over, or a signal came: the next try goes on where
# this one stopped.
RETRY = {7, 12, 129, 130, 143}


def judge(code: int) -> None:
    """Raise what makes Airflow skip, retry or fail a task, by the exit code of batchsent.

    Python gives the negative number of a signal that killed a process: SIGKILL for lack of memory.
    """
    if code in DONE:
        return
    if code in SKIP:
        raise AirflowSkipException("another run is writing this output")
    if code in RETRY or code < 0:
        raise AirflowException(f"batchsent ended with {code}: the next try goes on from there")
    # Wrong options, a damaged input, a full disk, a gate: the same command would fail again.
    raise AirflowFailException(f"batchsent ended with {code}; the log says why")


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
)
def score_reviews() -> None:
    """Score what arrived, every night."""

    # --stop-after gives the worker back now and then: other tasks wait for it. A try that was
    # killed goes on as well, so execution_timeout loses nothing.
    @task(retries=8, retry_delay=timedelta(minutes=10), execution_timeout=timedelta(hours=2))
    def score() -> None:
        options = ["--model", MODEL, "--bad-rows", "reject", "--stop-after", "90m", "--quiet"]
        judge(subprocess.run([*COMMAND, DUMPS, "-o", SCORED, *options]).returncode)

    score()


score_reviews()
