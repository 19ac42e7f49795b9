"""Static pages: no script, no network, every string inert."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from batchsent.text import visible

FOLDER = Path(__file__).with_name("templates")

MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d\+00:00")

CUT_CHARACTERS = 200
# A page shows this many labels, the most frequent ones, and says how many there are besides.
MOST_SHOWN_LABELS = 30


def page(template: str, content: Mapping[str, Any]) -> bytes:
    """Fill a template of FOLDER and return the page in UTF-8.

    Values are escaped for HTML and pass through `visible` first; only `Markup`, which charts are,
    is taken as it is. The page's policy allows its own style sheet, known by its hash, and nothing
    else.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: (
            visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
        ),
    )
    environment.filters |= {
        "count": count,
        "size": size,
        "unbroken": unbroken,
        "percent": percent,
        "number": number,
        "interval": bounds,
        "cut": cut,
    }
    css = (FOLDER / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    filled = environment.get_template(template).render(css=Markup(css), policy=policy, **content)  # noqa: S704 (ours)
    return filled.encode("utf-8", "backslashreplace")


def facts(name: str, section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section as name and entries of words and value, for a list of facts."""
    return {
        "name": name,
        "entries": [(key.replace("_", " "), fact(value)) for key, value in section.items()],
    }


def fact(value: Any) -> str:
    """Return a value as a person writes it: no quotes and braces of JSON."""
    if value is None:
        return "-"
    if isinstance(value, str | list | tuple | Mapping) and not value:
        return "empty"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return cut(
            ", ".join(f"{str(key).replace('_', ' ')} {fact(item)}" for key, item in value.items())
        )
    if isinstance(value, list | tuple):
        return cut(", ".join(map(fact, value)))
    return cut(moment(str(value)))


def moment(words: str) -> str:
    """Return a point in time, as summaries write it, without what only programs need.

    Other words as they are.
    """
    found = MOMENT.fullmatch(words)
    return f"{found[1]} {found[2]} UTC" if found else words


def count(value: int | None) -> str:
    """Return a count with commas."""
    return "-" if value is None else f"{value:,}"


def size(value: int | None) -> str:
    """Return a number of bytes with three digits and a unit."""
    if value is None:
        return "-"
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value} B"


def percent(value: float | None) -> str:
    """Return a share as a percentage with one decimal."""
    return "-" if value is None else f"{value:.1%}"


def number(value: float | None) -> str:
    """Return a figure with three decimals."""
    return "-" if value is None else f"{value:.3f}"


def bounds(interval: Sequence[float] | None) -> str:
    """Return an interval."""
    return "" if interval is None else f"{interval[0]:.3f}–{interval[1]:.3f}"


def unbroken(text: object) -> Markup:
    """Return words in which no option such as --gold is broken at its hyphens."""
    words = []
    for word in visible(text).split(" "):
        keep = Markup('<span class="keep">{}</span>') if word.startswith("-") else Markup("{}")
        words.append(keep.format(word))
    return Markup(" ").join(words)


def cut(text: object) -> str:
    """Return text that is not too long for a page."""
    words = str(text)
    return words if len(words) <= CUT_CHARACTERS else words[: CUT_CHARACTERS - 3] + "..."
