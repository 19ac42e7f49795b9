"""A summary on a terminal, or as one plain line in a log; reads nothing but the summary document.

Names and labels come from users and models: they are shown through `printable` and never as rich
markup.
"""

from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from batchsent.evaluation.gold import accuracy_word
from batchsent.text import elapsed, printable

SHOWN_LABELS = 6
NAME_CHARACTERS = 40
PATH_CHARACTERS = 100
BAR_WIDTH = 20

# Eight heights for a histogram in one line, and what to draw where the terminal has no such
# characters.
HEIGHTS = " ▁▂▃▄▅▆▇█"
ASCII_HEIGHTS = " .:-=+*#@"

FAILED, WARNED = "bold red", "yellow"


def show(document: Mapping[str, Any], target: Console | TextIO) -> None:
    """Print a summary as some dozen lines for a person, to a rich console or to a text stream.

    The summary of several inputs is shown as a line a file.
    """
    console = target if isinstance(target, Console) else Console(file=target, highlight=False)
    if "files" in document:
        _show_files(document, console)
        return
    plain = console.options.ascii_only
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _lines(document, ascii_only=plain):
        table.add_row(name, value)
    console.print(table)
    for warning in document["warnings"]:
        console.print(Text.assemble(("! ", WARNED), printable(warning["message"])), soft_wrap=True)
        if warning.get("hint"):
            console.print(Text(f"  {printable(warning['hint'])}", style="dim"), soft_wrap=True)
    error = document["error"]
    if error is not None:
        console.print(Text(printable(error.get("message")), style=FAILED), soft_wrap=True)
        if error.get("hint"):
            console.print(Text(f"  {printable(error['hint'])}"), soft_wrap=True)


# Warnings that a person must see even where nothing else is printed: rows of theirs have no label.
NEEDED = ("rejected", "nonfinite")


def warnings(document: Mapping[str, Any], *, needed_only: bool = False) -> list[str]:
    """Return each warning of a summary as one line; with `needed_only` the urgent ones."""
    if "files" in document or document["status"] == "dry_run":
        return []
    rejects = [entry["path"] for entry in document["outputs"] if entry.get("role") == "rejects"]
    found = []
    for warning in document["warnings"]:
        hint = warning.get("hint")
        if warning.get("code") == "rejected" and rejects:
            hint = f"see {rejects[0]}"
        if not needed_only or warning.get("code") in NEEDED:
            found.append(str(warning["message"]) + (f" ({hint})" if hint else ""))
    return found


def line(document: Mapping[str, Any]) -> str:
    """Return the summary as one plain line, without a line break: what a log keeps of a run."""
    if "files" in document:
        failed = sum(file["status"] == "failed" for file in document["files"])
        said = (
            f"{len(document['files']):,} files, {failed:,} failed; {_accounting(document['rows'])}"
        )
        return f"{printable(document['status'])}: {said}"
    rows, parts = document["rows"], []
    parts.append(f"{printable(document['status'])}: {_accounting(rows)}")
    if _timing(document):
        parts.append(_timing(document))
    shares = [
        f"{name_of(label['label'])} {label['share']:.1%}"
        for label in _commonest(document)
        if label["count"]
    ]
    if shares:
        parts.append(", ".join(shares))
    evaluation = document["evaluation"]
    if evaluation is not None and evaluation["rows"]:
        parts.append(
            f"{accuracy_word(evaluation)} {evaluation['accuracy']:.4f} on {evaluation['rows']:,} "
            "rows"
        )
    if document["warnings"]:
        count = len(document["warnings"])
        parts.append(f"{count} warning{'s' if count > 1 else ''}")
    if document["error"] is not None:
        parts.append(printable(document["error"].get("message")))
    elif document["outputs"]:
        parts.append(path_of(document["outputs"][0].get("path")))
    return "; ".join(parts)


def _show_files(document: Mapping[str, Any], console: Console) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for file in document["files"]:
        failed = file["status"] == "failed"
        said = _accounting(file["rows"]) if file["rows"] else ""
        if file["error"] is not None:
            said = printable(file["error"].get("message"))
        status = Text(printable(file["status"]).replace("_", " "), style=FAILED if failed else "")
        table.add_row(
            status, Text.assemble(path_of(file["output"]), (f"  {said}" if said else "", "dim"))
        )
    console.print(table)
    console.print(Text(line(document)), soft_wrap=True)


def _lines(document: Mapping[str, Any], *, ascii_only: bool) -> list[tuple[str, Text]]:
    """Return (name, value) of every line that this summary has something to say on."""
    rows, text, predictions = document["rows"], document["text"], document["predictions"]
    lines = [("rows", Text(_accounting(rows)))]
    if _timing(document):
        lines.append(("time", Text(_timing(document))))
    lines += _labels(document, ascii_only=ascii_only)
    counts = predictions["score_histogram"]["counts"]
    if any(counts):
        used = next(i for i, count in enumerate(counts) if count)
        drawn = _spark(counts[used:], ASCII_HEIGHTS if ascii_only else HEIGHTS)
        start = predictions["score_histogram"]["edges"][used]
        unsure = predictions["unsure"]
        note = (
            "" if unsure is None else f", {unsure:,} unsure (below {predictions['unsure_below']:g})"
        )
        lines.append(
            (
                "scores",
                Text(f"{start:.2f} {drawn} 1.00  mean {predictions['mean_score']:.3f}{note}"),
            )
        )
    if text["characters"]["count"]:
        lines.append(("text", Text(_lengths(text, document["model"]))))
    if document["evaluation"] is not None:
        lines += _evaluation(document["evaluation"], predictions["unsure_below"])
    model, device = document["model"], document["device"]
    named = [path_of(model[key]) for key in ("source", "precision") if model.get(key)]
    if device.get("name"):
        named.append(path_of(device["name"]))
    if named:
        lines.append(("model", Text(", ".join(named))))
    if document["performance"].get("bottleneck"):
        lines.append(("slowest", Text(printable(document["performance"]["bottleneck"]))))
    lines += [("output", Text(path_of(output.get("path")))) for output in document["outputs"][:3]]
    return lines


def _accounting(rows: Mapping[str, int]) -> str:
    """Say where every row went; what did not occur is left out."""
    others = [f"{rows[name]:,} {name}" for name in ("blank", "rejected", "nonfinite") if rows[name]]
    return ", ".join([f"{rows['scored']:,} of {rows['read']:,} rows scored", *others])


def _timing(document: Mapping[str, Any]) -> str:
    seconds, rate = document["run"].get("elapsed_s"), document["performance"].get("rows_per_s")
    parts = [] if seconds is None else [elapsed(seconds)]
    if rate is not None:
        parts.append(f"{rate:,.0f} rows/s" if rate >= 10 else f"{rate:.1f} rows/s")
    resumed = document["run"].get("resumed_rows")
    if resumed:
        parts.append(f"{resumed:,} rows from an earlier run")
    return ", ".join(parts)


def _commonest(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the labels to show: in the model's order, or the most frequent of many."""
    labels: list[Mapping[str, Any]] = document["predictions"]["labels"]
    if len(labels) <= SHOWN_LABELS:
        return labels
    return sorted(labels, key=lambda label: -label["count"])[:SHOWN_LABELS]


def _labels(document: Mapping[str, Any], *, ascii_only: bool) -> list[tuple[str, Text]]:
    shown = [label for label in _commonest(document) if label["share"] is not None]
    # Padded by terminal cells, since a Chinese character takes two.
    names = [Text(name_of(label["label"])) for label in shown]
    width = max((name.cell_len for name in names), default=0)
    digits = max((len(f"{label['count']:,}") for label in shown), default=0)
    lines: list[tuple[str, Text]] = []
    for name, label in zip(names, shown, strict=True):
        bar = ("#" if ascii_only else "█") * round(label["share"] * BAR_WIDTH)
        mean = "" if label["mean_score"] is None else f"mean {label['mean_score']:.3f}"
        padding = " " * (width - name.cell_len)
        numbers = f"{padding}  {label['count']:>{digits},}  {label['share']:>6.1%}  "
        value = Text.assemble(name, numbers, (bar.ljust(BAR_WIDTH), "cyan"), f"  {mean}")
        lines.append(("labels" if not lines else "", value))
    hidden = len(document["predictions"]["labels"]) - len(shown)
    if hidden and lines:
        lines.append(("", Text(f"and {hidden:,} more labels", style="dim")))
    return lines


def _lengths(text: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    characters, tokens = text["characters"], text["tokens"]
    said = (
        f"median {characters['p50']:,} characters, {tokens['p50']:,} tokens; "
        f"longest {characters['max']:,} characters"
    )
    if text["truncated_rows"]:
        limit = f" at {model['max_length']:,} tokens" if model.get("max_length") else ""
        said += f"; {text['truncated_rows']:,} texts ({text['truncated_share']:.1%}) cut{limit}"
    return said


def _evaluation(
    evaluation: Mapping[str, Any], unsure_below: float | None
) -> list[tuple[str, Text]]:
    gold = evaluation["gold"]
    left = [
        f"{gold[name]:,} {name.replace('_', ' ')}"
        for name in ("unmatched", "left_out", "missing")
        if gold[name]
    ]
    if not evaluation["rows"]:
        return [("gold", Text(", ".join(["no row to judge", *left]), style=WARNED))]
    low, high = evaluation["accuracy_interval"]
    word = accuracy_word(evaluation)
    first = Text.assemble(
        (f"{evaluation['accuracy']:.4f}", "bold"),
        f" ({low:.3f} to {high:.3f}) on {evaluation['rows']:,} rows,"
        f" commonest label {evaluation['majority']['accuracy']:.3f}",
    )
    figures = [f"macro F1 {evaluation['macro']['f1']:.3f}", f"MCC {evaluation['mcc']:.3f}"]
    if evaluation["roc_auc"] is not None:
        figures.append(f"ROC AUC {evaluation['roc_auc']:.3f}")
    figures.append(f"scores off by {evaluation['calibration_error']:.3f}")
    lines = [(word, first), ("", Text(", ".join(figures)))]
    for entry in evaluation["coverage"]:
        if entry["score_at_least"] == unsure_below and entry["rows"]:
            kept = f"the {entry['share']:.1%} with a score of {unsure_below:g} or more"
            said = f"{entry['accuracy']:.4f} of {kept}"
            lines.append(("", Text(said)))
    if left:
        lines.append(("gold", Text(", ".join(left))))
    return lines


def _spark(counts: list[int], heights: str) -> str:
    most = max(counts)
    # A bin with anything in it shows at least the lowest mark.
    return "".join(
        heights[0 if not n else max(1, round(n / most * (len(heights) - 1)))] for n in counts
    )


def name_of(label: object) -> str:
    """Return a label or a column for a line of text: printable and not too long."""
    return _cut(printable(label), NAME_CHARACTERS)


def path_of(path: object) -> str:
    """Return a path or another value for a line of text: printable and not too long."""
    return _cut(printable(path), PATH_CHARACTERS)


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 3] + "..."
