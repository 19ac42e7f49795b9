"""Whether a run tokenizes in processes of its own, and how many."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from batchsent.model.machine import usable_cores
from batchsent.model.scorer import ModelScorer
from batchsent.model.spawned_tokens import SpawnedTokens
from batchsent.model.submission import Scorer
from batchsent.model.tokens import FastEncoder
from batchsent.reporting import Reporter

# Four together finish a review every 21 microseconds (84 of processor time, examples/FIGURES.md).
# A GPU that takes 20,000 a second, as a large one is predicted to, needs one every 50.
MOST_PROCESSES = 4
# On two quiet cores two processes gave 15,722 reviews a second, none 14,644 (examples/FIGURES.md):
# tokenizing in the run's own process waits for Python's lock.
LEAST_CORES = LEAST_PROCESSES = 2
# The processes take half a second to start, and learn their words anew.
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
        processes = useful_processes(scorer.device.kind, rows, usable_cores())
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
    if device_kind == "cpu" or cores < LEAST_CORES or (rows is not None and rows < LEAST_ROWS):
        return 0
    return min(MOST_PROCESSES, max(LEAST_PROCESSES, cores - 1))
