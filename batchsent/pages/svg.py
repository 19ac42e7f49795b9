"""What charts are drawn of: axes, lines, and words that a browser shows under the pointer."""

from collections.abc import Sequence

from markupsafe import Markup, escape

from batchsent.pages.axes import Tick
from batchsent.text import printable

WIDTH, HEIGHT = 400, 240
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 20, 38
DASHES = ("none", "6 3", "2 3", "8 3 2 3", "1 2")


def chart(parts: Sequence[str], title: str) -> Markup:
    """Return a chart of its parts; `title` is what a screen reader says of it."""
    drawn = "".join(parts)
    return markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{drawn}</svg>'
    )


def markup(svg: str) -> Markup:
    """Mark a drawing as safe: it is made of numbers and escaped words."""
    return Markup(svg)  # noqa: S704 (see above)


def draw_axes(
    x_ticks: Sequence[Tick], y_ticks: Sequence[Tick], x_title: str, y_title: str | None = None
) -> str:
    """Return the axes of a chart with grid lines, ticks and titles."""
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    parts = []
    for place, words in y_ticks:
        y = TOP + height * (1 - place)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}h{width}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 5}" y="{y + 3.5:.1f}" '
            f'text-anchor="end">{escape(words)}</text>'
        )
    for place, words in x_ticks:
        x = LEFT + width * place
        anchor = "end" if place > 0.97 else "middle"
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP + height}v4"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{TOP + height + 15}" '
            f'text-anchor="{anchor}">{escape(words)}</text>'
        )
    parts.append(f'<path class="axis" d="M{LEFT} {TOP + height}h{width}"/>')
    parts.append(
        f'<text class="title" x="{LEFT + width / 2}" y="{HEIGHT - 4}" '
        f'text-anchor="middle">{escape(x_title)}</text>'
    )
    if y_title is not None:
        y = TOP + height / 2
        turned = f'x="9" y="{y}" text-anchor="middle" transform="rotate(-90 9 {y})"'
        parts.append(f'<text class="title" {turned}>{escape(y_title)}</text>')
    return "".join(parts)


def line_of(number: int, xs: Sequence[float], ys: Sequence[float]) -> str:
    """Return line number `number` of a chart, in a dash of its own."""
    dash = DASHES[number % len(DASHES)]
    return f'<path class="line" stroke-dasharray="{dash}" d="{path_of(xs, ys)}"/>'


def hover_column(x: float, width: float, said: str, drawn: str = "") -> str:
    """Return a column of a chart with its words; the pointer meets it at any height."""
    height = HEIGHT - TOP - BOTTOM
    return (
        f'<g>{title_of(said)}<rect class="hover" x="{x:.2f}" y="{TOP}" '
        f'width="{width:.2f}" height="{height}"/>{drawn}</g>'
    )


def hover_spot(x: float, y: float, said: str) -> str:
    """Return an invisible point of a line with its words."""
    left, top = place_of(x, y)
    return f'<path class="spot" d="M{left:.1f} {top:.1f}h.01">{title_of(said)}</path>'


def title_of(said: str) -> str:
    """Return what is shown under the pointer; names in it may come from anywhere."""
    return f"<title>{escape(printable(said))}</title>"


def place_of(x: float, y: float) -> tuple[float, float]:
    """Return where a point of the unit square lies in a chart."""
    return LEFT + x * (WIDTH - LEFT - RIGHT), TOP + (1 - y) * (HEIGHT - TOP - BOTTOM)


def path_of(xs: Sequence[float], ys: Sequence[float]) -> str:
    """Return the path through points of the unit square."""
    places = [place_of(x, y) for x, y in zip(xs, ys, strict=True)]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
