"""Checkpoints beside the model folder: whose they are, which are whole, when they go."""

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
STATE = "trainer_state.json"
# How long the training had taken when the checkpoint was written.
CLOCK = "elapsed.json"
# The folder of a pre-training, among the checkpoints, and what it holds once that is finished.
PRETRAINING, PRETRAINED = "pretraining", "pretrained.json"


class Checkpoints:
    """The folder of checkpoints: bound to what is trained, removed when the model is published.

    Only one process at a time may enter it: finetune holds the lock of the output.
    """

    def __init__(
        self, path: Path, identity: dict[str, Any], *, restart: bool = False, resume: bool = False
    ) -> None:
        self.path = path
        self.latest: Path | None = None  # the newest whole checkpoint of this very training
        self.skipped: list[str] = []  # why others were not taken, a line each
        self.finished = False  # set when nothing of the folder is needed any more
        self._identity = json.loads(json.dumps(identity))
        self._restart = restart
        self._resume = resume

    def __enter__(self) -> "Checkpoints":
        """Find what an interrupted run left, and remove checkpoints that are damaged.

        Raises UsageError for the checkpoints of another training, and with `resume` where there is
        nothing to resume.
        """
        old = [*newest_first(self.path), *newest_first(self.pretraining)]
        damaged = {}
        for checkpoint in old:
            why = find_damage(checkpoint)
            if why is not None:
                name = checkpoint.relative_to(self.path)
                damaged[checkpoint] = f"{name} is damaged: {printable(why)}"
        if self._resume and len(damaged) == len(old) and not self._has_results():
            self._refuse_resume(list(damaged.values()))
        if (old or self._has_results()) and not self._restart:
            self._check_identity()
        with atomic.output_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            for checkpoint in old:
                if self._restart or checkpoint in damaged:
                    shutil.rmtree(checkpoint)
            if self._restart:
                self._trials.unlink(missing_ok=True)
                shutil.rmtree(self.pretraining, ignore_errors=True)
            atomic.write_file(self._note, json.dumps(self._identity, indent=1).encode())
        self.latest = self.find_latest()
        if not self._restart:
            self.skipped = list(damaged.values())
        return self

    def find_latest(self) -> Path | None:
        """Return the newest checkpoint that is whole, now."""
        return latest_whole(self.path)

    def _has_results(self) -> bool:
        """Tell whether there are results that no checkpoint holds: of trials, or a pre-training."""
        return self._trials.exists() or (self.pretraining / PRETRAINED).exists()

    def _refuse_resume(self, damaged: list[str]) -> None:
        """Say that --resume has nothing to resume."""
        torn = ""
        if damaged:
            torn = f"; {len(damaged)} checkpoints there are damaged ({damaged[0]})"
        raise UsageError(
            f"--resume: there is no training of {printable(self.path)} to resume{torn}",
            hint="leave --resume out to start one; a run without it resumes too where it can",
        )

    def _check_identity(self) -> None:
        """Refuse the checkpoints of another training, with what differs."""
        known: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            known = json.loads(self._note.read_text(encoding="utf-8"))
        if not isinstance(known, dict):
            known = {}
        names = {**known, **self._identity}
        other = sorted(key for key in names if known.get(key) != self._identity.get(key))
        if not other:
            return
        raise UsageError(
            f"{printable(self.path)} holds checkpoints of another training (other "
            f"{', '.join(other)}){self._describe_changes(known)}",
            hint="run the same command as before to resume it, or add --restart to throw them away",
        )

    def _describe_changes(self, known: dict[str, Any]) -> str:
        """Return the settings that were others then, with both values."""
        changes = []
        for section in ("hyperparameters", "pre-training"):
            before, now = known.get(section), self._identity.get(section)
            if isinstance(before, dict) and isinstance(now, dict):
                changes += [
                    f"{name} was {printable(before.get(name))} and is {printable(value)}"
                    for name, value in now.items()
                    if before.get(name) != value
                ]
        return f": {', '.join(changes)}" if changes else ""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the folder once the model is published, or where there is nothing to resume."""
        # A diverged training would diverge again from its checkpoint.
        hopeless = (isinstance(error, DeviceError) and error.details.get("diverged")) or not (
            newest_first(self.path) or newest_first(self.pretraining) or self._has_results()
        )
        if self.finished or (error is not None and hopeless):
            shutil.rmtree(self.path, ignore_errors=True)

    @property
    def pretraining(self) -> Path:
        """The folder of the pre-training."""
        return self.path / PRETRAINING

    @property
    def _note(self) -> Path:
        """What is being trained here."""
        return self.path / "training.json"

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


def newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, whole or not."""
    return sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True)


def latest_whole(folder: Path) -> Path | None:
    """Return the newest checkpoint in a folder that is whole."""
    found = newest_first(folder)
    return next((checkpoint for checkpoint in found if find_damage(checkpoint) is None), None)


def find_damage(checkpoint: Path) -> str | None:
    """Say what of a checkpoint is damaged, as a killed Trainer leaves it; None for a whole one.

    With adapters it holds them alone. Where the best checkpoint until then is another one, that
    must be whole too: it may be the model in the end.
    """
    state = read_state(checkpoint)
    if state is None:
        return f"{STATE} cannot be read"
    if state.get("global_step") != step_of(checkpoint):
        return f"{STATE} is of another step"
    adapted = (checkpoint / ADAPTER).exists()
    weights = ADAPTER if adapted else WEIGHTS
    try:
        read_header(checkpoint / weights)
    except (OSError, BatchsentError):
        return f"{weights} is not whole"
    # Every process of a training has a random state of its own: rng_state_0.pth, rng_state_1.pth,
    # ...
    random_states = sorted(path.name for path in checkpoint.glob("rng_state*.pth"))
    for name in ("optimizer.pt", "scheduler.pt", *(random_states or ["rng_state.pth"])):
        if not zipfile.is_zipfile(checkpoint / name):
            return f"{name} is not whole"
    best = state.get("best_model_checkpoint")
    if best is None or Path(best).name == checkpoint.name:
        return None
    why = find_damage(checkpoint.with_name(Path(best).name))
    return None if why is None else f"its best checkpoint, {Path(best).name}: {why}"


def read_state(checkpoint: Path) -> dict[str, Any] | None:
    """Return the Trainer's state of a checkpoint; None where it cannot be read."""
    try:
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def describe_position(checkpoint: Path, epochs: float) -> str:
    """Say how far a whole checkpoint is in a training of so many epochs."""
    epoch = (read_state(checkpoint) or {})["epoch"]
    return f"epoch {epoch:.2f} of {epochs:g}, {describe_steps(checkpoint)}"


def describe_steps(checkpoint: Path) -> str:
    """Say how many of its steps a whole checkpoint has taken."""
    state = read_state(checkpoint) or {}
    step, steps = state["global_step"], state["max_steps"]
    share = step / steps if steps else 1.0
    return f"step {step:,} of {steps:,} ({share:.0%})"


def write_clock(checkpoint: Path, elapsed_s: float) -> None:
    """Note in a checkpoint how long the training took until then."""
    atomic.write_file(checkpoint / CLOCK, json.dumps({"elapsed_s": round(elapsed_s, 3)}).encode())


def read_clock(checkpoint: Path | None) -> float:
    """Return how long a training took until a checkpoint; 0 where that is not known."""
    if checkpoint is None:
        return 0.0
    try:
        return float(json.loads((checkpoint / CLOCK).read_bytes())["elapsed_s"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
