"""Checkpoints beside the model folder: whose they are, which are whole, when they go.

Loads none of them.
"""

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

from batchsent.errors import BatchsentError, DeviceError, OutputError, UsageError
from batchsent.files import atomic
from batchsent.model.weight_files import WEIGHTS, read_header
from batchsent.text import printable

TRIALS = "trials.json"
ADAPTER = "adapter_model.safetensors"


class Checkpoints:
    """The folder of checkpoints: bound to what is being trained, gone when the model is published.

    Only one process at a time may enter it: finetune holds the lock of the output.
    """

    def __init__(
        self, path: Path, identity: dict[str, Any], *, restart: bool = False, resume: bool = False
    ) -> None:
        self.path = path
        self.latest: Path | None = None  # the newest whole checkpoint of this very training
        self.finished = False  # set when nothing of the folder is needed any more
        self._identity = json.loads(json.dumps(identity))
        self._restart = restart
        self._resume = resume

    def __enter__(self) -> "Checkpoints":
        """Find what a killed run left.

        Raises UsageError for the checkpoints of another training, and with `resume` where there is
        nothing to go on from.
        """
        note = self.path / "training.json"
        known: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            known = json.loads(note.read_text(encoding="utf-8"))
        old = sorted(self.path.glob("checkpoint-*"), key=step_of, reverse=True)
        if self._resume and not any(map(is_whole, old)) and not self._trials.exists():
            torn = f"; {len(old)} checkpoints there are damaged" if old else ""
            raise UsageError(
                f"--resume: there is no training of {printable(self.path)} to go on with{torn}",
                hint="leave --resume out to start one; a run without it goes on too where it can",
            )
        if (old or self._trials.exists()) and known != self._identity and not self._restart:
            other = sorted(key for key in self._identity if known.get(key) != self._identity[key])
            raise UsageError(
                f"{printable(self.path)} holds checkpoints of another training (other "
                f"{', '.join(other)})",
                hint="run the same command as before to go on with it, or add --restart to throw "
                "them away",
            )
        with atomic.output_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            for checkpoint in old:
                if self._restart or not is_whole(checkpoint):
                    shutil.rmtree(checkpoint)
            if self._restart:
                self._trials.unlink(missing_ok=True)
            atomic.write_file(note, json.dumps(self._identity, indent=1).encode())
        self.latest = next((checkpoint for checkpoint in old if checkpoint.exists()), None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the folder once the model is published, or where there is nothing to resume."""
        # A diverged training would diverge again from its checkpoint.
        hopeless = (isinstance(error, DeviceError) and error.details.get("diverged")) or not (
            any(self.path.glob("checkpoint-*")) or self._trials.exists()
        )
        if self.finished or (error is not None and hopeless):
            shutil.rmtree(self.path, ignore_errors=True)

    @property
    def _trials(self) -> Path:
        """What a search for settings has found so far."""
        return self.path / TRIALS


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of torch and safetensors on a full or broken disk into OutputError."""
    import safetensors

    with atomic.output_errors(path):
        try:
            yield
        except (RuntimeError, safetensors.SafetensorError) as error:
            # safetensors puts the system's words into its message; torch only names the file of its
            # writer.
            said = str(error)
            numbers = (
                errno.ENOSPC,
                errno.EDQUOT,
                errno.EFBIG,
                errno.EROFS,
                errno.EACCES,
                errno.EIO,
            )
            number = next((n for n in numbers if os.strerror(n) in said), None)
            if number is not None:
                raise OSError(number, os.strerror(number)) from error
            if "inline_container" in said or "PytorchStreamWriter" in said:
                raise OutputError(
                    f"{printable(path)}: torch could not write to it",
                    hint="make room, then run the same command again; --save-strategy no needs "
                    "less",
                ) from error
            raise


def step_of(checkpoint: Path) -> int:
    """Return the step in a checkpoint's name; the Trainer writes checkpoint-STEP."""
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def is_whole(checkpoint: Path) -> bool:
    """Tell whether a checkpoint is whole: a killed Trainer leaves a half-written one.

    With adapters it holds them alone. Where the best checkpoint until then is another one, that
    must be whole too: it may be the model in the end.
    """
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        adapted = (checkpoint / ADAPTER).exists()
        read_header(checkpoint / (ADAPTER if adapted else WEIGHTS))
        best = state.get("best_model_checkpoint")
    except (OSError, ValueError, AttributeError, BatchsentError):
        return False
    # Every process of a training has a random state of its own: rng_state_0.pth, rng_state_1.pth,
    # ...
    states = list(checkpoint.glob("rng_state*.pth"))
    archives = [checkpoint / "optimizer.pt", checkpoint / "scheduler.pt", *states]
    return (
        bool(states)
        and state.get("global_step") == step_of(checkpoint)
        and all(zipfile.is_zipfile(path) for path in archives)
        and (
            best is None
            or Path(best).name == checkpoint.name
            or is_whole(checkpoint.with_name(Path(best).name))
        )
    )
