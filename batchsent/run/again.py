"""How a run that stopped with its work kept is resumed: what to type."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from batchsent.errors import TimeUp
from batchsent.standard_streams import is_command
from batchsent.urls import redacted

# The same command with one of these would throw the kept work away.
DISCARDING = {"--restart"}


@contextmanager
def saying_how_to_go_on(inputs: Sequence[str]) -> Iterator[None]:
    """Give an error of time that is up, on its way out of the block, what to do next."""
    try:
        yield
    except TimeUp as error:
        error.hint = how_to_go_on(piped="-" in inputs)
        raise


def how_to_go_on(*, piped: bool) -> str:
    """Return the command that goes on, or what a Python program does."""
    if not is_command():
        return "call batch again with the same arguments to go on"
    words = [word for word in sys.argv[1:] if word not in DISCARDING]
    program = ["batchsent"]
    if Path(sys.argv[0]).name == "__main__.py":
        program = ["python", "-m", "batchsent"]
    first = "pipe the same input in again and " if piped else ""
    command = shlex.join([*program, *words])
    if redacted(command) != command:  # it is not printed, and with *** in it, it would not work
        return f"{first}run the same command again to go on"
    return f"{first}run this to go on: {command}"
