"""The comparison of two scored files as tables on a terminal."""

from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from batchsent.terminal.summaries import SHOWN_LABELS, name_of
from batchsent.text import printable

SHOWN_DIRECTIONS = 10
SHOWN_GROUPS = 10


def show_flips(document: Mapping[str, Any], target: Console | TextIO) -> None:
    """Print what changed: shares, directions, scores, groups and accuracies."""
    console = target if isinstance(target, Console) else Console(file=target, highlight=False)
    for table in (
        _labels(document),
        _directions(document),
        _bands(document),
        _changes(document),
        _groups(document),
        _gold(document),
    ):
        if table is not None and table.row_count:
            console.print(table)
            console.print()
    rows = document["rows"]
    for name, what in (("label_lost", "lost their label"), ("label_gained", "got a label")):
        if rows[name]:
            console.print(Text(f"{rows[name]:,} rows {what}"))
    if document["flipped_rows"] is not None:
        console.print(Text(f"the rows: {printable(document['flipped_rows'])}"), soft_wrap=True)
    console.print(Text(document["verdict"]), soft_wrap=True)


def _table(first: str, *names: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _labels(document: Mapping[str, Any]) -> Table:
    table = _table("share of", "old", "new", "change", "by chance up to")
    moved = sorted(document["labels"], key=lambda label: -abs(label["change"]))[:SHOWN_LABELS]
    for label in moved:
        values = (
            f"{label['a']:.2%}",
            f"{label['b']:.2%}",
            f"{100 * label['change']:+.2f} points",
            f"{100 * label['noise']:.2f}",
        )
        quiet = abs(label["change"]) <= label["noise"]
        table.add_row(
            *map(Text, (name_of(label["label"]), *values)), style="dim" if quiet else None
        )
    return table


def _directions(document: Mapping[str, Any]) -> Table:
    table = _table("changed", "rows", "share", "score before", "after")
    for entry in document["directions"][:SHOWN_DIRECTIONS]:
        values = (
            f"{entry['rows']:,}",
            f"{entry['share']:.2%}",
            f"{entry['mean_old_score']:.3f}",
            f"{entry['mean_new_score']:.3f}",
        )
        table.add_row(*map(Text, (f"{name_of(entry['old'])} to {name_of(entry['new'])}", *values)))
    return table


def _bands(document: Mapping[str, Any]) -> Table:
    table = _table("score before", "rows", "changed", "share")
    for band in document["bands"]:
        if band["rows"]:
            values = (f"{band['rows']:,}", f"{band['flipped']:,}", f"{band['flips']:.2%}")
            table.add_row(*map(Text, (f"{band['from']:g} to {band['to']:g}", *values)))
    return table


def _changes(document: Mapping[str, Any]) -> Table | None:
    change = document["score_change"]
    if change["mean"] is None:
        return None
    rows = "rows" if change["all_rows"] else "rows that keep their label"
    names = {"mean": "mean", "p50": "half up to", "p95": "95 % up to", "p99": "99 % up to"}
    names["max"] = "largest"
    table = _table("change of the score", rows, *names.values())
    table.add_row(
        *map(Text, ("", f"{change['rows']:,}", *(f"{change[name]:.4f}" for name in names)))
    )
    return table


def _groups(document: Mapping[str, Any]) -> Table | None:
    groups = document["groups"]
    if groups is None:
        return None
    table = _table(name_of(groups["column"]), "rows", "changed", "share")
    for group in groups["shown"][:SHOWN_GROUPS]:
        name = "(empty)" if group["group"] is None else name_of(group["group"])
        values = (f"{group['rows']:,}", f"{group['flipped']:,}", f"{group['flips']:.2%}")
        table.add_row(*map(Text, (name, *values)))
    return table


def _gold(document: Mapping[str, Any]) -> Table | None:
    gold = document["gold"]
    if gold is None or not gold["rows"]:
        return None
    table = _table(f"of {gold['rows']:,} rows with gold", "old", "new", "")
    table.add_row(
        *map(Text, ("accuracy", f"{gold['accuracy_old']:.4f}", f"{gold['accuracy_new']:.4f}", ""))
    )
    test = gold["mcnemar"]
    table.add_row(
        *map(
            Text, ("right in this one only", f"{gold['newly_wrong']:,}", f"{gold['newly_right']:,}")
        ),
        Text(f"McNemar p = {test['p']:.3g}"),
    )
    return table
