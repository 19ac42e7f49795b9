"""Charts as SVG text, drawn for a column of a page 400 units wide.

Hand-made rather than matplotlib's: 2 kB instead of 40, colours follow the page into dark mode, text
stays text, and nothing in a label is a formula. Only classes and geometry are written: a strict
Content-Security-Policy allows no style attributes. A `<title>` in a bar or point is what a browser
shows under the pointer.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from batchsent.pages.axes import Tick, round_ticks
from batchsent.pages.svg import (
    BOTTOM,
    DASHES,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    chart,
    draw_axes,
    hover_column,
    hover_spot,
    line_of,
    markup,
    path_of,
    place_of,
    title_of,
)

# Points of a chart's lines that say their figures under the pointer: one every 5 units or so.
MOST_SPOTS = 64

Line = tuple[Sequence[float], Sequence[float]]  # x and y of each point, of equal length


class Dot(NamedTuple):
    """A share with its interval, at a place of its own."""

    x: float
    y: float
    low: float
    high: float
    rows: int  # that the share is of
    weight: float = 0.0  # 0 to 1: the area of the dot beyond that of the smallest
    words: str = ""  # beside the dot


def histogram(
    counts: Sequence[int],
    ticks: Sequence[Tick],
    *,
    title: str,
    x_title: str,
    bins: Sequence[str] = (),
    most: int | None = None,
    mark: Tick | None = None,
) -> Markup:
    """Draw counts as bars of equal width, the axis up to `most` where charts stand side by side.

    `bins` are the words for the values of each bar, shown under the pointer. `mark` is a vertical
    line with words, such as a limit.
    """
    most = most or max(counts, default=0) or 1
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    step = width / max(len(counts), 1)
    parts = [draw_axes(ticks, round_ticks(0, most, least_step=1), x_title, "rows")]
    for i, count in enumerate(counts):
        if not count:
            continue
        # Half a unit at least, so that a rare value is still seen.
        tall = max(height * count / most, 0.5)
        drawn = (
            f'<rect class="bar" x="{LEFT + i * step + 0.3:.2f}" y="{TOP + height - tall:.2f}" '
            f'width="{max(step - 0.6, 0.4):.2f}" height="{tall:.2f}"/>'
        )
        said = f"{bins[i]}: {_rows(count)}" if bins else _rows(count)
        parts.append(hover_column(LEFT + i * step, step, said, drawn))
    if mark is not None and 0 <= mark[0] <= 1:
        x = LEFT + mark[0] * width
        # The words stand on the side where there is room.
        anchor, words_x = ("end", x - 4) if mark[0] > 0.5 else ("start", x + 4)
        parts.append(f'<path class="mark" d="M{x:.1f} {TOP - 4}v{height + 4}"/>')
        parts.append(
            f'<text class="note" x="{words_x:.1f}" y="{TOP - 6}" '
            f'text-anchor="{anchor}">{escape(mark[1])}</text>'
        )
    return chart(parts, title)


def outlines(
    before: Sequence[float],
    after: Sequence[float],
    ticks: Sequence[Tick],
    *,
    title: str,
    x_title: str,
    bins: Sequence[str] = (),
) -> Markup:
    """Draw two distributions over the same bins: the first as an area, the second as a line.

    `bins` are the words for the values of each bin, shown under the pointer.
    """
    most = max([*before, *after, 0.0]) or 1.0
    parts = [draw_axes(ticks, round_ticks(0, 100 * most), x_title, "% of rows")]
    for shares, kind in ((before, "soft"), (after, "line")):
        parts.append(f'<path class="{kind}" d="{_outline(shares, most)}"/>')
    step = (WIDTH - LEFT - RIGHT) / max(len(bins), 1)
    for i, name in enumerate(bins):
        if before[i] or after[i]:
            said = f"{name}: A {before[i]:.1%}, B {after[i]:.1%}"
            parts.append(hover_column(LEFT + i * step, step, said))
    return chart(parts, title)


def curves(
    lines: Sequence[Line],
    *,
    title: str,
    x_title: str,
    y_title: str,
    chance: tuple[float, float] | None,
    names: Sequence[str] = (),
) -> Markup:
    """Draw lines over the unit square, each in a dash of its own.

    `chance` is a thin line from left to right; `names` are those of the lines, shown under the
    pointer.
    """
    unit = [(k / 4, f"{k / 4:g}") for k in range(5)]
    parts = [draw_axes(unit, unit, x_title, y_title)]
    if chance is not None:
        parts.append(f'<path class="chance" d="{path_of([0, 1], chance)}"/>')
    for i, (xs, ys) in enumerate(lines):
        parts.append(line_of(i, xs, ys))
    for i, (xs, ys) in enumerate(lines):
        for n in spread(len(xs), MOST_SPOTS // len(lines)):
            said = f"{x_title} {xs[n]:.3f}, {y_title} {ys[n]:.3f}"
            parts.append(hover_spot(xs[n], ys[n], _named(names, i, said)))
    return chart(parts, title)


def dots(
    points: Sequence[Dot],
    *,
    title: str,
    x_title: str,
    y_title: str,
    x_from: float,
    y_from: float,
    chance: bool = False,
    joined: bool = False,
) -> Markup:
    """Draw shares with their intervals on axes that end at 1.

    `chance` adds the diagonal from corner to corner.
    """
    parts = [draw_axes(round_ticks(x_from, 1), round_ticks(y_from, 1), x_title, y_title)]
    if chance:
        parts.append(f'<path class="chance" d="{path_of([0, 1], [0, 1])}"/>')

    def place(x: float, y: float) -> tuple[float, float]:
        return place_of((x - x_from) / (1 - x_from), (y - y_from) / (1 - y_from))

    places = [place(dot.x, dot.y) for dot in points]
    if joined and len(points) > 1:
        parts.append(f'<path class="thin" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in places)}"/>')
    # where the words to the right begin; points with words come from right to left
    taken = math.inf
    for dot, (cx, cy) in zip(points, places, strict=True):
        (_, top), (_, bottom) = place(dot.x, dot.high), place(dot.x, dot.low)
        radius = 3 + 8 * math.sqrt(dot.weight)
        said = (
            f"{x_title} {dot.x:.3f}, {y_title} {dot.y:.3f} "
            f"(95%: {dot.low:.3f} to {dot.high:.3f}), {_rows(dot.rows)}"
        )
        parts.append(f'<path class="whisker" d="M{cx:.1f} {top:.1f}V{bottom:.1f}"/>')
        parts.append(
            f'<circle class="dot" cx="{cx:.1f}" cy="{cy:.1f}" r="{radius:.1f}">'
            f"{title_of(said)}</circle>"
        )
        width = 7 * len(dot.words)
        left = min(cx + 5, WIDTH - width)
        if dot.words and left + width <= taken:
            parts.append(
                f'<text x="{left:.1f}" y="{min(cy, top) - 4:.1f}">{escape(dot.words)}</text>'
            )
            taken = left
    return chart(parts, title)


def trend(lines: Sequence[Line], *, title: str, x_title: str, names: Sequence[str] = ()) -> Markup:
    """Draw lines over axes that fit them, such as the loss of a training.

    Each in a dash of its own. A line of one point, which a dash could not show, is a dot. `names`
    are those of the lines, shown under the pointer.
    """
    drawn = [line for line in lines if len(line[0])]
    if not drawn:
        return Markup("")
    right = max(max(xs) for xs, _ in drawn) or 1
    lowest = min(0, *(min(ys) for _, ys in drawn))
    highest = max(max(ys) for _, ys in drawn)
    span = highest - lowest or 1
    parts = [draw_axes(round_ticks(0, right), round_ticks(lowest, highest), x_title)]
    spots = []
    for i, (line_x, line_y) in enumerate(lines):
        xs, ys = [x / right for x in line_x], [(y - lowest) / span for y in line_y]
        if len(line_x) == 1:
            x, y = place_of(xs[0], ys[0])
            parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
        else:
            parts.append(line_of(i, xs, ys))
        for n in spread(len(xs), MOST_SPOTS // len(lines)):
            said = f"{x_title} {line_x[n]:,g}: {line_y[n]:.4g}"
            spots.append(hover_spot(xs[n], ys[n], _named(names, i, said)))
    return chart([*parts, *spots], title)


def bar(share: float | None, kind: str = "bar") -> Markup:
    """Draw a share as a bar that fills its table cell.

    `kind` is bar, or soft for the one that is measured against.
    """
    width = 100 * min(max(share or 0.0, 0.0), 1.0)
    return markup(
        '<svg class="share" viewBox="0 0 100 10" preserveAspectRatio="none" '
        f'aria-hidden="true"><rect class="rail" width="100" height="10"/><rect class="{kind}" '
        f'width="{width:.2f}" height="10"/></svg>'
    )


def whisker(value: float, low: float, high: float, start: float) -> Markup:
    """Draw a value with its interval in a table cell, on an axis from `start` to 1."""
    x, left, right = (100 * (v - start) / (1 - start) for v in (value, low, high))
    return markup(
        '<svg class="share" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="rail" width="100" height="10"/>'
        f'<rect class="soft" x="{left:.2f}" width="{right - left:.2f}" height="10"/>'
        f'<rect class="bar" x="{max(x - 0.6, 0):.2f}" width="1.2" height="10"/></svg>'
    )


def legend_line(number: int) -> Markup:
    """Draw a piece of line number `number` of `curves`, for a legend."""
    dash = DASHES[number % len(DASHES)]
    return markup(
        '<svg class="key" viewBox="0 0 28 8" aria-hidden="true">'
        f'<path class="line" stroke-dasharray="{dash}" d="M0 4H28"/></svg>'
    )


def legend_dot() -> Markup:
    """Draw the dot of a line of `trend` that has one point, for a legend."""
    return markup(
        '<svg class="key" viewBox="0 0 28 8" aria-hidden="true"><circle class="dot" cx="14" '
        'cy="4" r="4"/></svg>'
    )


def legend_area() -> Markup:
    """Draw a piece of the filled shape of `outlines`, for a legend."""
    return markup(
        '<svg class="key" viewBox="0 0 28 8" aria-hidden="true"><rect class="soft" width="28" '
        'height="8"/></svg>'
    )


def spread(count: int, most: int) -> list[int]:
    """Return numbers of points, evenly from the first to the last, `most` or fewer."""
    step = max(1, -(-(count - 1) // max(most - 1, 1)))
    found = list(range(0, count, step))
    if count and found[-1] != count - 1:
        found.append(count - 1)
    return found


def _named(names: Sequence[str], number: int, said: str) -> str:
    return f"{names[number]}: {said}" if names else said


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _outline(shares: Sequence[float], most: float) -> str:
    """Return the path over the tops of bars that stand side by side, from axis to axis.

    Of shares 1, 3 with `most` 3 the corners are

        x  0  0    1/2  1/2  1  1
        y  0  1/3  1/3  1    1  0
    """
    xs, ys = [0.0], [0.0]
    for i, share in enumerate(shares):
        xs += [i / len(shares), (i + 1) / len(shares)]
        ys += [share / most] * 2
    return path_of([*xs, 1.0], [*ys, 0.0])
