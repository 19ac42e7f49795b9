"""The check of every way to run a model as tables on a terminal, narrow enough for a report."""

from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from batchsent.terminal.summaries import FAILED
from batchsent.text import elapsed, printable

NAME_WIDTH = 18
# What the columns of the table of agreement mean.
LEGEND = (
    "logits: the largest difference, as a share of their spread; flips: other labels. Run again, "
    "beside other texts, and alone: the same bits, or the difference."
)


def show_check(document: Mapping[str, Any], target: TextIO) -> None:
    """Print the check of a model: the machine, agreement, speed, and what is wrong with a way."""
    console = Console(file=target, highlight=False)
    for section in ("versions", "machine", "model"):
        show_lines(document[section], console)
    check = document["check"]
    if any(row["figures"] for row in check["ways"]):
        console.print()
        console.print(Text(about(check)), soft_wrap=True)
        console.print(agreement(check["ways"]))
        console.print(Text(LEGEND, style="dim"), soft_wrap=True)
        console.print()
        console.print(speed(check["ways"]))
    console.print()
    for row in check["ways"]:
        if row["why"]:
            style = FAILED if row["status"] == "failed" else ""
            line = f"{name_of(row)}: {row['status']}: {printable(row['why'])}"
            console.print(Text(line, style=style), soft_wrap=True)
    for refused in check["refused"]:
        line = f"{refused['device']} {refused['precision']}: not used: {printable(refused['why'])}"
        console.print(Text(line), soft_wrap=True)
    console.print(f"* what a run chooses. Checked in {elapsed(check['seconds'])}.", soft_wrap=True)


def show_lines(facts: Mapping[str, Any], console: Console) -> None:
    """Print each fact in one line, however long: a report is copied from a terminal."""
    for name, value in facts.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        if name.endswith("_bytes"):
            name, shown = name.removesuffix("_bytes"), f"{value / 1e9:.1f} GB"
        if shown not in (None, ""):
            line = f"{name.replace('_', ' '):{NAME_WIDTH}}{printable(shown)}"
            console.print(Text(line), soft_wrap=True)


def about(check: Mapping[str, Any]) -> str:
    """Return what was compared with what."""
    figures = next(row["figures"] for row in check["ways"] if row["figures"])
    texts = f"{figures['texts']} texts of up to {figures['longest']:,} tokens"
    return f"{texts}, compared with {check['reference']}"


def agreement(rows: list[dict[str, Any]]) -> Table:
    """Return the table of agreement; a difference is a share of the spread of the logits."""
    table = empty("", "logits", "flips", "again", "beside", "alone")
    for row in rows:
        table.add_row(*map(Text, (name_of(row), *agreement_cells(row))))
    return table


def agreement_cells(row: dict[str, Any]) -> list[str]:
    """Return the cells of a way after its name: its status alone where it has no figures."""
    found = row["figures"]
    if found is None:
        return [row["status"]]
    return [
        share(found["largest_difference"]),
        "-" if found["label_flips"] is None else str(found["label_flips"]),
        "same" if found["same_bits_again"] else "DIFFERS",
        bits(found, "beside_others"),
        bits(found, "alone"),
    ]


def speed(rows: list[dict[str, Any]]) -> Table:
    """Return the table of speed and memory: tokens a second by the tokens of a pack."""
    measured = [row for row in rows if row["figures"]]
    sizes = sorted({int(size) for row in measured for size in row["figures"]["tokens_per_s"]})
    table = empty("tokens/s in packs of", *map(short, sizes), "MB", "took, s")
    for row in measured:
        found = row["figures"]
        cells = [rate(found["tokens_per_s"].get(str(size), 0)) for size in sizes]
        memory = f"{found['peak_memory_bytes'] / 1e6:.0f}"
        table.add_row(*map(Text, (name_of(row), *cells, memory, f"{found['seconds']:.0f}")))
    return table


def rate(tokens_per_s: int | None) -> str:
    """Return a speed as a cell; None says that the memory was full, 0 that it was not run."""
    if tokens_per_s is None:
        return "full"
    return short(tokens_per_s) if tokens_per_s else ""


def short(number: int) -> str:
    """Return a number in a few characters: 740, 1.5k, 49k, 1.2M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return (
                f"{number / size:.1f}{unit}" if number < 10 * size else f"{number / size:.0f}{unit}"
            )
    return str(number)


def empty(name: str, *columns: str) -> Table:
    """Return a table with a column of names and columns of figures."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(name, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def name_of(row: Mapping[str, Any]) -> str:
    """Return the name of a way, marked where a run would choose it."""
    mark = "*" if row["default"] else ""
    return printable(" ".join(filter(None, (row["device"], row["precision"], row["path"], mark))))


def bits(found: Mapping[str, Any], where: str) -> str:
    """Return whether the bits are the same, or else by how much the logits differ."""
    if found[f"same_bits_{where}"]:
        return "same"
    return share(found[f"difference_{where}"])


def share(value: float | None) -> str:
    """Return a difference with two digits."""
    return "-" if value is None else f"{value:.2g}"
