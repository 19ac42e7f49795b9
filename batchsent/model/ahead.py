"""One chunk ahead on the device: the next chunk is launched before the results of one are awaited.

So a GPU has work while the processor copies results, keeps a part and writes. On a CPU a batch is
done when its call returns: nothing is launched ahead there.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from batchsent.errors import BatchsentError
from batchsent.model.submission import LocalSubmission, Prepared

# Launches the batches of a submitted chunk and returns what is awaited later.
Launch = Callable[[LocalSubmission], Any]


class Ahead:
    """The submitted chunks that no result was asked of yet, the first of them perhaps launched.

    One thread adds chunks, another takes them, in the same order.
    """

    def __init__(self) -> None:
        self._waiting: deque[LocalSubmission] = deque()
        self._launched: Any = None  # what the first of them was launched as
        self._error: BatchsentError | None = None  # or why it could not be

    def add(self, submission: LocalSubmission) -> None:
        """Take a chunk that was submitted."""
        self._waiting.append(submission)

    def take(self, prepared: Prepared) -> tuple[bool, Any]:
        """Return whether this chunk is the first of those waiting, and what it was launched as.

        Raises the error of launching it. It waits no more.
        """
        if not self._waiting or self._waiting[0].prepared is not prepared:
            return False, None
        self._waiting.popleft()
        launched, self._launched = self._launched, None
        error, self._error = self._error, None
        if error is not None:
            raise error
        return True, launched

    def launch(self, launch: Launch) -> None:
        """Launch the first chunk that waits, unless it is to stop; `take` raises its error."""
        if not self._waiting or self._waiting[0].callbacks.stop():
            return
        try:
            self._launched = launch(self._waiting[0])
        except BatchsentError as error:
            self._error = error

    def clear(self) -> None:
        """Forget all chunks: nobody asks for their results."""
        self._waiting.clear()
        self._launched = self._error = None
