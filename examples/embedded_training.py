"""Train a classifier on soft labels, on a CPU, as the model that comes with batchsent is trained.

`batchsent finetune --distill` learns the same targets. This loop does three things that it does
not: a batch has a number of tokens in place of rows, so that crops and whole reviews cost the same;
lengths are padded to multiples of 8, which oneDNN's cache of kernels needs for bfloat16 on AMX (2,000
tokens a second become 5,700 on two cores); and the weights that are kept are a moving average.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from batchsent.model.tokens import make_text_encoder
from batchsent.training.firsttoken import first_token_only

BATCH_TOKENS = 4_096
BATCH_ROWS = 45  # what a sum of losses is divided by: the rows of a batch, on average
PAD_TO = 8
SORTED_ROWS = 8_192  # sorted by length together, after a shuffle
WARMUP = 0.05  # of the steps
AVERAGE_FROM, AVERAGE_EVERY = 400, 4
SAVE_STEPS = 250
# An exit after an early layer learns along: so much of its loss counts, and it learns so much
# faster, since it is new.
EXIT_LOSS, EXIT_RATE = 0.3, 10.0
# Where a CPU only imitates bfloat16, it is several times slower than float32.
BFLOAT16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: linear to zero at `steps`, of which the first `stop` are taken."""

    learning_rate: float
    steps: int
    stop: int
    seed: int
    average_keep: float = 0.998  # of the moving average, every AVERAGE_EVERY steps

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        warm = min(1.0, (step + 1) / (WARMUP * self.steps))
        return self.learning_rate * warm * max(0.0, (self.steps - step) / self.steps)


def encode(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[NDArray[np.int32]]:
    """Return the token ids of each text, of longer ones those of its head and tail."""
    found = make_text_encoder(tokenizer, max_length, "head-tail").encode(list(texts))
    pairs = zip(found.offsets[:-1], found.offsets[1:], strict=True)
    return [found.ids[start:end] for start, end in pairs]


def batches(lengths: NDArray[np.int64], random: np.random.Generator) -> list[list[int]]:
    """Return row numbers in batches of similar lengths, each within BATCH_TOKENS, shuffled."""
    found: list[list[int]] = []
    order = random.permutation(len(lengths))
    for first in range(0, len(order), SORTED_ROWS):
        part = order[first : first + SORTED_ROWS]
        batch: list[int] = []
        for row in part[np.argsort(lengths[part], kind="stable")].tolist():
            # Sorted: the last row is the longest of its batch.
            if batch and padded(int(lengths[row])) * (len(batch) + 1) > BATCH_TOKENS:
                found.append(batch)
                batch = []
            batch.append(row)
        found.append(batch)
    return [found[place] for place in random.permutation(len(found)).tolist()]


def padded(tokens: int) -> int:
    """Return a length rounded up to a multiple of PAD_TO."""
    return -(-tokens // PAD_TO) * PAD_TO


def pad(rows: Sequence[NDArray[np.int32]]) -> tuple[Any, Any]:
    """Return ids and attention mask (rows, longest) of token ids."""
    width = padded(max(map(len, rows)))
    ids = np.zeros((len(rows), width), dtype=np.int64)
    mask = np.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


def loss_of(logits: Any, targets: Any) -> Any:
    """Return the sum of the rows' cross entropies: both (rows, labels)."""
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")


def new_exit(model: Any) -> Any:
    """Return a classifier of the first token's states, at first with an even chance for each text."""
    found = torch.nn.Linear(model.config.hidden_size, model.config.num_labels)
    torch.nn.init.zeros_(found.weight)
    torch.nn.init.zeros_(found.bias)
    return found


class Training:
    """A model, its optimizer and the moving average of its weights; resumes from `folder`."""

    def __init__(
        self, model: Any, folder: Path, schedule: Schedule, exit_layer: int | None = None
    ) -> None:
        """With `exit_layer` a classifier learns what the states after so many layers say."""
        self.model, self.schedule = model.train(), schedule
        self.state = folder / "state.pt"
        groups = [{"params": list(model.parameters()), "rate": 1.0}]
        self.states_at_exit: list[Any] = []  # those of the batch that runs
        if exit_layer is not None:
            model.early_exit = new_exit(model)
            groups.append({"params": list(model.early_exit.parameters()), "rate": EXIT_RATE})
            layer = model.distilbert.transformer.layer[exit_layer - 1]
            layer.register_forward_hook(lambda _, __, out: self.states_at_exit.append(out))
        self.weights = [weight for group in groups for weight in group["params"]]
        self.optimizer = torch.optim.AdamW(
            groups, lr=schedule.learning_rate, betas=(0.9, 0.98), fused=True
        )
        self.average = [weight.detach().clone() for weight in self.weights]
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)

    def resume(self, state: Path | None = None) -> None:
        """Go on from a state: that of the folder, or of an earlier training."""
        state = state or self.state
        if not state.exists():
            return
        found = torch.load(state, weights_only=True)
        self.model.load_state_dict(found["model"])
        self.optimizer.load_state_dict(found["optimizer"])
        self.average, self.step = found["average"], found["step"]

    def save(self) -> None:
        """Write the state, whole under its name."""
        pending = self.state.with_suffix(".tmp")
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average,
                "step": self.step,
            },
            pending,
        )
        pending.replace(self.state)

    def run(
        self, rows: Sequence[NDArray[np.int32]], positive: NDArray[np.float32], first_step: int = 0
    ) -> None:
        """Take the steps that are left: `rows` are token ids, `positive` (rows,) their targets.

        `first_step` is the step at which these rows began to be learned.
        """
        lengths = np.array([len(row) for row in rows])
        with first_token_only(self.model):
            for number, batch in enumerate(self._endless(lengths)):
                if first_step + number < self.step:
                    continue
                if self.step >= self.schedule.stop:
                    break
                self._step([rows[row] for row in batch], positive[batch])
                if self.step % SAVE_STEPS == 0:
                    click.echo(f"step {self.step:,} of {self.schedule.stop:,}")
                    self.save()
        self.save()

    def _endless(self, lengths: NDArray[np.int64]) -> Iterator[list[int]]:
        """Yield batches, epoch after epoch."""
        epoch = 0
        while True:
            yield from batches(lengths, np.random.default_rng([self.schedule.seed, epoch]))
            epoch += 1

    def _step(self, rows: Sequence[NDArray[np.int32]], positive: NDArray[np.float32]) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * self.schedule.rate(self.step)
        ids, mask = pad(rows)
        targets = torch.from_numpy(np.stack([1 - positive, positive], axis=1))
        self.states_at_exit.clear()
        with torch.autocast("cpu", torch.bfloat16, enabled=BFLOAT16):
            logits = self.model(input_ids=ids, attention_mask=mask).logits
        loss = loss_of(logits, targets)
        for states in self.states_at_exit:
            loss = loss + EXIT_LOSS * loss_of(self.model.early_exit(states[:, 0].float()), targets)
        (loss / BATCH_ROWS).backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        if self.step % AVERAGE_EVERY == 0:
            share = 1 - self.schedule.average_keep if self.step > AVERAGE_FROM else 0.05
            with torch.no_grad():
                torch._foreach_lerp_(self.average, self.weights, share)

    @contextmanager
    def averaged(self) -> Iterator[Any]:
        """Give the model its averaged weights while the block runs."""
        kept = [weight.detach().clone() for weight in self.weights]
        with torch.no_grad():
            torch._foreach_copy_(self.weights, self.average)
        try:
            yield self.model.eval()
        finally:
            self.model.train()
            with torch.no_grad():
                torch._foreach_copy_(self.weights, kept)
