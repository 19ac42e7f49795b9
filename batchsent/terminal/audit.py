"""A sample and an audit as tables on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from batchsent.terminal.summaries import WARNED, name_of
from batchsent.text import printable


def show_sample(document: Mapping[str, Any], target: Console | TextIO) -> None:
    """Print the strata of a sample: what they hold, and how many rows were drawn."""
    console = target if isinstance(target, Console) else Console(file=target, highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("label")
    for name in ("score", "rows", "drawn", "each stands for"):
        table.add_column(name, justify="right")
    for stratum in document["strata"]:
        labels = stratum["labels"]
        name = name_of(labels[0]) if len(labels) == 1 else f"{len(labels)} rare labels"
        table.add_row(
            *map(
                Text,
                (
                    name,
                    f"{stratum['score_from']:.4f} to {stratum['score_to']:.4f}",
                    f"{stratum['rows']:,}",
                    f"{stratum['drawn']:,}",
                    f"{stratum['weight']:.1f}",
                ),
            )
        )
    console.print(table)
    said = (
        f"{document['rows']:,} of {document['scored_rows']:,} scored rows are in "
        f"{printable(document['output'])}: write the right labels into audit_gold"
    )
    console.print(Text(said), soft_wrap=True)


def show_audit(document: Mapping[str, Any], target: Console | TextIO) -> None:
    """Print an audit: accuracy and shares of the whole dump, beside what the labels alone say."""
    console = target if isinstance(target, Console) else Console(file=target, highlight=False)
    audit, rows = document["audit"], document["rows"]
    said = f"{audit['labelled']:,} labelled rows of {audit['drawn']:,} drawn"
    console.print(
        Text(f"{said}, for {rows['scored']:,} rows with a label of {rows['read']:,}"),
        soft_wrap=True,
    )
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("")
    for name in ("model says", "corrected", "95 % interval", "labels alone", "as good as"):
        table.add_column(name, justify="right", no_wrap=True)
    figures = [("accuracy", audit["accuracy"])]
    figures += [(name_of(entry["label"]), entry) for entry in audit["labels"]]
    for name, figure in figures:
        worth = figure["worth_labels"]
        values = (
            f"{figure['predicted']:.1%}",
            f"{figure['value']:.1%}",
            _interval(figure["interval"]),
            _interval(figure["labels_alone"]["interval"]),
            "" if worth is None else f"{worth:,} labels",
        )
        table.add_row(*map(Text, (name, *values)))
    console.print(table)
    for warning in document["warnings"]:
        console.print(Text.assemble(("! ", WARNED), printable(warning["message"])), soft_wrap=True)


def _interval(bounds: Sequence[float]) -> str:
    return f"{bounds[0]:.1%} to {bounds[1]:.1%}"
