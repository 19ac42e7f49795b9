"""A cascade: a fast model scores every text, and the main model those of which it is not sure.

A text is escalated where the fast model's highest probability, as its softmax gives it, is below a
threshold. That depends on the text alone. The main model runs the escalated texts of a chunk once
the fast one has run all of them, so that a resumed run has the same batches and the same bytes.

What that costs in accuracy is estimated: a sample of the texts that the fast model decided is run
by the main model too.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import BLANK, PENDING, SCORED, Scores
from batchsent.errors import UsageError
from batchsent.model.batch_runner import padding_share
from batchsent.model.canaries import open_scorer
from batchsent.model.loading import ModelIdentity
from batchsent.model.options import CASCADE_BELOW, CascadeOptions, ModelOptions, check_model_options
from batchsent.model.scorer import ModelScorer
from batchsent.model.submission import LocalScorer, Prepared
from batchsent.row_texts import Texts
from batchsent.text import printable

# The sample of both models: at most so many texts, and such a share of the time that scoring takes.
SAMPLE_TEXTS, SAMPLE_SHARE = 200, 0.02
# What the summary says of the fast model.
FACTS = (
    "source",
    "revision",
    "architecture",
    "weights_sha256",
    "tokenizer_sha256",
    "config_sha256",
    "max_length",
    "long_text",
    "precision",
    "agreement",
    "canaries",
    "early_exit",
)

# What the summary says of the device, added up over both models.
COUNTED = ("oom_backoffs", "nonfinite_retried")


def fast_options(options: ModelOptions) -> ModelOptions:
    """Return how the fast model runs: --max-length and --batch-tokens are about the main model."""
    return ModelOptions(
        device=options.device, precision=options.precision, long_text=options.long_text
    )


def threshold_of(options: CascadeOptions) -> float:
    """Return the probability below which a text is escalated. Raises UsageError."""
    below = options.cascade_below
    if below is None:
        return CASCADE_BELOW
    if options.cascade is None:
        raise UsageError(
            "--cascade-below requires --cascade", hint="name the fast model: --cascade embedded"
        )
    if not 0 < below <= 1:
        raise UsageError(f"--cascade-below {below:g} is not above 0 and at most 1")
    return below


def check_cascade(identity: ModelIdentity, options: ModelOptions) -> None:
    """Refuse a fast model that does not go with the main model; loads neither.

    Raises UsageError, and DeviceError for a device that is not there.
    """
    assert identity.cascade is not None
    fast = identity.cascade.identity
    names = f"--cascade {printable(fast.source)}", f"--model {printable(identity.source)}"
    if fast.labels != identity.labels:
        shown = [", ".join(map(printable, found.labels[:6])) for found in (fast, identity)]
        raise UsageError(
            f"both models must have the same labels in the same order: {names[0]} has {shown[0]}; "
            f"{names[1]} has {shown[1]}",
            hint="give two models that were trained on the same labels",
        )
    if fast.weights_sha256 == identity.weights_sha256:
        raise UsageError(
            f"{names[0]} and {names[1]} are the same model",
            hint="name a better model with --model, or leave out --cascade",
        )
    check_model_options(fast, fast_options(options))


def open_cascade(identity: ModelIdentity, options: ModelOptions) -> "CascadeScorer":
    """Load both models of a cascade and score their canaries. Raises as `open_scorer` does."""
    assert identity.cascade is not None
    fast = open_scorer(identity.cascade.identity, fast_options(options))
    return CascadeScorer(fast, open_scorer(identity, options), identity.cascade.below)


@dataclass
class _Chunk:
    """A chunk on its way through both models."""

    texts: Texts
    fast: Prepared
    begun: bool = False
    # (rows,) whose score is that of an output to reuse, so that no batch has them; None for none
    reused: NDArray[np.bool_] | None = None
    # (rows,) that had a score before this process: in a part, or in an output to reuse
    had_score: NDArray[np.bool_] | None = None
    # (rows,) that are escalated; of the rows that had no score once the fast model is done
    escalated: NDArray[np.bool_] | None = None
    read: Scores | None = None  # of an output to reuse, where it has the tokens (--details)
    fast_scores: Scores | None = None
    main: Prepared | None = None  # the escalated texts; blank elsewhere
    main_scores: Scores | None = None


class CascadeScorer(LocalScorer):
    """Two models as one Scorer."""

    def __init__(self, fast: ModelScorer, main: ModelScorer, below: float) -> None:
        """Take the fast model, the one for texts that it scores `below` that, and that."""
        self.fast, self.main, self.below = fast, main, below
        self.labels = main.labels
        self._begin_counts()

    def _begin_counts(self) -> None:
        # Both run on one device, in turn.
        self.main.runner.time = self.fast.runner.time
        self.score_s = self.main_s = self.sample_s = 0.0
        self.main_texts = 0  # run so far by the main model; those of the sample are not counted
        self.sample_texts = self.sample_same = 0

    def begin_counts(self) -> None:
        """Let what is counted begin anew, for another run."""
        self.fast.begin_counts()
        self.main.begin_counts()
        self._begin_counts()

    def prepare(self, texts: Texts, reused: NDArray[np.bool_] | None = None) -> Prepared:
        """Tokenize a chunk for the fast model."""
        return Prepared(len(texts), _Chunk(texts, self.fast.prepare(texts, reused), reused=reused))

    def score(
        self,
        prepared: Prepared,
        *,
        done: Scores | None = None,
        stop: Callable[[], bool] | None = None,
        on_batch: Callable[[float], None] | None = None,
    ) -> Scores:
        """Score a chunk with both models; a row is PENDING until its final score is known.

        What the fast model said is kept in `prepared` between two calls. In another process it
        says the same again.
        """
        chunk: _Chunk = prepared.content
        self._begin(chunk, done)
        started = time.perf_counter()
        chunk.fast_scores = self.fast.score(
            chunk.fast, done=chunk.fast_scores, stop=stop, on_batch=_half(on_batch, 0)
        )
        self.score_s += time.perf_counter() - started
        found = self._decided(chunk)
        if (chunk.fast_scores.status == PENDING).any():
            return found
        if chunk.escalated is None or not chunk.escalated.any():
            self._sample(chunk, found)
            return found
        if chunk.main is None:
            self._begin_main(chunk, done)
        assert chunk.main is not None
        started = time.perf_counter()
        before = _scored(chunk.main_scores)
        chunk.main_scores = self.main.score(
            chunk.main, done=chunk.main_scores, stop=stop, on_batch=_half(on_batch, 0.5)
        )
        took = time.perf_counter() - started
        self.score_s, self.main_s = self.score_s + took, self.main_s + took
        self.main_texts += _scored(chunk.main_scores) - before
        found = _merged(found, chunk.main_scores, chunk.escalated)
        if not (found.status == PENDING).any():
            self._sample(chunk, found)
        return found

    def _begin(self, chunk: _Chunk, done: Scores | None) -> None:
        """Take the scores so far of a chunk before its first pass in this process."""
        if chunk.begun:
            return
        chunk.begun = True
        chunk.had_score = np.zeros(len(chunk.texts), dtype=bool)
        chunk.escalated = np.zeros(len(chunk.texts), dtype=bool)
        if done is None:
            return
        chunk.had_score |= done.status != PENDING
        if done.escalated is not None:  # a part says which rows were escalated
            chunk.escalated |= done.escalated
        elif done.n_tokens.any():  # an output with --details has the tokens that were read
            chunk.read = done
        chunk.fast_scores = replace(done, escalated=None)

    def _decided(self, chunk: _Chunk) -> Scores:
        """Return the scores of the rows that the fast model decides, or that had a score before.

        All others are PENDING. Marks the rows that it does not decide as escalated.
        """
        fast = chunk.fast_scores
        assert fast is not None
        assert chunk.had_score is not None
        assert chunk.escalated is not None
        sure = (fast.status == SCORED) & (fast.best >= np.float32(self.below))
        undecided = ~chunk.had_score & ~sure & (fast.status != BLANK) & (fast.status != PENDING)
        chunk.escalated |= undecided
        if chunk.read is not None:
            chunk.escalated |= chunk.had_score & _read_otherwise(chunk.read, fast)
        status, probabilities = fast.status.copy(), fast.probabilities.copy()
        status[undecided] = PENDING
        probabilities[undecided] = np.nan
        return replace(
            fast,
            probabilities=probabilities,
            status=status,
            odd_pieces=None,  # the two tokenizers cut words otherwise: of both nothing is counted
            # Of rows without a final score this says nothing yet.
            escalated=chunk.escalated & (status != PENDING),
        )

    def _begin_main(self, chunk: _Chunk, done: Scores | None) -> None:
        """Tokenize the escalated texts for the main model, with their scores in `done`."""
        escalated = chunk.escalated
        assert escalated is not None
        texts = [
            text if is_escalated else None
            for text, is_escalated in zip(chunk.texts, escalated.tolist(), strict=True)
        ]
        chunk.main = self.main.prepare(texts, chunk.reused)
        if done is not None and chunk.had_score is not None and (escalated & chunk.had_score).any():
            chunk.main_scores = replace(
                done, status=np.where(escalated, done.status, BLANK).astype(np.uint8)
            )

    def _sample(self, chunk: _Chunk, found: Scores) -> None:
        """Run some of the texts that the fast model decided with the main model too.

        Which texts comes from their hashes, how many from the time that there is.
        """
        assert chunk.had_score is not None
        not_escalated = found.escalated == False  # noqa: E712
        rows = np.flatnonzero((found.status == SCORED) & ~chunk.had_score & not_escalated)
        left_s = SAMPLE_SHARE * self.score_s - self.sample_s
        if not len(rows) or left_s <= 0 or not self.main_texts:
            return
        count = min(SAMPLE_TEXTS - self.sample_texts, int(left_s * self.main_texts / self.main_s))
        if count < 1:
            return
        row_of = {str(chunk.texts[row]): row for row in rows.tolist()}
        drawn = sorted(row_of, key=_hash)[:count]
        started = time.perf_counter()
        other = self.main.score_apart(drawn)
        self.sample_s += time.perf_counter() - started
        self.score_s += time.perf_counter() - started
        scored = other.status == SCORED
        same = other.winners == found.winners[[row_of[text] for text in drawn]]
        self.sample_texts += int(scored.sum())
        self.sample_same += int((same & scored).sum())

    def facts(self) -> dict[str, Any]:
        """Return the summary's sections "model", with the fast one in "cascade", and "device"."""
        facts, fast = self.main.facts(), self.fast.facts()
        sample = {"texts": self.sample_texts, "same_label": self.sample_same}
        cascade = {name: fast["model"][name] for name in FACTS}
        cascade |= {"below": self.below, "sample": sample}
        device = facts["device"]
        paths = f"{device['path']}; fast model {fast['device']['path']}"
        said = [*fast["device"]["warnings"], *device["warnings"]]
        both = {name: fast["device"][name] + device[name] for name in COUNTED}
        both["padding_share"] = padding_share(self.fast.runner, self.main.runner)
        return {
            "model": facts["model"] | {"cascade": cascade},
            "device": device | both | {"path": paths, "warnings": list(dict.fromkeys(said))},
        }

    def close(self) -> None:
        """Free the device."""
        self.fast.close()
        self.main.close()


def open_model(identity: ModelIdentity, options: ModelOptions) -> LocalScorer:
    """Load a model, or both models of a cascade.

    Raises what `canaries.open_scorer` raises.
    """
    opened = open_scorer if identity.cascade is None else open_cascade
    return opened(identity, options)


def _half(on_batch: Callable[[float], None] | None, begin: float) -> Callable[[float], None] | None:
    """Return what one of the models calls after a batch: each counts as half."""
    if on_batch is None:
        return None
    return lambda share: on_batch(begin + share / 2)


def _read_otherwise(read: Scores, fast: Scores) -> NDArray[np.bool_]:
    """Tell of each row whether an earlier run read it otherwise than the fast model does.

    Then the main model decided it. Where both read a text alike, it does not matter which did.
    """
    truncated = (read.truncated_tokens > 0) != (fast.truncated_tokens > 0)
    other: NDArray[np.bool_] = (read.n_tokens != fast.n_tokens) | truncated
    return other & (read.n_tokens > 0)


def _scored(scores: Scores | None) -> int:
    return 0 if scores is None else int((scores.status == SCORED).sum())


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _merged(found: Scores, main: Scores, escalated: NDArray[np.bool_]) -> Scores:
    """Return the scores with those of the escalated rows from the main model."""
    return replace(
        found,
        probabilities=np.where(escalated[:, None], main.probabilities, found.probabilities),
        n_tokens=np.where(escalated, main.n_tokens, found.n_tokens),
        truncated_tokens=np.where(escalated, main.truncated_tokens, found.truncated_tokens),
        status=np.where(escalated, main.status, found.status),
        escalated=escalated & (main.status != PENDING),
    )
