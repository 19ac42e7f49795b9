"""Tokenizing in spawned processes: the texts of a chunk are shared out, their tokens put in order.

A large GPU is predicted to take 20,000 reviews a second: one core would have 50 microseconds for
each, and tokenizing takes about as many. Threads do not help: much of the work holds Python's lock.
"""

import threading
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from batchsent.model.packing import SpecialTokens, Tokens, join_tokens
from batchsent.model.spawned import Channel, ProcessDied, SpawnedProcess
from batchsent.model.tokens import FastEncoder
from batchsent.row_texts import characters

# Fewer texts than these are tokenized here: 256 take 10 ms.
LEAST_TEXTS = 256


class SpawnedTokens:
    """A text encoder that works in other processes.

    If one of them dies, all are ended, and this process tokenizes from then on.
    """

    def __init__(
        self,
        own: FastEncoder,
        processes: int,
        warn: Callable[[str], None],
        *,
        least_texts: int = LEAST_TEXTS,
    ) -> None:
        """Begin to start the processes; `warn` is called when one of them fails."""
        self._own, self._warn, self._least_texts = own, warn, least_texts
        self._started: list[SpawnedProcess] = []
        self._closed = False
        self.path, self.long_text = own.path, own.long_text
        self.special_tokens: SpecialTokens = own.special_tokens
        # They take half a second, and the first chunk waits. Tokenizing it here instead would
        # take as long, and would learn words that these learn anyway.
        self._starter = threading.Thread(target=self._start, args=(processes,), daemon=True)
        self._starter.start()

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Return the tokens of each text."""
        if len(texts) < self._least_texts:
            return self._own.encode(texts)
        self._starter.join()
        if not self._started:
            return self._own.encode(texts)
        try:
            return self._encode_elsewhere(texts)
        except ProcessDied as died:
            self._give_up(died.why)
            return self._own.encode(texts)

    def close(self) -> None:
        """End the processes; texts that they tokenize in another thread are lost."""
        self._closed = True
        self._starter.join()
        self._end()

    def _start(self, processes: int) -> None:
        try:
            for _ in range(processes):
                self._started.append(SpawnedProcess(encode_for_ever, self._own))
            for process in self._started:
                process.receive()
        except ProcessDied as died:
            self._give_up(died.why)
        except OSError as error:
            self._give_up(f"could not be started ({error})")

    def _end(self) -> None:
        started, self._started = self._started, []
        for process in started:
            process.close()

    def _encode_elsewhere(self, texts: Sequence[str]) -> Tokens:
        parts = shared_out(texts, len(self._started))
        for process, part in zip(self._started, parts, strict=True):
            process.send(part)
        return join_tokens([process.receive() for process in self._started])

    def _give_up(self, why: str) -> None:
        if self._closed:
            return
        self._end()
        self._warn(f"a process that tokenizes {why}: the run itself tokenizes from here on, slower")


def shared_out(texts: Sequence[str], shares: int) -> list[Sequence[str]]:
    """Return the texts in consecutive shares with about as many characters each."""
    ends = np.cumsum(characters(texts))
    total = int(ends[-1])
    bounds = np.searchsorted(ends, [total * share // shares for share in range(1, shares)], "right")
    return [texts[begin:end] for begin, end in pairwise([0, *bounds.tolist(), len(texts)])]


def encode_for_ever(channel: Channel, encoder: FastEncoder) -> None:
    """Be a process that tokenizes: a list of texts comes in, their tokens go out."""
    channel.send("ready")
    while True:
        channel.send(encoder.encode(channel.receive()))
