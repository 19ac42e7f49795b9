"""A process of a pool: it loads the model and scores the chunks that it is given.

One thread receives a chunk and tokenizes it, while the main thread scores the one before it.
"""

import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from batchsent.chunk import PENDING, Scores
from batchsent.model.spawned import Channel, SentError
from batchsent.model.submission import Callbacks, Scorer, Submission
from batchsent.row_texts import Texts, digest

# Messages to a process, by their first word:
SCORE = "score"  # number of the chunk, texts, their digest, scores so far, rows reused, of a run
STOP = "stop"  # number of the chunk
# Messages from it. A report has the scorer's `facts` and the processor seconds so far.
NEXT = "next"  # it can take another chunk
PROGRESS = "progress"  # number of the chunk, share of its tokens that has been run
KEPT = "kept"  # number of the chunk, (digest of the texts, unfinished scores, report)
RESULT = "result"  # number of the chunk, (digest of the texts, scores, report)
FAILED = "failed"  # number of the chunk, SentError

# How often progress is said: a batch may take milliseconds.
PROGRESS_S = 0.2


def serve(channel: Channel, open_scorer: Callable[[], Scorer]) -> None:
    """Load the model and score chunks until the channel is closed."""
    # transformers would import it wherever it is installed; only training uses it.
    sys.modules.setdefault("accelerate", None)  # type: ignore[arg-type]  # Python's mark of a module that is not there
    scorer = open_scorer()
    channel.send((scorer.labels, report(scorer)))
    WorkerLoop(channel, scorer).run()


def report(scorer: Scorer) -> dict[str, Any]:
    """Return what a process says of itself."""
    return scorer.facts() | {"cpu_s": time.process_time()}


class WorkerLoop:
    """The two threads of a process of a pool."""

    def __init__(self, channel: Channel, scorer: Scorer) -> None:
        self._channel, self._scorer = channel, scorer
        self._run = 0  # the number of the run whose chunks it scores
        self._stops: dict[int, threading.Event] = {}  # of the chunks that it has
        self._submitted: queue.Queue[tuple[int, str, Submission | SentError]] = queue.Queue()
        self._lock = threading.Lock()  # of the channel: progress may be said in any thread

    def run(self) -> None:
        """Score chunks in their order, for ever."""
        threading.Thread(target=self._receive, daemon=True).start()
        self._send((NEXT,))
        while True:
            number, seen, submission = self._submitted.get()
            self._send((NEXT,))
            self._send(self._score(number, seen, submission))
            del self._stops[number]

    def _receive(self) -> None:
        """Take the messages; the process ends with the channel."""
        while True:
            kind, number, *content = self._channel.receive()
            if kind == SCORE:
                run = content.pop()
                if run != self._run:
                    self._scorer.begin_counts()  # it has no chunk of the earlier one any more
                    self._run = run
                self._stops[number] = threading.Event()
                self._submitted.put(self._submit(number, *content))
            elif number in self._stops:
                self._stops[number].set()

    def _submit(
        self, number: int, texts: Texts, sent: str, done: Scores | None, reused: Any
    ) -> tuple[int, str, Submission | SentError]:
        """Tokenize a chunk."""
        seen = digest(texts)
        callbacks = Callbacks(
            self._stops[number].is_set,
            lambda scores: self._keep(number, seen, scores),
            self._progress_of(number),
        )
        try:
            if seen != sent:
                raise ValueError("the texts of a chunk changed on their way to this process")
            return number, seen, self._scorer.submit(texts, callbacks, done=done, reused=reused)
        except Exception as error:  # noqa: BLE001 (it belongs to the chunk)
            return number, seen, SentError.of(error)

    def _score(
        self, number: int, seen: str, submission: Submission | SentError
    ) -> tuple[str, int, Any]:
        """Return the message with the result of a chunk."""
        if isinstance(submission, SentError):
            return FAILED, number, submission
        try:
            scores = submission.result()
        except Exception as error:  # noqa: BLE001 (it belongs to the chunk)
            return FAILED, number, SentError.of(error)
        return RESULT, number, (seen, scores, report(self._scorer))

    def _keep(self, number: int, seen: str, scores: Scores) -> None:
        """Send unfinished scores; finished ones are the result."""
        if (scores.status == PENDING).any():
            self._send((KEPT, number, (seen, scores, report(self._scorer))))

    def _progress_of(self, number: int) -> Callable[[float], None]:
        """Return a function that says how much of a chunk is done, now and then."""
        said = time.monotonic()

        def say(share: float) -> None:
            nonlocal said
            if time.monotonic() - said > PROGRESS_S:
                said = time.monotonic()
                self._send((PROGRESS, number, share))

        return say

    def _send(self, message: tuple[Any, ...]) -> None:
        with self._lock:
            self._channel.send(message)
