"""The two middle stages of a run: chunks are submitted to the model, and their scores collected."""

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import PENDING, Chunk, Scores, Sentences, SentenceScores
from batchsent.formats.known_texts import KnownTexts
from batchsent.model.submission import Callbacks, Scorer, Submission
from batchsent.run.free_memory import give_back_memory
from batchsent.run.parts import Parts
from batchsent.run.pipeline import Clock, Prefetch
from batchsent.run.rows_done import RowsDone

# How often memory is given back: it takes 15 ms, and page faults when the memory is used again.
# Between the batches of a chunk too: without that 1,000 IMDB reviews took 1,503 MB instead of 942.
TRIM_S = 2.0


@dataclass(frozen=True)
class Work:
    """Texts to score: those of a chunk, or its sentences."""

    chunk: Chunk
    submission: Submission | None  # None where all scores are kept in a part
    done: Scores | None  # their scores so far, from a part or from an output to reuse
    kept: bool = False  # whether it is from a part
    # (rows,) whose scores are those of an output to reuse; None for none
    reused: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class SentenceWork:
    """The sentences of a chunk, to be scored after its texts."""

    sentences: Sentences
    work: Work  # its chunk has a row for each sentence


Submitted = tuple[Work, SentenceWork | None]


class Scoring:
    """Submits the chunks of a run and collects their scores. Each runs in a thread of its own."""

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

        Within a chunk the rows done are estimated by the share of its tokens that was run: long
        texts come first.
        """
        self._scorer, self._parts, self._clock = scorer, parts, clock
        self._interrupted, self._progress = interrupted, RowsDone(progress)
        self._reuse, self._with_sentences = reuse, sentences
        self.known_rows = 0  # rows so far that needed no model
        self._sentence_parts = parts.of_sentences() if parts else None
        self._closing = False
        self._trimmed = time.monotonic()

    @contextlib.contextmanager
    def stages(self, chunks: Iterable[Chunk]) -> Iterator[Iterable[tuple[Chunk, Scores]]]:
        """Read, submit and collect in three threads; gives chunks with their scores, in order.

        On leaving the threads end, the last stage first, and nothing is scored any more.
        """
        # One chunk waits for its place in the queue and one is collected, so there is one more in
        # flight than there are workers.
        in_flight = max(2, self._scorer.workers - 1)
        with contextlib.ExitStack() as stack:
            read = Prefetch(self._clock.each("read", chunks), 2, self.stop, "read")
            stack.callback(read.close)
            stack.callback(self._scorer.drain)
            submitted = Prefetch(self.submit(read), in_flight, self.stop, "tokenize")
            stack.callback(submitted.close)
            scored = Prefetch(self.collect(submitted), 2, name="score")
            stack.callback(scored.close)
            stack.callback(self.close)
            yield scored

    def close(self) -> None:
        """Make scoring end at its next batch: the output is being discarded."""
        self._closing = True

    def stop(self) -> bool:
        """Tell whether to stop: a signal came, or the output is being discarded."""
        return self._closing or self._interrupted()

    def submit(self, chunks: Iterable[Chunk]) -> Iterator[Submitted]:
        """Submit the chunks that have no part with all of their scores; yield all of them."""
        for chunk in chunks:
            # Texts and sentences have about as many tokens.
            rows = chunk.rows / 2 if self._with_sentences else chunk.rows
            texts = self._submit(chunk, self._parts, rows, self._reuse)
            sentences = None
            if self._with_sentences:
                with self._clock.busy("tokenize"):
                    found = Sentences.of(chunk.texts)
                of_sentences = Chunk(chunk.start_row, list(found.texts), chunk.carried)
                work = self._submit(of_sentences, self._sentence_parts, rows)
                sentences = SentenceWork(found, work)
            yield texts, sentences

    def collect(self, submitted: Iterable[Submitted]) -> Iterator[tuple[Chunk, Scores]]:
        """Yield chunks with their scores, in order.

        Ends early when `stop` is true; the scores of unfinished chunks are kept then.
        """
        for texts, sentences in submitted:
            chunk, done = texts.chunk, texts.done
            if done is not None:
                rows = int((done.status != PENDING).sum())
                self.known_rows += rows
                if self._parts and texts.kept:
                    self._parts.resumed_rows += rows
            scores = self._collect(texts)
            if scores is None:
                return
            if sentences is not None:
                judged = self._collect(sentences.work)
                if judged is None:
                    return
                scores = replace(scores, sentences=SentenceScores(sentences.sentences, judged))
            if texts.reused is not None:
                scores = replace(scores, reused=texts.reused)
            self._progress.finish(chunk)
            yield chunk, scores
            self._trim()

    def _submit(
        self, chunk: Chunk, parts: Parts | None, rows: float, reuse: KnownTexts | None = None
    ) -> Work:
        """Submit the texts of a chunk with their scores so far, unless a part has all scores.

        They are the work on so many `rows` of the input, for the progress that is shown. Texts
        whose scores are reused are tokenized too: their tokens are counted in the summary.
        """
        labels = len(self._scorer.labels)
        done = parts.load(chunk, labels) if parts else None
        found = reused = None
        if reuse is not None:
            with self._clock.busy("reuse"):
                found = reuse.find(chunk.texts)
            reused = found.status != PENDING
        if not chunk.rows:
            return Work(chunk, None, Scores.pending(0, labels))
        kept = done is not None
        if done is not None and not (done.status == PENDING).any():
            return Work(chunk, None, done, kept, reused)
        if not kept:
            done = found
        progress = self._progress.work_on(chunk.start_row)

        def on_batch(share: float) -> None:
            progress(share * rows)
            self._trim()

        def keep(scores: Scores) -> None:
            if parts:
                parts.save(chunk, scores)

        callbacks = Callbacks(self.stop, keep, on_batch)
        with self._clock.busy("tokenize"):
            submission = self._scorer.submit(chunk.texts, callbacks, done=done, reused=reused)
        return Work(chunk, submission, done, kept, reused)

    def _collect(self, work: Work) -> Scores | None:
        """Return the scores of texts; None when `stop` was true before they were finished."""
        if work.submission is None:
            return work.done
        with self._clock.busy("score"):
            scores = work.submission.result()
        return None if (scores.status == PENDING).any() else scores

    def _trim(self) -> None:
        """Give memory back to the system, now and then."""
        if time.monotonic() - self._trimmed > TRIM_S:
            self._trimmed = time.monotonic()
            give_back_memory()


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
