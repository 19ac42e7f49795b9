"""Texts of a chunk to scores: distinct texts, batches, back-off, results by row number."""

import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import BLANK, NONFINITE, PENDING, SCORED, Scores, is_blank
from batchsent.errors import DeviceError
from batchsent.model.batches import halve, plan_batches
from batchsent.model.checked import load_checked, record_check
from batchsent.model.device import (
    HALF,
    choose_device,
    device_error,
    device_errors,
    is_out_of_memory,
    lacks_memory,
)
from batchsent.model.encoder import Encoder, float32_encoder, make_encoder, packed_float32
from batchsent.model.loading import LoadedModel, ModelIdentity, load_model
from batchsent.model.options import ModelOptions, check_batch_tokens, check_model_options
from batchsent.model.packed import PackedEncoder
from batchsent.model.tokens import TextEncoder, Tokens, make_text_encoder
from batchsent.text import printable

# Less than half of a device's memory for one batch leaves room for its weights and for the
# allocator's gaps.
MEMORY_SHARE = 0.4
# On a CPU a batch is as large as its states stay in the cache: 2,048 tokens of 768 numbers in
# float32, 512 in int8 (twice as many cost 2 to 15 % there, half as many up to 3 %; IMDB reviews,
# DistilBERT size, AMD EPYC Zen 4).
CPU_VALUES = {"float32": 2_048 * 768, "bfloat16": 2_048 * 768, "int8": 512 * 768}
# Texts of a run that go through float32 too when it runs in int8, to say how far the two agree.
COMPARED_TEXTS = 50
LARGEST_BUDGET = 131_072  # an H200 is full at 64k to 128k tokens


@dataclass(frozen=True)
class Prepared:
    """A chunk ready for the device; `content` is the scorer's own."""

    rows: int
    content: Any


class Scorer(Protocol):
    """What a run asks of a model. `prepare` may run in another thread, ahead of `score`."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names, in the order of the probabilities."""

    def prepare(self, texts: list[str | None]) -> Prepared:
        """Tokenize a chunk."""

    def score(
        self,
        prepared: Prepared,
        *,
        done: Scores | None = None,
        stop: Callable[[], bool] | None = None,
        on_batch: Callable[[float], None] | None = None,
    ) -> Scores:
        """Score a chunk; rows that `stop` left undone are PENDING.

        `on_batch` is told after each batch which share of the chunk's tokens has been run.
        """

    def facts(self) -> dict[str, Any]:
        """Return the summary's sections "model" and "device"."""

    def close(self) -> None:
        """Free the device."""


@dataclass(frozen=True)
class _Distinct:
    """The texts of a chunk that go through the model, each once."""

    text_of: NDArray[np.int64]  # (rows,) number of the row's text; -1 for blank rows
    tokens: Tokens  # of the distinct texts
    batches: list[NDArray[np.int64]]  # numbers of pieces: of texts, or of windows of long ones


class ModelScorer:
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
        """Take the encoder to run, and `reference` for the first texts where it is not exact.

        `open_float32` makes the encoder for texts that half precision gives no finite number for;
        it is called once, when there is such a text.
        """
        check_batch_tokens(batch_tokens)
        # The model itself is not kept: the packed encoder has weights of its own, laid out for the
        # device.
        self.identity = model.identity
        self.device = model.device
        self.max_length = model.max_length
        self.encoder = encoder
        self.text_encoder = text_encoder
        self.batch_tokens = batch_tokens or default_budget(model)
        self.labels = self.identity.labels
        # largest batch known to fit, once memory has run out
        self.largest_batch_tokens: int | None = None
        self.backoffs = 0
        self.reference = reference
        self.agreement: dict[str, Any] | None = None
        self.open_float32 = open_float32 if self.device.precision in HALF else None
        self.float32: Encoder | None = None
        self.retried = 0  # texts run once more in float32
        self.tokens_run = 0
        self.padded_tokens = 0  # tokens and padding

    @classmethod
    def open(
        cls, identity: ModelIdentity, options: ModelOptions, *, always_check: bool = True
    ) -> "ModelScorer":
        """Load a model and choose the fastest way to run it.

        What was checked on this machine before need not be checked again: without `always_check`
        such a model loads in half the time. Raises UsageError, ModelError or DeviceError.
        """
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
            reference = packed_float32(model) if model.device.precision == "int8" else None
            encoder = make_encoder(model)
            if model.module is not None and isinstance(encoder, PackedEncoder):
                record_check(model)
        return cls(model, encoder, text_encoder, options.batch_tokens, reference, open_float32)

    def prepare(self, texts: list[str | None]) -> Prepared:
        """Find the distinct texts of a chunk, tokenize them and plan their batches."""
        numbers: dict[str, int] = {}
        text_of = np.full(len(texts), -1, dtype=np.int64)
        for row, text in enumerate(texts):
            if text is not None and not is_blank(text):
                text_of[row] = numbers.setdefault(text, len(numbers))
        tokens = self.text_encoder.encode(list(numbers))
        batches = plan_batches(tokens.lengths, self.batch_tokens, self.encoder.shape)
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

        When `stop` turns true between two batches the rest stays PENDING; such unfinished Scores
        given as `done` are continued, with the same result as in one sitting. `on_batch` is told
        after each batch which share of the chunk's tokens has been run. A text without a
        finite result in half precision is run once more in float32. Raises DeviceError when the
        device fails or a single text does not fit into its memory.
        """
        distinct: _Distinct = prepared.content
        texts = len(distinct.tokens.n_tokens)
        probabilities = np.full((texts, len(self.labels)), np.nan, dtype=np.float32)
        status = np.full(texts, PENDING, dtype=np.uint8)
        if self.reference is not None and texts:
            self._compare(distinct.tokens)
        has_text = distinct.text_of >= 0
        if done is not None:
            status[distinct.text_of[has_text]] = done.status[has_text]
            probabilities[distinct.text_of[has_text]] = done.probabilities[has_text]
        text_of, lengths = distinct.tokens.text_of, distinct.tokens.lengths
        finished, outputs = [], []
        tokens_run = 0
        for batch in distinct.batches:
            tokens_run += int(lengths[batch].sum())
            if (status[text_of[batch]] != PENDING).all():
                continue
            if stop is not None and stop():
                break
            for rows, output in self._run(distinct.tokens, batch):
                finished.append(rows)
                outputs.append(output)
            if on_batch is not None:
                on_batch(tokens_run / int(lengths.sum()))
        if outputs:
            pieces = np.full((len(text_of), len(self.labels)), np.nan, dtype=np.float32)
            pieces[np.concatenate(finished)] = self._fetch(outputs)
            ran = np.zeros(len(text_of), dtype=bool)
            ran[np.concatenate(finished)] = True
            # Windows that ran before a stop run again with the others of their text: only whole
            # texts are kept.
            rows = np.flatnonzero(
                (status == PENDING) & (np.bincount(text_of[~ran], minlength=texts) == 0)
            )
            values = average(pieces, text_of, texts)[rows]
            finite = np.logical_and.reduce(np.isfinite(values), axis=1)
            if self.open_float32 is not None and not finite.all():
                odd = np.flatnonzero(~finite)
                again = self._score_in_float32(distinct.tokens, rows[odd], stop)
                values[odd[: len(again)]] = again
                # Those that `stop` left out stay pending.
                left = odd[len(again) :]
                rows, values = np.delete(rows, left), np.delete(values, left, axis=0)
                finite = np.logical_and.reduce(np.isfinite(values), axis=1)
            status[rows] = np.where(finite, SCORED, NONFINITE)
            probabilities[rows] = np.where(finite[:, None], values, np.float32(np.nan))
        return self._scatter(distinct, probabilities, status)

    def _scatter(
        self, distinct: _Distinct, probabilities: NDArray[np.float32], status: NDArray[np.uint8]
    ) -> Scores:
        """Give every row the result of its text."""
        rows = len(distinct.text_of)
        has_text = distinct.text_of >= 0
        text = distinct.text_of[has_text]
        scores = Scores(
            probabilities=np.full((rows, len(self.labels)), np.nan, dtype=np.float32),
            n_tokens=np.zeros(rows, dtype=np.int32),
            truncated_tokens=np.zeros(rows, dtype=np.int32),
            status=np.full(rows, BLANK, dtype=np.uint8),
            distinct=len(status),
        )
        scores.probabilities[has_text] = probabilities[text]
        scores.n_tokens[has_text] = distinct.tokens.n_tokens[text]
        scores.truncated_tokens[has_text] = distinct.tokens.truncated_tokens[text]
        scores.status[has_text] = status[text]
        return scores

    def _compare(self, tokens: Tokens) -> None:
        """Run the first texts both ways and record how far they agree."""
        assert self.reference is not None
        pieces = np.arange(min(COMPARED_TEXTS, len(tokens.lengths)))
        ours, reference = (
            self._fetch(
                [
                    encoder.probabilities(tokens.take(row), tokens.lengths[row])
                    for row in pieces[:, None]
                ]
            )
            for encoder in (self.encoder, self.reference)
        )
        self.agreement = {
            "with": "float32",
            "texts": len(pieces),
            "label_flips": int((ours.argmax(axis=1) != reference.argmax(axis=1)).sum()),
            "largest_difference": round(float(np.abs(ours - reference).max()), 6),
        }
        self.reference = None

    def _run(self, tokens: Tokens, batch: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], Any]]:
        """Run one planned batch, in halves where memory has run out or is known to."""
        results, waiting = [], [batch]
        while waiting:
            rows = waiting.pop(0)
            lengths = tokens.lengths[rows]
            places = (
                int(lengths.max()) * len(rows)
                if self.encoder.shape == "padded"
                else int(lengths.sum())
            )
            if (
                self.largest_batch_tokens is not None
                and places > self.largest_batch_tokens
                and len(rows) > 1
            ):
                waiting[:0] = halve(rows)
                continue
            output = self._attempt(self.encoder, tokens.take(rows), lengths)
            if output is not None:
                results.append((rows, output))
                self.tokens_run += int(lengths.sum())
                self.padded_tokens += places
                continue
            # Outside the except block, where the traceback no longer holds the failed batch's
            # tensors.
            self._free()
            if len(rows) == 1:
                raise self._no_memory(int(lengths[0]))
            self.backoffs += 1
            self.largest_batch_tokens = max(1, places // 2)
            waiting[:0] = halve(rows)
        return results

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
            outputs = [self._run_alone(self.float32, tokens, piece) for piece in pieces]
            again[done] = average(self._fetch(outputs), np.zeros_like(pieces), 1)[0]
            self.retried += 1
        return again

    def _run_alone(self, encoder: Encoder, tokens: Tokens, piece: np.int64) -> Any:
        """Run one text, or one window of it, by itself."""
        row = np.array([piece])
        lengths = tokens.lengths[row]
        output = self._attempt(encoder, tokens.take(row), lengths)
        if output is None:
            self._free()
            output = self._attempt(encoder, tokens.take(row), lengths)
        if output is None:
            raise self._no_memory(int(lengths[0]))
        return output

    def _attempt(self, encoder: Encoder, ids: NDArray[np.int32], lengths: NDArray[np.int64]) -> Any:
        """Run an encoder once; None where memory ran out."""
        try:
            return encoder.probabilities(ids, lengths)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                return None
            raise self._device_error(error) from error

    def _fetch(self, outputs: list[Any]) -> NDArray[np.float32]:
        """Copy a chunk's results from the device; nothing is allocated there."""
        try:
            return np.concatenate([output.cpu().numpy() for output in outputs])
        except (RuntimeError, MemoryError) as error:
            raise self._device_error(error) from error

    def _device_error(self, error: Exception) -> Exception:
        """Translate an accelerator's error; on a CPU it is our mistake, or a lack of memory."""
        if self.device.kind == "cpu" and not lacks_memory(error):
            return error
        return device_error(
            self.device.description, error, "run the same command again: finished parts are kept"
        )

    def _no_memory(self, tokens: int) -> DeviceError:
        return DeviceError(
            f"{printable(self.device.description)} has no memory for one text of {tokens} tokens",
            hint="end other programs on it, lower --max-length, or use --device cpu",
        )

    def _free(self) -> None:
        if self.device.kind == "cuda":
            import torch

            torch.cuda.empty_cache()

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
            },
            "device": {
                **device.facts(),
                "warnings": [
                    said for said in (device.warning, self.encoder.warning) if said is not None
                ],
                "path": self.encoder.path,
                "path_reason": self.encoder.reason,
                "tokenizer_path": self.text_encoder.path,
                "batch_tokens": self.batch_tokens,
                "fitting_tokens": self.largest_batch_tokens,
                "oom_backoffs": self.backoffs,
                "nonfinite_retried": self.retried,
                "peak_memory_bytes": self._peak_memory_bytes(),
                "padding_share": 1 - self.tokens_run / self.padded_tokens
                if self.padded_tokens
                else 0.0,
            },
        }

    def _peak_memory_bytes(self) -> int:
        """Peak of the device's memory; on a CPU, of the process."""
        if self.device.kind == "cuda":
            import torch

            return int(torch.cuda.max_memory_allocated(self.device.name))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    def close(self) -> None:
        """Free the device's memory."""
        self._free()


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


def default_budget(model: LoadedModel) -> int:
    """Return the default tokens of a batch, from the sizes of device and model.

    The plan of batches must be the same in a run that is repeated or resumed beside another
    program.
    """
    config = model.config
    hidden = int(getattr(config, "hidden_size", 768))
    if model.device.memory_bytes is None:
        values = CPU_VALUES.get(model.device.precision, CPU_VALUES["float32"])
        return max(512, min(LARGEST_BUDGET, values // hidden))
    inner = int(
        getattr(config, "intermediate_size", None)
        or getattr(config, "hidden_dim", None)
        or 4 * hidden
    )
    bytes_per_token = (8 * hidden + 2 * inner) * (4 if model.device.precision == "float32" else 2)
    fitting = int(model.device.memory_bytes * MEMORY_SHARE) // bytes_per_token
    return max(512, min(LARGEST_BUDGET, fitting))
