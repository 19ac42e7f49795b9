"""Whether a run tokenizes in processes of its own, and how many."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

from batchsent.model.scorer import ModelScorer
from batchsent.model.spawned_tokens import SpawnedTokens
from batchsent.model.submission import Scorer
from batchsent.model.tokens import FastEncoder
from batchsent.reporting import Reporter

# Two of them tokenize 17,000 to 25,000 reviews a second, and four feed the fastest GPU.
MOST_PROCESSES = 4
# A GPU scores as many while the processes start.
LEAST_ROWS = 20_000


@contextmanager
def tokenizing_elsewhere(scorer: Scorer, rows: int | None, reporter: Reporter) -> Iterator[None]:
    """Let other processes tokenize in the block, where that makes a run of `rows` rows faster.

    `rows` is None where it is not known. Says why and how many.
    """
    if not isinstance(scorer, ModelScorer) or not isinstance(scorer.text_encoder, FastEncoder):
        yield
        return
    processes = scorer.tokenizer_processes
    if processes is None:
        processes = useful_processes(scorer.device.kind, rows, len(os.sched_getaffinity(0)))
    if not processes:
        yield
        return
    own = scorer.text_encoder
    reporter.notice(
        f"{processes} processes tokenize: one core cannot feed {scorer.device.description}"
    )
    with closing(SpawnedTokens(own, processes, reporter.warning)) as elsewhere:
        scorer.text_encoder = elsewhere
        try:
            yield
        finally:
            scorer.text_encoder = own


def useful_processes(device_kind: str, rows: int | None, cores: int) -> int:
    """Return how many processes should tokenize; 0 where this one should.

    A CPU needs its cores for the model, and one core tokenizes faster than it scores.
    """
    if device_kind == "cpu" or cores < 2 or (rows is not None and rows < LEAST_ROWS):
        return 0
    return min(MOST_PROCESSES, cores)
