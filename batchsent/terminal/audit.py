"""A sample on a terminal; reads nothing but the documents."""

from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from batchsent.terminal.summaries import name_of
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
