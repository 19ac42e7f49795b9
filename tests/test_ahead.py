"""One chunk ahead: a device has the next chunk before the results of one are awaited."""

import numpy as np
import pytest

from batchsent.chunk import PENDING
from batchsent.errors import DeviceError
from batchsent.model.submission import Callbacks
from tests.character_model import FirstCharacter, scorer_of

CHUNKS = [["1 one", "2 two", None], ["3 three is longer", "x none"], ["4 four"]]


class Later(FirstCharacter):
    """Tells when a batch is launched, and when its results are awaited."""

    def __init__(self, log, raises=None):
        super().__init__(raises=raises)
        self.log = log

    def probabilities(self, ids, lengths):
        self.log.append(f"launch {chr(ids[0])}")
        self.found, self.first = super().probabilities(ids, lengths), chr(ids[0])
        return Result(self.log, self.first, self.found)


class Result:
    """The results of a batch."""

    def __init__(self, log, name, found):
        self.log, self.name, self.found = log, name, found

    def cpu(self):
        self.log.append(f"await {self.name}")
        return self.found


def submitted(encoder, *, ahead, stops=(False, False, False)):
    """Submit all chunks to a scorer whose batches run later than they are launched, or at once."""
    scorer = scorer_of(encoder, batch_tokens=1_000)
    scorer.runner.runs_ahead = ahead
    return scorer, [
        scorer.submit(texts, Callbacks(stop=lambda stop=stop: stop))
        for texts, stop in zip(CHUNKS, stops, strict=True)
    ]


def test_the_next_chunk_is_launched_before_results_are_awaited():
    """One chunk ahead and no more; the scores are those of one chunk after the other."""
    log, found = [], {}
    for ahead in (False, True):
        log.clear()
        _, chunks = submitted(Later(log), ahead=ahead)
        found[ahead] = [chunk.result() for chunk in chunks]
        in_order = ["launch 1", "await 1", "launch 3", "await 3", "launch 4", "await 4"]
        if ahead:
            in_order = ["launch 1", "launch 3", "await 1", "launch 4", "await 3", "await 4"]
        assert log == in_order
    for one, other in zip(found[False], found[True], strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)
        np.testing.assert_array_equal(one.status, other.status)


def test_an_error_of_the_chunk_ahead_is_its_own():
    """The chunk before it has its scores, to be kept and written."""
    calls = iter("ab")

    def raises():
        if next(calls) == "b":
            raise RuntimeError("CUDA error: unspecified launch failure")

    scorer = scorer_of(Later([], raises), batch_tokens=1_000, device="cuda:0")
    assert scorer.runner.runs_ahead
    first, second = (scorer.submit(texts, Callbacks()) for texts in CHUNKS[:2])
    assert not (first.result().status == PENDING).any()
    with pytest.raises(DeviceError, match="launch failure"):
        second.result()


def test_nothing_is_launched_for_a_chunk_that_is_to_stop_or_was_given_up():
    """A stop launches no more; what was submitted to a run that ended is not run by the next."""
    log = []
    scorer, chunks = submitted(Later(log), ahead=True, stops=(False, True, True))
    assert not (chunks[0].result().status == PENDING).any()
    assert (chunks[1].result().status == PENDING).all()
    assert [said for said in log if "launch" in said] == ["launch 1"]
    scorer.drain()
    scorer.submit(CHUNKS[0], Callbacks()).result()
    assert "launch 4" not in log
