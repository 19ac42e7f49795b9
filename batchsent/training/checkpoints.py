"""Checkpoints beside the model folder: whose they are, which are whole, when they go; loads none of them."""

import errno
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from batchsent.errors import BatchsentError, DeviceError, OutputError, UsageError, printable
from batchsent.model import folder
from batchsent.run import commit


class Checkpoints:
    """The folder of checkpoints: bound to what is being trained, gone when the model is published.

    Only one process at a time may enter it: finetune holds the lock of the output.
    """

    def __init__(self, path: Path, identity: dict[str, Any], *, restart: bool) -> None:
        self.path = path
        self.latest: Path | None = None  # the newest whole checkpoint of this very training
        self.finished = False  # set when nothing of the folder is needed any more
        self._identity = json.loads(json.dumps(identity))
        self._restart = restart

    def __enter__(self) -> "Checkpoints":
        """Find what a killed run left. Raises UsageError for the checkpoints of another training."""
        note = self.path / "training.json"
        known: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            known = json.loads(note.read_text(encoding="utf-8"))
        old = sorted(self.path.glob("checkpoint-*"), key=step_of, reverse=True)
        if old and known != self._identity and not self._restart:
            other = sorted(key for key in self._identity if known.get(key) != self._identity[key])
            raise UsageError(
                f"{printable(self.path)} holds checkpoints of another training (other {', '.join(other)})",
                hint="run the same command as before to go on with it, or add --restart to throw them away",
            )
        with commit.output_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            for checkpoint in old:
                if self._restart or not is_whole(checkpoint):
                    shutil.rmtree(checkpoint)
            commit.write_file(note, json.dumps(self._identity, indent=1).encode())
        self.latest = next((checkpoint for checkpoint in old if checkpoint.exists()), None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the folder when the model is published, or when there is nothing in it to go on from."""
        # A diverged training would diverge again from its checkpoint.
        hopeless = (isinstance(error, DeviceError) and error.details.get("diverged")) or not any(
            self.path.glob("checkpoint-*")
        )
        if self.finished or (error is not None and hopeless):
            shutil.rmtree(self.path, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what torch and safetensors raise on a full or broken disk into an OutputError about `path`."""
    import safetensors

    with commit.output_errors(path):
        try:
            yield
        except (RuntimeError, safetensors.SafetensorError) as error:
            # safetensors puts the system's words into its message; torch only names the file of its writer.
            said = str(error)
            numbers = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
            number = next((n for n in numbers if os.strerror(n) in said), None)
            if number is not None:
                raise OSError(number, os.strerror(number)) from error
            if "inline_container" in said or "PytorchStreamWriter" in said:
                raise OutputError(
                    f"{printable(path)}: torch could not write to it",
                    hint="make room, then run the same command again; --save-strategy no needs less",
                ) from error
            raise


def step_of(checkpoint: Path) -> int:
    """Return the step in a checkpoint's name; the Trainer writes checkpoint-STEP."""
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def is_whole(checkpoint: Path) -> bool:
    """Tell whether a checkpoint was written to its end: a killed Trainer leaves a half-written one behind."""
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        folder.read_header(checkpoint / folder.WEIGHTS)
    except (OSError, ValueError, BatchsentError):
        return False
    archives = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
    return state.get("global_step") == step_of(checkpoint) and all(
        zipfile.is_zipfile(checkpoint / name) for name in archives
    )
