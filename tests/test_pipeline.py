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


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("depth", [1, 5])
def test_an_error_surfaces_at_its_place_in_the_stream(kind, depth):
    """What came before it is yielded first, however far the thread has read; then both end."""

    def items():
        yield 1
        yield 2
        raise kind("the third is broken")

    before = threads()
    stream = iter(Prefetch(items(), depth=depth))
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(kind, match="the third is broken"):
        next(stream)
    assert list(stream) == []
    assert threads() <= before


def test_an_error_before_the_first_item_surfaces():
    """A source that fails at once gives no item, and its error."""

    def items():
        raise OSError("no such disk")
        yield

    with pytest.raises(OSError, match="no such disk"):
        next(iter(Prefetch(items())))


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


def test_close_ends_a_thread_that_nobody_reads_from():
    """A run that fails before it takes the first chunk leaves no thread; closing twice is fine."""
    closed = threading.Event()

    def items():
        try:
            yield from range(1000)
        finally:
            closed.set()

    before = threads()
    stream = Prefetch(items(), depth=1)
    assert threads() > before
    stream.close()
    stream.close()
    assert closed.is_set()
    assert threads() <= before


def test_stop_does_not_take_away_what_was_read():
    """Items that wait in the queue are yielded; whether to stop before them is for the reader."""
    read = threading.Event()

    def items():
        yield from range(10)
        read.set()

    stream = Prefetch(items(), depth=20, stop=lambda: True)
    assert read.wait(20)
    assert list(stream) == list(range(10))


def test_without_stop_a_slow_source_is_waited_for():
    """While `stop` is false an item that is late comes all the same."""
    asked, late = [], threading.Event()

    def stop():
        asked.append(True)
        if len(asked) == 3:
            late.set()
        return False

    def items():
        yield 1
        late.wait(20)
        yield 2

    assert list(Prefetch(items(), stop=stop)) == [1, 2]
    assert len(asked) >= 3


def test_stop_ends_a_wait_for_an_item_that_never_comes():
    """A signal ends a run whose input is a silent pipe."""
    silent, stopped, before = threading.Event(), threading.Event(), threads()

    def items():
        yield 1
        silent.wait(20)
        yield 2

    stream = iter(Prefetch(items(), depth=2, stop=stopped.is_set))
    assert next(stream) == 1
    stopped.set()
    assert list(stream) == []
    silent.set()
    for thread in threads() - before:
        thread.join(20)
    assert threads() <= before


def test_a_clock_counts_each_stage_by_itself():
    """Seconds and processor seconds, never negative, one entry a stage."""
    clock = Clock()
    assert list(clock.each("read", [1, 2])) == [1, 2]
    with clock.busy("write"):
        pass
    assert set(clock.busy_s) == set(clock.cpu_s) == {"read", "write"}
    assert all(seconds >= 0 for seconds in clock.busy_s.values())
