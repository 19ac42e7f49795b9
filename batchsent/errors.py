"""Errors that the user can fix, each with its exit code.

BatchsentError
├── UsageError     2  the command cannot mean what it says, or was refused before anything ran
├── InputError     4  the input cannot be read
├── OutputError    5  the output cannot be written
├── ModelError     6  the model cannot be loaded or used
├── DeviceError    7  the device failed; the same command may work later
├── GateFailed     8  a figure is outside what the user asked for
├── Locked        11  another run holds the output
├── Interrupted  128 + signal
│   └── TimeUp  12  the time that the user gave the run is over
└── PipeClosed   141  the reader of our standard output went away
"""

from typing import Any

EXIT_BUG = 1
EXIT_ROWS_REJECTED = 3


def reason(error: OSError) -> str:
    """Return what the system says of an error, as part of a sentence."""
    return (error.strerror or str(error)).lower()


class BatchsentError(Exception):
    """A problem the user can fix: what was wrong, where, and what to type next.

    `message` says what and where; `hint` says what to do; `details` are machine-readable facts for
    JSON logs.
    """

    exit_code = EXIT_BUG
    # The process must end without freeing its objects, since that could wait for ever.
    exit_immediately = False
    reported_by_rank = False  # another process of the same run tells the user

    def __init__(self, message: str, *, hint: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors come back from other processes, whatever their __init__ requires.
        return type(self).__new__, (type(self), *self.args), self.__dict__

    def __str__(self) -> str:
        if self.hint is None:
            return self.message
        return f"{self.message}\n{self.hint}"


class UsageError(BatchsentError):
    """The command cannot mean what it says, or is refused before anything ran."""

    exit_code = 2


class AppearedMeanwhile(UsageError):
    """A file or an object appeared under the output's name while the run worked."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} appeared while the run worked, and batchsent did not write it",
            hint="move it, then run the same command again: what is scored is kept",
        )


class InputError(BatchsentError):
    """The input cannot be read as what it claims to be."""

    exit_code = 4


class OutputError(BatchsentError):
    """The output cannot be written."""

    exit_code = 5


class ModelError(BatchsentError):
    """The model cannot be found, trusted or used."""

    exit_code = 6


class DeviceError(BatchsentError):
    """The device failed; running the same command again may work."""

    exit_code = 7


class GateFailed(BatchsentError):
    """A figure is outside what the user asked for; `document` holds all the figures."""

    exit_code = 8

    def __init__(self, message: str, *, document: dict[str, Any], **details: Any) -> None:
        super().__init__(message, **details)
        self.document = document


class Locked(BatchsentError):
    """Another run holds the output."""

    exit_code = 11


class Interrupted(BatchsentError):
    """A signal ended the run; what was finished is kept."""

    def __init__(self, signal_number: int | None, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        if signal_number is not None:
            self.exit_code = 128 + signal_number


class TimeUp(Interrupted):
    """The time that the user gave the run is over; what was finished is kept."""

    exit_code = 12

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(None, message, hint=hint)


class PipeClosed(BatchsentError):
    """The reader of our standard output went away, so nothing is printed about it."""

    exit_code = 141
