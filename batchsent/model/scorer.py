"""Texts of a chunk to scores: distinct texts, batches, results by row number."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import BLANK, NONFINITE, PENDING, SCORED, Scores
from batchsent.model.ahead import Ahead
from batchsent.model.batch_runner import BatchRunner, padding_share
from batchsent.model.batches import plan_batches
from batchsent.model.budget import default_budget
from batchsent.model.checked import load_checked, record_check
from batchsent.model.device import choose_device, device_errors
from batchsent.model.encoder import Encoder, float32_encoder, make_encoder, reference_encoder
from batchsent.model.loading import LoadedModel, ModelIdentity, load_model
from batchsent.model.options import ModelOptions, check_batch_tokens, check_model_options
from batchsent.model.packed import PackedEncoder
from batchsent.model.packing import Tokens
from batchsent.model.submission import Callbacks, LocalScorer, LocalSubmission, Prepared
from batchsent.model.tokens import TextEncoder, make_text_encoder
from batchsent.precisions import PRECISIONS
from batchsent.row_texts import Texts, distinct_texts

# How many texts of a run in a format taken by name are scored in float32 too, to measure how
# far the two agree: at most 50, and one in 150 of the first chunk. Both ways take three times what
# int8 takes, so 2 % of it.
COMPARED_TEXTS, COMPARED_ONE_IN = 50, 150
# One model is loaded at a time: transformers' first import fails in several threads at once.
ONE_LOAD = threading.RLock()


@dataclass(frozen=True)
class _Distinct:
    """The texts of a chunk that go through the model, each once."""

    text_of: NDArray[np.int64]  # (rows,) number of the row's text; -1 for blank rows
    tokens: Tokens  # of the distinct texts
    batches: list[NDArray[np.int64]]  # numbers of pieces: of texts, or of windows of long ones


@dataclass(frozen=True)
class _Results:
    """The scores so far of the distinct texts of a chunk; filled in as they are scored."""

    probabilities: NDArray[np.float32]  # (texts, labels); NaN where status is not SCORED
    status: NDArray[np.uint8]  # (texts,)


@dataclass(frozen=True)
class _Launched:
    """A chunk whose batches were given to the device."""

    distinct: _Distinct
    results: _Results  # the scores so far
    finished: list[NDArray[np.int64]]  # numbers of the pieces that ran, batch by batch
    outputs: list[Any]  # of the batches


class ModelScorer(LocalScorer):
    """A transformers model as a Scorer."""

    def __init__(
        self,
        model: LoadedModel,
        encoder: Encoder,
        text_encoder: TextEncoder,
        batch_tokens: int | None = None,
        reference: Encoder | None = None,
        open_float32: Callable[[], Encoder] | None = None,
    ) -> None:
        """Take the encoder, and an exact `reference` to compare it with on the first texts.

        `open_float32` makes the encoder for texts without a finite number in half precision; it is
        called once, when there is such a text.
        """
        check_batch_tokens(batch_tokens)
        # The model is not kept: the packed encoder has weights of its own, laid out for the device.
        self.identity = model.identity
        self.device = model.device
        self.max_length = model.max_length
        self.encoder = encoder
        self.text_encoder = text_encoder
        self.tokenizer = model.tokenizer
        # processes that tokenize beside this one; None: as the device and the rows ask for
        self.tokenizer_processes: int | None = None
        self.batch_tokens = encoder.pack_tokens or batch_tokens or default_budget(model)
        self.labels = self.identity.labels
        self.runner = BatchRunner(self.device)
        self._ahead = Ahead()
        self.reference = reference
        self.agreement: dict[str, Any] | None = None
        is_half = PRECISIONS[self.device.precision].is_half
        self.open_float32 = open_float32 if is_half else None
        self.float32: Encoder | None = None
        self.retried = 0  # texts run once more in float32
        self.canaries: dict[str, Any] | None = None  # what canaries.compare found

    @classmethod
    def open(
        cls, identity: ModelIdentity, options: ModelOptions, *, always_check: bool = True
    ) -> "ModelScorer":
        """Load a model and choose the fastest way to run it.

        What was checked on this machine before need not be checked again: without `always_check`
        such a model loads in half the time. Raises UsageError, ModelError or DeviceError.
        """
        with ONE_LOAD:
            return cls._open(identity, options, always_check=always_check)

    @classmethod
    def _open(
        cls, identity: ModelIdentity, options: ModelOptions, *, always_check: bool
    ) -> "ModelScorer":
        check_model_options(identity, options)
        model = None
        if not always_check:
            device = choose_device(options.device, options.precision)
            model = load_checked(identity, device, options.max_length or identity.max_length)
        if model is None:
            model = load_model(
                identity,
                device=options.device,
                precision=options.precision,
                max_length=options.max_length,
            )
        text_encoder = make_text_encoder(
            model.tokenizer, model.max_length, options.long_text or identity.long_text
        )
        open_float32 = partial(
            float32_encoder, identity, model.tokenizer, model.device, model.max_length
        )
        with device_errors(model.device.description, model.device.kind):
            encoder = make_encoder(model, options.batch_tokens)
            reference = reference_encoder(model, open_float32)
            if model.module is not None and isinstance(encoder, PackedEncoder):
                record_check(model)
        return cls(model, encoder, text_encoder, options.batch_tokens, reference, open_float32)

    def prepare(self, texts: Texts, reused: NDArray[np.bool_] | None = None) -> Prepared:
        """Find the distinct texts of a chunk, tokenize them, plan the batches of those not reused.

        Reused texts are tokenized for their counts.
        """
        text_of, without_copies = distinct_texts(texts)
        tokens = self.text_encoder.encode(without_copies)
        to_run = np.arange(len(tokens.lengths))
        if reused is not None:
            is_reused = np.zeros(len(without_copies), dtype=bool)
            is_reused[text_of[reused & (text_of >= 0)]] = True
            to_run = np.flatnonzero(~is_reused[tokens.text_of])
        planned = plan_batches(tokens.lengths[to_run], self.batch_tokens, self.encoder.shape)
        batches = [to_run[batch] for batch in planned]
        return Prepared(len(texts), _Distinct(text_of, tokens, batches))

    def score(
        self,
        prepared: Prepared,
        *,
        done: Scores | None = None,
        stop: Callable[[], bool] | None = None,
        on_batch: Callable[[float], None] | None = None,
    ) -> Scores:
        """Score a chunk, batch by batch.

        When `stop` is true between two batches the rest stays PENDING. Such unfinished Scores may
        be given as `done`; they are completed, with the same result as without a stop. `on_batch`
        is called after each batch with the share of the chunk's tokens that has been run. A text
        without a finite result in half precision is run again in float32. Raises DeviceError when
        the device fails or a single text does not fit into its memory.
        """
        submitted, launched = self._ahead.take(prepared)
        if launched is None:
            launched = self._launch(prepared, done, stop, on_batch)
        if submitted and self.runner.runs_ahead:
            self._ahead.launch(self._launch_submission)
        return self._finish(launched, stop)

    def submit(
        self,
        texts: Texts,
        callbacks: Callbacks,
        *,
        done: Scores | None = None,
        reused: NDArray[np.bool_] | None = None,
    ) -> LocalSubmission:
        """Tokenize a chunk; a GPU may begin with it while the chunk before it is collected."""
        submission = super().submit(texts, callbacks, done=done, reused=reused)
        self._ahead.add(submission)
        return submission

    def drain(self) -> None:
        """Forget the chunks that were submitted and not collected."""
        self._ahead.clear()

    def begin_counts(self) -> None:
        """Let what is counted begin anew, for another run."""
        self.runner.begin_counts()
        self.retried = 0

    def _launch_submission(self, submission: LocalSubmission) -> _Launched:
        callbacks = submission.callbacks
        return self._launch(
            submission.prepared, submission.done, callbacks.stop, callbacks.on_batch
        )

    def _launch(
        self,
        prepared: Prepared,
        done: Scores | None,
        stop: Callable[[], bool] | None,
        on_batch: Callable[[float], None] | None,
    ) -> _Launched:
        """Run the batches of a chunk until `stop`; on a GPU, launch them."""
        distinct: _Distinct = prepared.content
        if self.reference is not None and len(distinct.tokens.n_tokens):
            self._compare(distinct.tokens, self.reference)
        results = self._begin(distinct, done)
        finished, outputs = self._run_pending(distinct, results.status, stop, on_batch)
        return _Launched(distinct, results, finished, outputs)

    def _finish(self, launched: _Launched, stop: Callable[[], bool] | None) -> Scores:
        """Wait for the batches of a chunk and return its scores."""
        distinct, results = launched.distinct, launched.results
        if launched.outputs:
            self._keep_whole_texts(
                distinct.tokens,
                results,
                np.concatenate(launched.finished),
                self.runner.fetch(launched.outputs),
                stop,
            )
        return self._scatter(distinct, results)

    def score_apart(self, texts: Sequence[str]) -> Scores:
        """Score texts that are not the user's: no figure of `facts` counts them.

        All of them run through all layers. With an early exit, one at its threshold would get quite
        another score in a number format that changes its last digits.
        """
        counted, rule = (self.reference, self.retried, self.runner), self.encoder.early_exit
        self.reference, self.runner = None, BatchRunner(self.device)
        self.encoder.early_exit = None
        try:
            return self.score(self.prepare(list(texts)))
        finally:
            self.reference, self.retried, self.runner = counted
            self.encoder.early_exit = rule

    def _begin(self, distinct: _Distinct, done: Scores | None) -> _Results:
        """Return what `done` says of the distinct texts; without it all are pending."""
        texts = len(distinct.tokens.n_tokens)
        probabilities = np.full((texts, len(self.labels)), np.nan, dtype=np.float32)
        status = np.full(texts, PENDING, dtype=np.uint8)
        if done is not None:
            has_text = distinct.text_of >= 0
            text = distinct.text_of[has_text]
            status[text] = done.status[has_text]
            probabilities[text] = done.probabilities[has_text]
        return _Results(probabilities, status)

    def _run_pending(
        self,
        distinct: _Distinct,
        status: NDArray[np.uint8],
        stop: Callable[[], bool] | None,
        on_batch: Callable[[float], None] | None,
    ) -> tuple[list[NDArray[np.int64]], list[Any]]:
        """Run the batches with pending texts until `stop`.

        Returns the numbers of the pieces that ran, batch by batch, and the batches' outputs.
        """
        tokens = distinct.tokens
        total_tokens = sum(int(tokens.lengths[batch].sum()) for batch in distinct.batches)
        finished, outputs = [], []
        tokens_run = 0
        for batch in distinct.batches:
            tokens_run += int(tokens.lengths[batch].sum())
            if (status[tokens.text_of[batch]] != PENDING).all():
                continue
            if stop is not None and stop():
                break
            for pieces, output in self.runner.run(self.encoder, tokens, batch):
                finished.append(pieces)
                outputs.append(output)
            if on_batch is not None:
                on_batch(tokens_run / total_tokens)
        return finished, outputs

    def _keep_whole_texts(
        self,
        tokens: Tokens,
        results: _Results,
        ran: NDArray[np.int64],
        outputs: NDArray[np.float32],
        stop: Callable[[], bool] | None,
    ) -> None:
        """Fill in the results of the texts of which every piece ran.

        `ran` (pieces,) are the numbers of the pieces, `outputs` (pieces, labels) their
        probabilities. A text of which only some windows ran before a stop stays pending, and all
        of its windows run again.
        """
        text_of, texts = tokens.text_of, len(tokens.n_tokens)
        pieces = np.full((len(text_of), len(self.labels)), np.nan, dtype=np.float32)
        pieces[ran] = outputs
        # Three texts, the second in two windows, and a stop after two pieces:
        #     text_of   0  1  1  2    text of each piece
        #     ran       0  1          pieces that ran
        #     left            1  2    texts of the others: texts 1 and 2 are not whole
        #     whole     0             what is kept
        left = np.delete(text_of, ran)
        is_whole = np.bincount(left, minlength=texts) == 0
        whole = np.flatnonzero((results.status == PENDING) & is_whole)
        values = average(pieces, text_of, texts)[whole]
        if self.open_float32 is not None:
            whole, values = self._retry_nonfinite(tokens, whole, values, stop)
        finite = rows_are_finite(values)
        results.status[whole] = np.where(finite, SCORED, NONFINITE)
        results.probabilities[whole] = np.where(finite[:, None], values, np.float32(np.nan))

    def _retry_nonfinite(
        self,
        tokens: Tokens,
        texts: NDArray[np.int64],
        values: NDArray[np.float32],
        stop: Callable[[], bool] | None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return texts and values with those in float32 where half precision gave no number.

        Texts that `stop` left out are not among them: they stay pending.
        """
        odd = np.flatnonzero(~rows_are_finite(values))
        again = self._score_in_float32(tokens, texts[odd], stop)
        values[odd[: len(again)]] = again
        left_out = odd[len(again) :]
        return np.delete(texts, left_out), np.delete(values, left_out, axis=0)

    def _score_in_float32(
        self, tokens: Tokens, texts: NDArray[np.int64], stop: Callable[[], bool] | None
    ) -> NDArray[np.float32]:
        """Return float32's probabilities (texts, labels): of all texts, unless `stop` turns true.

        Each window runs alone, so that its bits depend neither on the other texts nor on where a
        run was interrupted.
        """
        again = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        for done, text in enumerate(texts):
            if stop is not None and stop():
                return again[:done]
            if self.float32 is None:
                assert self.open_float32 is not None
                with device_errors(self.device.description, self.device.kind):
                    self.float32 = self.open_float32()
            first, end = np.searchsorted(tokens.text_of, [text, text + 1])
            pieces = np.arange(first, end)
            outputs = [self.runner.run_alone(self.float32, tokens, piece) for piece in pieces]
            again[done] = average(self.runner.fetch(outputs), np.zeros_like(pieces), 1)[0]
            self.retried += 1
        return again

    def _scatter(self, distinct: _Distinct, results: _Results) -> Scores:
        """Give every row the result of its text."""
        rows = len(distinct.text_of)
        has_text = distinct.text_of >= 0
        text, odd = distinct.text_of[has_text], distinct.tokens.odd_pieces
        scores = Scores(
            probabilities=np.full((rows, len(self.labels)), np.nan, dtype=np.float32),
            n_tokens=np.zeros(rows, dtype=np.int32),
            truncated_tokens=np.zeros(rows, dtype=np.int32),
            status=np.full(rows, BLANK, dtype=np.uint8),
            distinct=len(results.status),
            odd_pieces=None if odd is None else np.zeros(rows, dtype=np.int32),
        )
        scores.probabilities[has_text] = results.probabilities[text]
        scores.n_tokens[has_text] = distinct.tokens.n_tokens[text]
        scores.truncated_tokens[has_text] = distinct.tokens.truncated_tokens[text]
        scores.status[has_text] = results.status[text]
        if scores.odd_pieces is not None and odd is not None:
            scores.odd_pieces[has_text] = odd[text]
        return scores

    def _compare(self, tokens: Tokens, reference: Encoder) -> None:
        """Run the first texts with both encoders and record how far they agree."""
        count = len(tokens.lengths)
        pieces = np.arange(min(COMPARED_TEXTS, -(-count // COMPARED_ONE_IN)))
        ours = self._run_first(self.encoder, tokens, pieces)
        exact = self._run_first(reference, tokens, pieces)
        self.agreement = {
            "with": "float32",
            "texts": len(pieces),
            "label_flips": int((ours.argmax(axis=1) != exact.argmax(axis=1)).sum()),
            "largest_difference": round(float(np.abs(ours - exact).max()), 6),
        }
        self.reference = None

    def _run_first(
        self, encoder: Encoder, tokens: Tokens, pieces: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the probabilities (pieces, labels) of some pieces, in batches of their own."""
        batches = plan_batches(tokens.lengths[pieces], self.batch_tokens, encoder.shape)
        found = np.empty((len(pieces), len(self.labels)), dtype=np.float32)
        for batch in batches:
            output = encoder.probabilities(tokens.take(batch), tokens.lengths[batch])
            found[batch] = self.runner.fetch([output])
        return found

    def facts(self) -> dict[str, Any]:
        """Return the summary's sections "model" and "device"."""
        identity, device = self.identity, self.device
        return {
            "model": {
                "source": identity.source,
                "revision": identity.revision,
                "architecture": identity.architecture,
                "weights_sha256": identity.weights_sha256,
                "tokenizer_sha256": identity.tokenizer_sha256,
                "config_sha256": identity.config_sha256,
                "labels": list(identity.labels),
                "max_length": self.max_length,
                "long_text": self.text_encoder.long_text,
                "precision": device.precision,
                "precision_reason": device.reason,
                "agreement": self.agreement,
                "canaries": self.canaries,
                "early_exit": self.runner.early_exit(identity.early_exit),
            },
            "device": {
                **device.facts(),
                "warnings": [said for said in (device.warning, self.encoder.warning) if said],
                "path": self.encoder.path,
                "path_reason": self.encoder.reason,
                "tokenizer_path": self.text_encoder.path,
                "batch_tokens": self.batch_tokens,
                "pack_tokens": self.encoder.pack_tokens,
                "fitting_tokens": self.runner.largest_batch_tokens,
                "oom_backoffs": self.runner.backoffs,
                "nonfinite_retried": self.retried,
                "peak_memory_bytes": self.runner.peak_memory_bytes(),
                "padding_share": padding_share(self.runner),
                "busy_share": self.runner.time.busy_share(),
            },
        }

    def close(self) -> None:
        """Free the device's memory."""
        self.runner.free()


def rows_are_finite(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell for each row of (rows, labels) whether all of its numbers are finite."""
    finite: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(values), axis=1)
    return finite


def average(
    pieces: NDArray[np.float32], text_of: NDArray[np.int64], texts: int
) -> NDArray[np.float32]:
    """Return (texts, labels) means of the probabilities (pieces, labels) of each text's windows.

    A text of one piece gets exactly that piece's numbers.
    """
    if len(pieces) == texts:
        return pieces
    starts = np.searchsorted(text_of, np.arange(texts))
    sums: NDArray[np.float64] = np.add.reduceat(pieces, starts, axis=0, dtype=np.float64)
    return (sums / np.bincount(text_of, minlength=texts)[:, None]).astype(np.float32)
