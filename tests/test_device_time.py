"""How busy the device was, and what a summary says bounded the run."""

from types import SimpleNamespace

import pytest
import torch

from batchsent.model.device import Device
from batchsent.model.device_time import CallTime, CudaTime, device_time
from batchsent.run.bottleneck import bottleneck

EVEN = {"read": 1.0, "tokenize": 2.0, "score": 3.0, "write": 1.0}


@pytest.mark.parametrize(
    ("slowest", "busy_share", "words"),
    [
        ("score", 0.97, "the model"),
        # The tokenizer had as much to do, but more of it would not have made the device faster.
        ("tokenize", 0.93, "the model"),
        ("read", 0.4, "reading the input (the device waits 60% of the time)"),
        ("tokenize", 0.55, "the tokenizer (the device waits 45% of the time)"),
        ("write", 0.801, "writing the output (the device waits 20% of the time)"),
        ("score", 0.5, "the processor's work between batches (the device waits 50% of the time)"),
        ("read", None, "reading the input"),
        ("score", None, "the model"),
    ],
)
def test_the_bottleneck_is_named_with_how_long_the_device_waits(slowest, busy_share, words):
    """A busy device bounds the run; else the slowest stage does, and the device waits for it."""
    assert bottleneck(EVEN | {slowest: 9.0}, busy_share) == words


def test_a_run_without_batches_has_no_share():
    """Where everything was known, and on a device whose calls return early, nothing is said."""
    cpu, apple = (device_time(Device(name, name, "float32", "a test")) for name in ("cpu", "mps"))
    assert cpu.busy_share() is None
    with apple.batch():
        pass
    assert apple.busy_share() is None


def test_what_lies_between_two_batches_is_not_busy(monkeypatch):
    """Two batches of 3 seconds with 4 between them: busy for 6 of 10."""
    now = iter([10.0, 13.0, 17.0, 20.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    measured = CallTime()
    for _ in range(2):
        with measured.batch():
            pass
    assert measured.busy_share() == 0.6


def test_a_gpu_is_measured_by_its_own_events_without_waiting_for_it(monkeypatch):
    """Events that the device has not passed are left for the next look; none is waited for."""
    clock = SimpleNamespace(recorded=0, passed=0)

    class Event:
        """An event of a stream that passes one every 5 ms; it knows no way to wait."""

        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.number = clock.recorded
            clock.recorded += 1

        def query(self):
            return self.number < clock.passed

        def elapsed_time(self, later):
            assert self.query()
            assert later.query()
            return 5.0 * (later.number - self.number)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    measured = CudaTime()
    for _ in range(3):
        with measured.batch():
            pass
    clock.passed = 3  # the second batch runs
    measured.read()
    assert measured.busy_share() == 1.0
    clock.passed = 6
    measured.read()
    measured.read()  # adds nothing a second time
    assert measured.busy_share() == 0.6  # 3 batches of 5 ms in 25 ms
