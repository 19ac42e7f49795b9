"""The two middle stages of a run: chunks to tokens, and tokens to scores kept as parts."""

import contextlib
import ctypes
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import PENDING, Chunk, Scores, Sentences, SentenceScores
from batchsent.errors import ModelError
from batchsent.formats.known_texts import KnownTexts
from batchsent.model.scorer import Prepared, Scorer
from batchsent.run.parts import Parts
from batchsent.run.pipeline import Clock, Prefetch

# How often the scores of an unfinished chunk are kept: kill -9 loses at most this much work.
KEEP_S = 60.0
# How often memory is given back: it takes 15 ms, and page faults when the memory is used again.
# Between the batches of a chunk too: without that 1,000 IMDB reviews took 1,503 MB instead of 942.
TRIM_S = 2.0


@dataclass(frozen=True)
class Work:
    """Texts to score: those of a chunk, or its sentences."""

    chunk: Chunk
    ready: Prepared | None  # their tokens; None where all scores are kept in a part
    known: Scores | None  # what is known of them, from a part or from an output to reuse
    kept: bool = False  # whether it is from a part
    # (rows,) whose scores are those of an output to reuse; None for none
    reused: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class SentenceWork:
    """The sentences of a chunk, to be scored after its texts."""

    sentences: Sentences
    work: Work  # its chunk has a row for each sentence


Tokenized = tuple[Work, SentenceWork | None]


class Scoring:
    """Tokenizes and scores the chunks of a run. Each of both runs in a thread of its own."""

    def __init__(
        self,
        scorer: Scorer,
        parts: Parts | None,
        clock: Clock,
        interrupted: Callable[[], bool],
        progress: Callable[[int], None],
        *,
        reuse: KnownTexts | None = None,
        sentences: bool = False,
    ) -> None:
        """Take what the stages need; `progress` is called with the rows done, after each batch.

        `reuse` knows the scores of texts in earlier outputs. `sentences` says that each sentence of
        the texts is scored too.

        Within a chunk they are estimated by the share of its tokens, since long texts come first.
        """
        self._scorer, self._parts, self._clock = scorer, parts, clock
        self._interrupted, self._progress = interrupted, progress
        self._reuse, self._with_sentences = reuse, sentences
        self.known_rows = 0  # rows so far that needed no model
        self._sentence_parts = parts.of_sentences() if parts else None
        self._closing = False
        self._trimmed = time.monotonic()

    @contextlib.contextmanager
    def stages(self, chunks: Iterable[Chunk]) -> Iterator[Iterable[tuple[Chunk, Scores]]]:
        """Read, tokenize and score in three threads; gives chunks with their scores, in order.

        On leaving the threads end, the last stage first.
        """
        with contextlib.ExitStack() as stack:
            read = Prefetch(self._clock.each("read", chunks), 2, self.stop, "read")
            stack.callback(read.close)
            tokenized = Prefetch(self.tokenize(read), 2, self.stop, "tokenize")
            stack.callback(tokenized.close)
            scored = Prefetch(self.score(tokenized), 2, name="score")
            stack.callback(scored.close)
            stack.callback(self.close)
            yield scored

    def close(self) -> None:
        """Make the score stage end at its next batch: the output is being discarded."""
        self._closing = True

    def stop(self) -> bool:
        """Tell whether to stop: a signal came, or the output is being discarded."""
        return self._closing or self._interrupted()

    def score(self, tokenized: Iterable[Tokenized]) -> Iterator[tuple[Chunk, Scores]]:
        """Yield chunks with their scores, in order.

        Ends early when `stop` is true; the scores of the unfinished chunk are kept then.
        """
        for texts, sentences in tokenized:
            chunk, known = texts.chunk, texts.known
            if known is not None:
                rows = int((known.status != PENDING).sum())
                self.known_rows += rows
                if self._parts and texts.kept:
                    self._parts.resumed_rows += rows
            # Texts and sentences have about as many tokens.
            share = 1.0 if sentences is None else 0.5
            scores = self._score(texts, self._parts, chunk, 0, share)
            if scores is None:
                return
            if sentences is not None:
                judged = self._score(sentences.work, self._sentence_parts, chunk, share, share)
                if judged is None:
                    return
                scores = replace(scores, sentences=SentenceScores(sentences.sentences, judged))
            if texts.reused is not None:
                scores = replace(scores, reused=texts.reused)
            self._progress(chunk.start_row + chunk.rows)
            yield chunk, scores
            self._trim()

    def tokenize(self, chunks: Iterable[Chunk]) -> Iterator[Tokenized]:
        """Yield chunks with their tokens; without them where a part has all of the scores."""
        for chunk in chunks:
            texts = self._prepare(chunk, self._parts, self._reuse)
            sentences = None
            if self._with_sentences:
                with self._clock.busy("tokenize"):
                    found = Sentences.of(chunk.texts)
                of_sentences = Chunk(chunk.start_row, list(found.texts), chunk.carried)
                sentences = SentenceWork(found, self._prepare(of_sentences, self._sentence_parts))
            yield texts, sentences

    def _prepare(self, chunk: Chunk, parts: Parts | None, reuse: KnownTexts | None = None) -> Work:
        """Return the texts of a chunk with what is known of them, and tokens unless a part has all.

        Texts whose scores are reused are tokenized too: their tokens are counted in the summary.
        """
        labels = len(self._scorer.labels)
        known = parts.load(chunk, labels) if parts else None
        found = reused = None
        if reuse is not None:
            with self._clock.busy("reuse"):
                found = reuse.find(chunk.texts)
            reused = found.status != PENDING
        if not chunk.rows:
            return Work(chunk, None, no_scores(labels))
        kept = known is not None
        if known is not None and not (known.status == PENDING).any():
            return Work(chunk, None, known, kept, reused)
        with self._clock.busy("tokenize"):
            ready = self._scorer.prepare(chunk.texts, reused)
        return Work(chunk, ready, known if kept else found, kept, reused)

    def _score(
        self, work: Work, parts: Parts | None, chunk: Chunk, begin: float, share: float
    ) -> Scores | None:
        """Score texts and keep their part; None when `stop` was true before they were finished.

        Of the work on `chunk` this is the `share` after `begin`, for the progress that is shown.
        """
        known, ready, rows = work.known, work.ready, work.chunk.rows
        if ready is None:
            return known
        keep_s, pending = KEEP_S, rows + 1
        while True:
            since = Clock()
            with self._clock.busy("score"):
                known = self._scorer.score(
                    ready,
                    done=known,
                    stop=lambda: self.stop() or since.elapsed_s > keep_s,  # noqa: B023 (called at once)
                    on_batch=lambda done: self._after_batch(
                        chunk.start_row + int((begin + done * share) * chunk.rows)
                    ),
                )
            before, pending = pending, int((known.status == PENDING).sum())
            finished = not pending
            if pending == before:
                # The windows of a text are kept together. One text of many windows takes longer.
                keep_s *= 2
            if parts and pending < rows:
                parts.save(work.chunk, known)
            if finished:
                return known
            if self.stop():
                return None

    def _after_batch(self, rows: int) -> None:
        """Report the rows done."""
        self._progress(rows)
        self._trim()

    def _trim(self) -> None:
        """Give memory back to the system, now and then."""
        if time.monotonic() - self._trimmed > TRIM_S:
            give_back_memory()
            self._trimmed = time.monotonic()


def score_chunks(
    chunks: Iterable[Chunk],
    scorer: Scorer,
    *,
    sentences: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
) -> Generator[tuple[Chunk, Scores], None, None]:
    """Yield chunks with their scores; what is read in advance ends with the iteration."""
    scoring = Scoring(scorer, None, Clock(), lambda: False, progress, sentences=sentences)
    with scoring.stages(chunks) as scored:
        yield from scored


def describe_nonfinite(nonfinite: int, scored: int, what: str) -> str | None:
    """Say that some of `what` have no score, or None where all have one.

    Raises ModelError where none has.
    """
    if nonfinite and not scored:
        raise ModelError(
            f"the model gives no finite number for any of {nonfinite:,} {what} (NaN or infinity)",
            hint="its weights are damaged or its training diverged: use another copy",
        )
    if not nonfinite:
        return None
    of_all = f"{nonfinite:,} of {nonfinite + scored:,} {what}"
    return f"the model gives no finite number for {of_all}: they have no label"


def give_back_memory() -> None:
    """Have the C library return its free memory to the system.

    Tensors of many sizes leave gaps, which glibc keeps: a 2 GB CSV with a tiny model ended at 3 GB
    instead of 1.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)


def no_scores(labels: int) -> Scores:
    """Return the scores of a chunk without rows, such as the blank lines at the end of a file."""
    none = np.zeros(0, np.int32)
    return Scores(np.zeros((0, labels), np.float32), none, none, none.astype(np.uint8), distinct=0)
