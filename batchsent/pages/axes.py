"""Where the ticks of an axis stand, and how its numbers are written."""

import itertools
import math
from collections.abc import Sequence

Tick = tuple[float, str]  # place on the axis from 0 to 1, words


def round_ticks(lowest: float, highest: float, least_step: float = 0) -> list[Tick]:
    """Return two to six ticks at round numbers within an axis."""
    span = highest - lowest or 1
    power = 10.0 ** math.floor(math.log10(span))
    step = max(
        next(power * m for m in (0.1, 0.2, 0.5, 1, 2) if span / (power * m) <= 5), least_step
    )
    places = range(math.ceil(lowest / step - 1e-9), math.floor(highest / step + 1e-9) + 1)
    return [((k * step - lowest) / span, short(k * step)) for k in places]


def short(number: float) -> str:
    """Return a number as an axis shows it: 1,500 as 1.5k."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def log_place(value: float, edges: Sequence[int]) -> float | None:
    """Return where a value lies on an axis with equal room for every bin, 0 to 1.

    None outside of it.
    """
    after = next((i for i, edge in enumerate(edges) if edge > value), None)
    if after is None or after == 0:
        return None
    return (after - 1 + (value - edges[after - 1]) / (edges[after] - edges[after - 1])) / (
        len(edges) - 1
    )


def log_ticks(edges: Sequence[int]) -> list[Tick]:
    """Return ticks at round lengths: 10, 20, 50, 100 and so on, fewer where the axis is long."""
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = []
        for power, step in itertools.product(range(7), steps):
            length = step * 10**power
            place = log_place(length, edges)
            if place is not None:
                ticks.append((place, short(length)))
        if len(ticks) <= 8:
            break
    return ticks


def share_start(lows: Sequence[float]) -> float:
    """Return where an axis of shares up to 1 begins: at a round one below the lowest of `lows`."""
    return min(math.floor(10 * min(lows, default=0.0)) / 10, 0.9)


def bin_words(edges: Sequence[float], *, whole: bool = False) -> list[str]:
    """Return words for the values of each bin, such as `0.95 to 0.96`.

    The edges of `whole` numbers are read as such: a bin from 8 up to 10 holds 8 and 9.
    """
    words = []
    for low, high in itertools.pairwise(edges):
        if not whole:
            words.append(f"{low:.4g} to {high:.4g}")
        elif high - low <= 1:
            words.append(f"{low:,}")
        else:
            words.append(f"{low:,} to {high - 1:,}")
    return words
