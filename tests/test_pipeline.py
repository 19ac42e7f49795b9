"""Stages of a run in threads of their own: order, errors, and that every thread ends."""

import threading

import pytest

from batchsent.run.pipeline import Clock, Prefetch


def threads():
    """The threads that are alive, the test's own included."""
    return set(threading.enumerate())


def test_items_come_in_their_order_and_the_thread_ends_with_them():
    """Whatever the depth, nothing is lost, and no thread is left."""
    before = threads()
    assert list(Prefetch(range(100), depth=1)) == list(range(100))
    assert threads() <= before


def test_an_error_surfaces_at_its_place_in_the_stream():
    """What came before it is yielded first, however far the thread has read."""

    def items():
        yield 1
        yield 2
        raise ValueError("the third is broken")

    stream = iter(Prefetch(items(), depth=5))
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(ValueError, match="the third is broken"):
        next(stream)


def test_at_most_depth_items_are_read_in_advance():
    """Two wait in the queue and one in the thread's hand: memory is bounded by that."""
    read = []
    full = threading.Event()

    def items():
        for number in range(100):
            read.append(number)
            if number == 2:
                full.set()
            yield number

    stream = Prefetch(items(), depth=2)
    assert full.wait(20)
    assert read == [0, 1, 2]
    stream.close()


def test_closing_ends_the_thread_and_what_it_reads():
    """A reader that is thrown away half-way closes its file."""
    closed = threading.Event()

    def items():
        try:
            yield from range(1000)
        finally:
            closed.set()

    before = threads()
    stream = iter(Prefetch(items(), depth=2))
    assert next(stream) == 0
    stream.close()
    assert closed.wait(20)
    assert threads() <= before


def test_stop_ends_a_wait_for_an_item_that_never_comes():
    """A signal ends a run whose input is a silent pipe."""
    silent, stopped = threading.Event(), threading.Event()

    def items():
        yield 1
        silent.wait(20)
        yield 2

    stream = iter(Prefetch(items(), depth=2, stop=stopped.is_set))
    assert next(stream) == 1
    stopped.set()
    assert list(stream) == []
    silent.set()


def test_a_clock_counts_each_stage_by_itself():
    """Seconds and processor seconds, never negative, one entry a stage."""
    clock = Clock()
    assert list(clock.each("read", [1, 2])) == [1, 2]
    with clock.busy("write"):
        pass
    assert set(clock.busy_s) == set(clock.cpu_s) == {"read", "write"}
    assert all(seconds >= 0 for seconds in clock.busy_s.values())
