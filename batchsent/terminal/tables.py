"""A comparison, an evaluation or the metrics of a training as tables on a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from batchsent.evaluation.compare import WORDS
from batchsent.evaluation.gold import accuracy_word
from batchsent.terminal.summaries import (
    SHOWN_LABELS,
    console_of,
    left_out,
    name_of,
    path_of,
    show_warning,
)
from batchsent.text import printable

SHOWN_MATRIX = 8
# What the terminal calls a figure of metrics.json whose name there is no word.
FIGURE_NAMES = {"mcc": "Matthews correlation", "macro_f1": "macro F1", "f1": "F1"}
# Figures of drift in a comparison, and what they are called.
DRIFT = {
    "psi": "PSI of scores",
    "length_psi": "PSI of lengths",
    "ks": "KS of scores",
    "length_ks": "KS of lengths",
}


def show_evaluation(document: Mapping[str, Any], target: Console | TextIO) -> None:
    """Print an evaluation: figures, labels, the confusion matrix and warnings."""
    console = console_of(target)
    evaluation = document["evaluation"]
    figures = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    figures.add_column()
    figures.add_column(justify="right")
    figures.add_column(style="dim")
    for name, value, note in _figures(evaluation):
        figures.add_row(*map(Text, (name, _number(value), note)))
    console.print(figures)
    if evaluation["rows"]:
        console.print(_labels(evaluation))
        known = evaluation["confusion"]["counts"] is not None
        if known and len(evaluation["labels"]) <= SHOWN_MATRIX:
            console.print(_matrix(evaluation))
        console.print(_coverage(evaluation["coverage"], document["predictions"]["unsure_below"]))
    for unmatched in evaluation["gold"]["unmatched_values"]:
        console.print(
            Text(f"no label: '{printable(unmatched['value'])}' in {unmatched['count']:,} rows"),
            soft_wrap=True,
        )
    for warning in document["warnings"]:
        show_warning(warning, console)
    for line in _others_lines(document["seen"]):
        console.print(Text(line), soft_wrap=True)


def show_facts(sections: Mapping[str, Mapping[str, Any]], target: TextIO) -> None:
    """Print sections of facts, a line for each fact."""
    console = Console(file=target, highlight=False)
    for section, facts in sections.items():
        table = Table(
            title=section, title_justify="left", box=None, padding=(0, 2, 0, 0), show_header=False
        )
        for name, value in flat(facts):
            shown = value
            if isinstance(value, list):
                shown = ", ".join(map(str, value))
            if shown not in (None, ""):
                table.add_row(Text(name.replace("_", " ")), Text(printable(shown)))
        console.print(table)


def flat(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield facts with those of an inner section in its place."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from value.items()
        else:
            yield name, value


def show_metrics(document: Mapping[str, Any], target: TextIO) -> None:
    """Print a model's metrics.json: figures, labels, confusion matrix, base model."""
    console = Console(file=target, highlight=False)
    evaluation = document["evaluation"]
    figures = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    figures.add_column()
    figures.add_column(justify="right")
    figures.add_column(style="dim")
    digits = digits_of(evaluation["rows"])
    notes = {"accuracy": _accuracy_note(document), "mcc": "0 is chance, 1 is perfect"}
    if len(evaluation["labels"]) == 2:
        positive = name_of(evaluation["labels"][1]["label"])
        notes |= dict.fromkeys(("precision", "recall", "f1"), f"of {positive}")
    for name, value in document["metrics"].items():
        if isinstance(value, float):
            shown = FIGURE_NAMES.get(name, name.replace("_", " "))
            figures.add_row(*map(Text, (shown, f"{value:.{digits}f}", notes.get(name, ""))))
    console.print(figures)
    labels = Table("label", "rows", "precision", "recall", "F1", box=None, padding=(0, 2, 0, 0))
    for label, found in document["metrics"]["per_class"].items():
        shares = [f"{found[name]:.{digits}f}" for name in ("precision", "recall", "f1")]
        labels.add_row(*map(Text, (name_of(label), f"{found['support']:,.0f}", *shares)))
    console.print(labels)
    few = len(evaluation["labels"]) <= SHOWN_MATRIX
    if few and evaluation["confusion"]["counts"] is not None:
        console.print(_matrix(evaluation))
    for line in [*_seen_lines(document), *_base_lines(document)]:
        console.print(Text(line), soft_wrap=True)


def _accuracy_note(document: Mapping[str, Any]) -> str:
    """Return the interval of the accuracy, marked where the base model has seen rows."""
    evaluation = document["evaluation"]
    note = _interval(evaluation["accuracy_interval"], digits_of(evaluation["rows"]))
    seen = document["seen"]["rows"]
    return f"{note}; {seen:,} rows seen before" if seen else note


def _seen_lines(document: Mapping[str, Any]) -> list[str]:
    """Say how many of the rows the base model has seen, and how it is on the others."""
    seen, rows = document["seen"], document["evaluation"]["rows"]
    if not seen["rows"]:
        return []
    return [
        f"{seen['rows']:,} of these {rows:,} rows were seen by the base model in its training",
        *_others_lines(seen),
    ]


def _others_lines(seen: Mapping[str, Any] | None) -> list[str]:
    """Say how good a model is on the rows that it has not learned, where it has learned some."""
    others = None if seen is None else seen["evaluation_of_others"]
    if others is None:
        return []
    digits = digits_of(others["rows"])
    return [
        f"accuracy on the other {others['rows']:,} rows: {others['accuracy']:.{digits}f} "
        f"({_interval(others['accuracy_interval'], digits)})"
    ]


def _base_lines(document: Mapping[str, Any]) -> list[str]:
    """Say how good the base model is on the same rows, or why that is not known."""
    found = document["comparison"]
    if found["why_not"] is not None:
        return [f"not compared with a base model: {printable(found['why_not'])}"]
    rows = "these rows"
    if document["seen"]["rows"]:
        rows = "those rows"
    low, high = found["difference_interval"]
    digits = digits_of(document["evaluation"]["rows"] - document["seen"]["rows"])
    within = f"95%: {low:+.{digits}f} to {high:+.{digits}f}"
    return [
        f"accuracy of the base model on {rows}: {found['base']['accuracy']:.{digits}f} "
        f"({_interval(found['base']['accuracy_interval'], digits)})",
        f"difference: {found['difference']:+.{digits}f} ({within})",
    ]


def digits_of(rows: int) -> int:
    """Return how many decimals a share of so many rows carries: 2 below 100, 3 below 1,000, 4."""
    return min(max(len(str(rows)), 2), 4)


def _interval(interval: list[float] | None, digits: int) -> str:
    if interval is None:
        return ""
    return f"95%: {interval[0]:.{digits}f} to {interval[1]:.{digits}f}"


def _figures(evaluation: Mapping[str, Any]) -> list[tuple[str, float | None, str]]:
    """Return name, value and note of each figure."""
    left = left_out(evaluation["gold"], ("missing", "left_out", "unmatched", "not_scored"))
    majority, majority_note, within = None, "", ""
    if evaluation["rows"]:
        low, high = evaluation["accuracy_interval"]
        within = f"95%: {low:.4f} to {high:.4f}"
        majority = evaluation["majority"]["accuracy"]
        majority_note = f"always {name_of(evaluation['majority']['label'])}"
    return [
        ("rows", evaluation["rows"], ", ".join(left)),
        (accuracy_word(evaluation), evaluation["accuracy"], within),
        ("majority", majority, majority_note),
        ("balanced accuracy", evaluation["balanced_accuracy"], ""),
        ("macro F1", evaluation["macro"]["f1"], ""),
        ("MCC", evaluation["mcc"], ""),
        ("ROC AUC", evaluation["roc_auc"], _within(evaluation["roc_auc_error"])),
        (
            "average precision",
            evaluation["average_precision"],
            _within(evaluation["average_precision_error"]),
        ),
        ("Brier score", evaluation["brier"], ""),
        ("calibration error", evaluation["calibration_error"], ""),
    ]


def _within(error: float | None) -> str:
    if error is None:
        return ""
    return f"within {error:.1g}" if error else "exact"


def _labels(evaluation: Mapping[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("label")
    for name in ("gold", "predicted", "precision", "recall", "F1"):
        table.add_column(name, justify="right")
    for entry in evaluation["labels"]:
        values = (entry[key] for key in ("gold", "predicted", "precision", "recall", "f1"))
        table.add_row(Text(name_of(entry["label"])), *map(_number, values))
    return table


def _matrix(evaluation: Mapping[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("gold \\ predicted")
    names = [Text(name_of(entry["label"])) for entry in evaluation["labels"]]
    for name in names:
        table.add_column(name, justify="right")
    for name, counts in zip(names, evaluation["confusion"]["counts"], strict=True):
        table.add_row(name, *map(_number, counts))
    return table


def _coverage(entries: list[dict[str, Any]], unsure_below: float | None) -> Table:
    """Return for each threshold of the score how many rows reach it, and their accuracy."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("score at least", "rows", "share", "accuracy"):
        table.add_column(name, justify="right")
    table.add_column("")
    for entry in entries:
        numbers = (_number(entry[key]) for key in ("rows", "share", "accuracy"))
        note = "--unsure-below" if entry["score_at_least"] == unsure_below else ""
        table.add_row(*map(Text, (f"{entry['score_at_least']:g}", *numbers, note)))
    return table


def show_comparison(comparison: Mapping[str, Any], target: Console | TextIO) -> None:
    """Print a comparison of two summaries as a table; changes that may be chance are dimmed."""
    console = console_of(target)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("")
    for side in ("a", "b", "change", "by chance up to"):
        table.add_column(side, justify="right", no_wrap=True)
    for figure in comparison["figures"]:
        name = name_of(figure["name"]).replace("_", " ")
        _add_figure(table, WORDS.get(name, name), figure)
    for label in _most_moved(comparison["labels"]):
        _add_figure(table, f"share of {name_of(label['name'])}", label)
    for key, name in DRIFT.items():
        value, noise = comparison["drift"][key], comparison["drift"][f"{key}_noise"]
        cells = [Text(cell) for cell in (name, "", "", _number(value), _number(noise))]
        table.add_row(*cells, style="dim" if value is None or value <= noise else None)
    console.print(table)
    for entry in comparison["differences"]:
        before, after = path_of(entry["a"]), path_of(entry["b"])
        console.print(
            Text(f"{entry['section']} {name_of(entry['name'])}: {before} -> {after}"),
            soft_wrap=True,
        )
    console.print(Text(comparison["verdict"]), soft_wrap=True)


def _add_figure(table: Table, name: str, figure: Mapping[str, Any]) -> None:
    """Add the row of a figure, dimmed where the change may be chance."""
    change, noise = figure["change"], figure["noise"]
    is_noise = change in (0, None) or (noise is not None and abs(change) <= noise)
    cells = (
        name,
        _number(figure["a"]),
        _number(figure["b"]),
        _number(change, signed=True),
        _number(noise),
    )
    table.add_row(*map(Text, cells), style="dim" if is_noise else None)


def _most_moved(labels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the labels whose share changed most, in the order of the model."""
    moved = sorted(labels, key=lambda label: -abs(label["change"] or 0))[:SHOWN_LABELS]
    return [label for label in labels if label in moved]


def _number(value: float | None, *, signed: bool = False) -> str:
    """Return a count with commas, anything else with four decimals."""
    if value is None:
        return "-"
    sign = "+" if signed else ""
    if isinstance(value, int):
        return f"{value:{sign},d}"
    return f"{value:{sign}.4f}"
