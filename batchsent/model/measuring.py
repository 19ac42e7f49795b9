"""Measure one way to run a model: its agreement with float32, its bits, its speed, its memory.

`python -m batchsent.model.measuring` does so in a process of its own: a job as JSON on stdin, the
answer as JSON on stdout. What crashes or hangs there ends that process only.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.errors import BatchsentError, DeviceError
from batchsent.model.batch_runner import BatchRunner
from batchsent.model.batches import plan_batches
from batchsent.model.budget import default_budget
from batchsent.model.canaries import TEXTS, open_scorer
from batchsent.model.early_exit import EarlyExit
from batchsent.model.encoder import (
    CheckedEncoder,
    centred,
    packed_encoder,
    share_of_spread,
    stock_encoder,
)
from batchsent.model.loading import ModelIdentity, identify, load_model
from batchsent.model.options import ModelOptions
from batchsent.model.packing import Tokens, join, pack
from batchsent.model.packs import PackSize
from batchsent.model.scorer import rows_are_finite
from batchsent.model.spawned import end_with
from batchsent.model.tokens import make_text_encoder
from batchsent.model.ways import STOCK, UNFILLED, find_ways
from batchsent.precisions import PRECISIONS
from batchsent.text import first_line

# Texts up to this length are measured in pairs, so that there are neighbours of equal length.
PAIRED_TOKENS = 200
# Repetitions of the same batches, as long as they take less than this.
MOST_REPEATS, REPEATS_S = 10, 0.5
# Speed: texts of this length, in packs of these shares of the tokens that a run packs. Of packs
# of one size these shares of that size are tried: on a large GPU the same three sizes.
SPEED_TOKENS = 256
PACK_SHARES = (1 / 16, 1 / 8, 1)
SIZE_SHARES = (1 / 2, 1, 8)
MOST_TIMINGS, TIMINGS_S = 5, 0.5


@dataclass(frozen=True)
class Subject:
    """A model loaded for one way to run it."""

    identity: ModelIdentity
    encoder: Any  # a CheckedEncoder
    tokenizer: Any
    max_length: int
    budget: int  # tokens of a batch
    runner: BatchRunner
    canaries: dict[str, Any] | None = None


class LogitsOf:
    """An encoder whose results are logits, for a BatchRunner."""

    def __init__(self, encoder: CheckedEncoder) -> None:
        self.shape, self.path = encoder.shape, encoder.path
        self.pack_tokens = encoder.pack_tokens
        self.reason, self.warning = encoder.reason, encoder.warning
        self.early_exit: EarlyExit | None = None  # logits are those after all layers
        self.early_exits = 0
        self.probabilities = encoder.logits


def load(job: dict[str, Any]) -> Subject:
    """Load the model of a job for its way; without a path exactly as a scoring run does.

    Raises UsageError for a way that the model does not have, and what loading raises.
    """
    identity = identify(job["model"])
    options = ModelOptions(**job["options"])
    path = job["path"]
    if path is None:
        scorer = open_scorer(identity, options)
        encoder: Any = scorer.encoder
        return Subject(
            identity,
            encoder,
            scorer.tokenizer,
            scorer.max_length,
            scorer.batch_tokens,
            scorer.runner,
            scorer.canaries,
        )
    model = load_model(
        identity,
        device=options.device,
        precision=options.precision,
        max_length=options.max_length,
    )
    made: Any = stock_encoder(model)
    if path != STOCK:
        made = packed_encoder(model, options.batch_tokens)
    if path == UNFILLED:
        made.use_packs_of(None)
    return Subject(
        identity,
        made,
        model.tokenizer,
        model.max_length,
        made.pack_tokens or options.batch_tokens or default_budget(model),
        BatchRunner(model.device),
    )


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Return what is measured of one way, as JSON.

    `wanted` in the job are the logits of the texts in float32 on the CPU. Without them the way is
    the reference itself: its logits, each text alone, are returned as `logits`.
    """
    started = time.perf_counter()
    subject = load(job)
    load_s = time.perf_counter() - started
    texts = make_texts(subject, seed=0)
    answer: dict[str, Any] = {
        "path": subject.encoder.path,
        "reason": subject.encoder.reason,
        "texts": len(texts.lengths),
        "tokens": int(texts.lengths.sum()),
        "longest": int(texts.lengths.max()),
        "batch_tokens": subject.budget,
        "canaries": subject.canaries,
        "load_s": round(load_s, 2),
    }
    alone = run(subject, texts, 1)
    wanted = alone
    if job["wanted"] is None:
        answer["logits"] = alone.tolist()
    else:
        wanted = np.array(job["wanted"], dtype=np.float32)
    answer |= agreement(subject, texts, alone, wanted)
    backoffs = subject.runner.backoffs
    answer["tokens_per_s"] = dict(speeds(subject, texts))
    answer["oom_backoffs"] = backoffs
    answer["peak_memory_bytes"] = subject.runner.peak_memory_bytes()
    answer["seconds"] = round(time.perf_counter() - started, 2)
    return answer


def agreement(
    subject: Subject, texts: Tokens, alone: NDArray[np.float32], wanted: NDArray[np.float32]
) -> dict[str, Any]:
    """Return how the logits (texts, labels) of a way differ: from those wanted, and among runs.

    `alone` are its logits of each text by itself. Differences are shares of the logits' spread.
    """
    found = run(subject, texts, subject.budget)
    again = all(found.tobytes() == other.tobytes() for other in repeats(subject, texts))
    # The second text of each pair becomes another one: the first ones have other neighbours, of the
    # same lengths.
    others = make_texts(subject, seed=1)
    is_second = np.append(False, np.diff(texts.lengths) == 0)
    beside = run(subject, mixed(texts, others, is_second), subject.budget)
    finite = rows_are_finite(found) & rows_are_finite(wanted) & rows_are_finite(alone)
    kept = finite & ~is_second & rows_are_finite(beside)
    answer = {
        "finite": int(rows_are_finite(found).sum()),
        "tolerance": PRECISIONS[subject.runner.device.precision].tolerance,
        "largest_difference": None,
        "largest_logit_difference": None,
        "label_flips": None,
        "same_bits_again": again,
        "same_bits_beside_others": found[~is_second].tobytes() == beside[~is_second].tobytes(),
        "difference_beside_others": None,
        "same_bits_alone": found.tobytes() == alone.tobytes(),
        "difference_alone": None,
    }
    if kept.any():
        change = centred(found[finite]) - centred(wanted[finite])
        answer |= {
            "largest_difference": shortened(share_of_spread(found[finite], wanted[finite])),
            "largest_logit_difference": shortened(np.abs(change).max()),
            "label_flips": flips(found[finite], wanted[finite]),
            "difference_beside_others": shortened(share_of_spread(beside[kept], found[kept])),
            "difference_alone": shortened(share_of_spread(alone[finite], found[finite])),
        }
    return answer


def shortened(value: float) -> float:
    """Return a number with its first three digits."""
    return float(f"{value:.3g}")


def flips(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> int:
    """Count the texts whose label differs, of logits (texts, labels)."""
    return int((found.argmax(axis=1) != wanted.argmax(axis=1)).sum())


def repeats(subject: Subject, texts: Tokens) -> Iterator[NDArray[np.float32]]:
    """Run the same batches again, once at least, and yield the logits each time."""
    until = time.perf_counter() + REPEATS_S
    for _ in range(MOST_REPEATS):
        yield run(subject, texts, subject.budget)
        if time.perf_counter() > until:
            return


def run(subject: Subject, texts: Tokens, budget: int) -> NDArray[np.float32]:
    """Return the logits (texts, labels) of texts in batches of so many tokens, as a run has them.

    Raises DeviceError where a single text does not fit into memory.
    """
    encoder = LogitsOf(subject.encoder)
    logits = np.full((len(texts.lengths), len(subject.identity.labels)), np.nan, dtype=np.float32)
    for batch in plan_batches(texts.lengths, budget, subject.encoder.shape):
        for rows, output in subject.runner.run(encoder, texts, batch):
            logits[rows] = subject.runner.fetch([output])
    return logits


def speeds(subject: Subject, texts: Tokens) -> Iterator[tuple[str, int | None]]:
    """Yield tokens of a pack and tokens a second, None where that pack does not fit in memory."""
    encoder = subject.encoder
    constant = encoder.pack_tokens is not None
    length = min(SPEED_TOKENS, subject.max_length)
    source = int(np.flatnonzero(texts.lengths >= length)[0])
    ids = texts.take(np.array([source]))[:length]
    shares = SIZE_SHARES if constant else PACK_SHARES
    sizes = {max(1, int(subject.budget * share) // length) for share in shares}
    for count in sorted(sizes):
        tokens = count * length
        if constant:
            encoder.use_packs_of(PackSize(max(tokens, subject.max_length), subject.max_length))
        packed = Tokens(
            ids=np.tile(ids, count),
            offsets=np.arange(count + 1, dtype=np.int64) * length,
            truncated_tokens=np.zeros(count, dtype=np.int32),
            n_tokens=np.full(count, length, dtype=np.int32),
            text_of=np.arange(count),
        )
        backoffs = subject.runner.backoffs
        try:
            run(subject, packed, tokens)  # kernels are chosen, memory is taken
        except DeviceError:
            if not constant:
                raise
            yield str(tokens), None
            continue
        timings: list[float] = []
        while len(timings) < MOST_TIMINGS and sum(timings) < TIMINGS_S:
            started = time.perf_counter()
            run(subject, packed, tokens)
            timings.append(time.perf_counter() - started)
        fits = subject.runner.backoffs == backoffs
        yield str(tokens), round(tokens / median(timings)) if fits else None


def make_texts(subject: Subject, seed: int) -> Tokens:
    """Return made-up texts of every length, longest last, each of one piece.

    They are sentences of the canaries, joined by chance and cut.
    """
    encoder = make_text_encoder(subject.tokenizer, subject.max_length, "head")
    before, after = map(len, encoder.special_tokens)
    random = np.random.default_rng(seed)
    lengths = list(lengths_up_to(subject.max_length, before + after + 1))
    sentences = subject.max_length // 4 + 16  # they have 13 tokens each, on average
    found = encoder.encode([" ".join(random.choice(TEXTS, sentences)) for _ in lengths])
    rows = [
        found.ids[start + before : end - after][: length - before - after]
        for (start, end), length in zip(pairwise(found.offsets), lengths, strict=True)
    ]
    content = subject.max_length - before - after
    return pack(*join(rows), encoder.special_tokens, content, "head")


def lengths_up_to(most: int, least: int) -> Iterator[int]:
    """Yield rising lengths in tokens: around the powers of two, where kernels change, and between.

    Short ones, and the longest, come twice.
    """
    found = {least, most - 1, most}
    power = 4
    while power <= most:
        found |= {power - 1, power, power + 1, power + power // 2}
        power *= 2
    for length in sorted(found):
        if least <= length <= most:
            yield length
            if length <= PAIRED_TOKENS or length == most:
                yield length


def mixed(texts: Tokens, others: Tokens, from_others: NDArray[np.bool_]) -> Tokens:
    """Return texts, some of them taken from `others`, which have the same lengths."""
    return replace(
        texts, ids=np.where(np.repeat(from_others, texts.lengths), others.ids, texts.ids)
    )


# What a job may ask for.
ACTIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "ways": lambda job: find_ways(ModelOptions(**job["options"])),
    "measure": measure,
}


def main(actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = ACTIONS) -> None:
    """Do the job on stdin and write the answer to stdout; end the process at once.

    What libraries print goes to stderr.
    """
    out = os.dup(1)
    os.dup2(2, 1)
    job = json.load(sys.stdin)
    end_with_parent(job["limit_s"])
    try:
        answer: dict[str, Any] = {"found": actions[job["action"]](job)}
    except BatchsentError as error:
        answer = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    except Exception as error:  # noqa: BLE001 (any failure of a way is its result)
        answer = {"error": "", "message": f"{type(error).__name__}: {first_line(error)}"}
    with os.fdopen(out, "w", encoding="utf-8") as stream:
        json.dump(answer, stream)
    sys.stderr.flush()
    os._exit(0)  # freeing a device whose driver failed may take for ever


def end_with_parent(limit_s: float) -> None:
    """End this process with its parent, and in any case some time after the limit.

    The alarm ends it even where a library holds Python's lock.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(limit_s) + 30)
    end_with(os.getppid())


if __name__ == "__main__":
    main()
