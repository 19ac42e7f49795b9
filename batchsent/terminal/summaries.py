"""A summary as lines on a terminal, or as one plain line in a log.

Names and labels come from users and models: they are shown through `printable` and never as rich
markup.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from batchsent.evaluation.gold import accuracy_word
from batchsent.terminal import without_labels
from batchsent.text import elapsed, printable

SHOWN_LABELS = 6
SHOWN_FILES = 3
NAME_CHARACTERS = 40
PATH_CHARACTERS = 100
BAR_WIDTH = 20
# A shorter start is no reason for a rate that rows and seconds do not give.
SHOWN_START_S = 1.0

# Nine heights for a histogram in one line, and characters for a terminal that has only ASCII.
HEIGHTS = " ▁▂▃▄▅▆▇█"
ASCII_HEIGHTS = " .:-=+*#@"

FAILED, WARNED = "bold red", "yellow"


def show(document: Mapping[str, Any], target: Console | TextIO) -> None:
    """Print a summary as a dozen lines for a person, to a rich console or to a text stream.

    The summary of several inputs is shown as a line for each file.
    """
    console = console_of(target)
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
        show_warning(warning, console)
        if warning.get("hint"):
            console.print(Text(f"  {printable(warning['hint'])}", style="dim"), soft_wrap=True)
    error = document["error"]
    if error is not None:
        console.print(Text(printable(error.get("message")), style=FAILED), soft_wrap=True)
        if error.get("hint"):
            console.print(Text(f"  {printable(error['hint'])}"), soft_wrap=True)


def console_of(target: Console | TextIO) -> Console:
    """Return a rich console that prints to `target`."""
    if isinstance(target, Console):
        return target
    return Console(file=target, highlight=False)


def show_warning(warning: Mapping[str, Any], console: Console) -> None:
    """Print the message of a warning."""
    console.print(Text.assemble(("! ", WARNED), printable(warning["message"])), soft_wrap=True)


# Warnings that are printed even with --quiet: rows without a label.
NEEDED = ("rejected", "nonfinite")


def warnings(document: Mapping[str, Any], *, needed_only: bool = False) -> list[str]:
    """Return each warning of a summary as one line; with `needed_only` those in NEEDED."""
    if "files" in document or document["status"] == "dry_run":
        return []
    rejects = [entry["path"] for entry in document["outputs"] if entry.get("role") == "rejects"]
    found = []
    for warning in document["warnings"]:
        if needed_only and warning.get("code") not in NEEDED:
            continue
        hint = warning.get("hint")
        if warning.get("code") == "rejected" and rejects:
            hint = f"see {rejects[0]}"
        message = str(warning["message"])
        found.append(f"{message} ({hint})" if hint else message)
    return found


def line(document: Mapping[str, Any]) -> str:
    """Return the summary as one plain line for a log, without a line break."""
    status, rows = printable(document["status"]), _accounting(document["rows"])
    if "files" in document:
        reuse = f"; {_reuse(document['reuse'])}" if document.get("reuse") else ""
        return f"{_files_in_words(document)}; {rows}{reuse}"
    parts = [f"{status}: {rows}"]
    if _timing(document):
        parts.append(_timing(document))
    if document["run"].get("reuse"):
        parts.append(_reuse(document["run"]["reuse"]))
    if cascade := document["model"].get("cascade"):
        parts.append(f"{cascade['escalated_share'] or 0:.1%} escalated")
    given = [label for label in _commonest(document) if label["count"]]
    shares = [f"{name_of(label['label'])} {label['share']:.1%}" for label in given]
    if shares:
        parts.append(", ".join(shares))
    expected = document["predictions"].get("expected_accuracy")
    if expected is not None:
        parts.append(f"expected accuracy {expected:.3f}")
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


def _files_in_words(document: Mapping[str, Any]) -> str:
    """Say how many files there were, and which of them failed or changed meanwhile."""
    files = document["files"]
    failed = [file["input"] for file in files if file["status"] == "failed"]
    changed = [file["input"] for file in files if file.get("change")]
    said = []
    for what, names in (("failed", failed), ("changed meanwhile", changed)):
        if names:
            shown = ", ".join(printable(name) for name in names[:SHOWN_FILES])
            more = f" and {len(names) - SHOWN_FILES:,} more" if len(names) > SHOWN_FILES else ""
            said.append(f"{len(names):,} of {len(files):,} files {what} ({shown}{more})")
    status = printable(document["status"]).replace("_", " ")
    return "; ".join(said) or f"{status}: {len(files):,} file{'' if len(files) == 1 else 's'}"


def _show_files(document: Mapping[str, Any], console: Console) -> None:
    """Print the files that failed or lack rows, and a line on all; the others were reported."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for file in document["files"]:
        if file["exit_code"] == 0 and not file.get("change"):
            continue
        status = Text(printable(file["status"]).replace("_", " "))
        if file["status"] == "failed":
            status.stylize(FAILED)
        shown = Text(path_of(file["output"]))
        if file["error"] is not None:
            shown.append(f"  {printable(file['error'].get('message'))}", "dim")
        elif file["rows"]:
            shown.append(f"  {_accounting(file['rows'])}", "dim")
        table.add_row(status, shown)
    console.print(table)
    console.print(Text(line(document)), soft_wrap=True)


def _lines(document: Mapping[str, Any], *, ascii_only: bool) -> list[tuple[str, Text]]:
    """Return name and value of each line; lines without a value are left out."""
    text, predictions = document["text"], document["predictions"]
    lines = [("rows", Text(_accounting(document["rows"])))]
    if _timing(document):
        lines.append(("time", Text(_timing(document))))
    if document["run"].get("reuse"):
        lines.append(("reuse", Text(_reuse(document["run"]["reuse"]))))
    lines += _labels(document, ascii_only=ascii_only)
    if any(predictions["score_histogram"]["counts"]):
        lines.append(("scores", Text(_scores(predictions, ascii_only=ascii_only))))
    lines += without_labels.lines(predictions, WARNED)
    if predictions.get("neutral"):
        lines.append(("neutral", Text(_neutral(predictions["neutral"]))))
    if document.get("sentences"):
        lines.append(("sentences", Text(_sentences(document["sentences"]))))
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
    if device.get("devices"):
        lines.append(("processes", Text(_processes(device["devices"]))))
    if cascade := model.get("cascade"):
        lines.append(("cascade", Text(_cascade(cascade))))
    exits = model.get("early_exit")
    if exits and exits["texts"]:
        said = (
            f"{exits['exited']:,} of {exits['texts']:,} texts ended after {exits['layer']} layers"
        )
        lines.append(("early exit", Text(said)))
    if document["performance"].get("bottleneck"):
        lines.append(("bound by", Text(printable(document["performance"]["bottleneck"]))))
    lines += [("output", Text(path_of(output.get("path")))) for output in document["outputs"][:3]]
    return lines


def _processes(devices: Sequence[Mapping[str, Any]]) -> str:
    """Return what each of several processes has scored, and the memory that it took."""
    found = []
    for one in devices:
        memory = one["peak_memory_bytes"]
        room = "" if memory is None else f", {memory / 1e6:,.0f} MB"
        found.append(f"{printable(one['name'])}: {one['rows']:,} rows{room}")
    return "; ".join(found)


def _cascade(cascade: Mapping[str, Any]) -> str:
    """Return how many rows each model of a cascade decided, and how far both agree."""
    sample = cascade["sample"]
    said = (
        f"{path_of(cascade['source'])} decided {cascade['decided_rows']:,} rows, the model scored "
        f"{cascade['escalated_rows']:,} ({cascade['escalated_share'] or 0:.1%}) below "
        f"{cascade['below']:g}"
    )
    if sample["texts"]:
        said += f"; same label for {sample['same_label']:,} of {sample['texts']:,} decided texts"
    return said


def _scores(predictions: Mapping[str, Any], *, ascii_only: bool) -> str:
    """Return a histogram of the scores, from the lowest one up, with their mean."""
    counts = predictions["score_histogram"]["counts"]
    used = next(i for i, count in enumerate(counts) if count)
    start = predictions["score_histogram"]["edges"][used]
    drawn = _spark(counts[used:], ASCII_HEIGHTS if ascii_only else HEIGHTS)
    words = f"{start:.2f} {drawn} 1.00  mean {predictions['mean_score']:.3f}"
    if predictions["unsure"] is not None:
        words += f", {predictions['unsure']:,} unsure (below {predictions['unsure_below']:g})"
    return words


def _neutral(found: Mapping[str, Any]) -> str:
    """Return how many rows are neutral, and how right the others are."""
    words = f"{found['rows']:,} of these rows"
    if found["share"] is not None:
        words += f" ({found['share']:.1%})"
    words += f" have NEUTRAL in place of their label: polarity nearer to 0 than {found['band']:g}"
    others = found["others"]
    if others is not None and others["accuracy"] is not None:
        where = {"gold": "rows with gold", "held_out": "the model's held-out rows"}
        words += f"; of {where[others['source']]} {others['share']:.1%} are outside the band, "
        words += f"{others['accuracy']:.1%} of them right"
    return words


def _sentences(found: Mapping[str, Any]) -> str:
    """Return how many sentences there are, and how many are clear."""
    words = f"{found['total']:,}, {found['distinct']:,} of them distinct"
    if found["total"]:
        positive, negative = (found[name] / found["total"] for name in ("positive", "negative"))
        words += f"; {positive:.1%} clearly positive, {negative:.1%} clearly negative"
    if found["mixed_share"] is not None:
        words += f"; {found['mixed_share']:.1%} of the rows have both (mixed)"
    return words


def _accounting(rows: Mapping[str, int]) -> str:
    """Return what became of the rows; counts of 0 are left out."""
    others = [f"{rows[name]:,} {name}" for name in ("blank", "rejected", "nonfinite") if rows[name]]
    return ", ".join([f"{rows['scored']:,} of {rows['read']:,} rows scored", *others])


def _timing(document: Mapping[str, Any]) -> str:
    """Return how long the run took, what of it came before the first row, and the speed then."""
    seconds, rate = document["run"].get("elapsed_s"), document["performance"].get("rows_per_s")
    parts = []
    if seconds is not None:
        stages = document["performance"].get("seconds") or {}
        start_s = sum(stages.get(name) or 0.0 for name in ("check", "load"))
        words = elapsed(seconds)
        if start_s >= SHOWN_START_S:
            words += f" ({elapsed(start_s)} of it to check and load)"
        parts.append(words)
    if rate is not None:
        digits = 0 if rate >= 10 else 1
        parts.append(f"{rate:,.{digits}f} rows/s while scoring")
    resumed = document["run"].get("resumed_rows")
    if resumed:
        parts.append(f"{resumed:,} rows from an earlier run")
    return ", ".join(parts)


def _reuse(found: Mapping[str, Any]) -> str:
    """Return how many rows took their scores from earlier outputs, and how these differ."""
    return (
        f"{found['reused_rows']:,} rows reused, {found['new_rows']:,} new, "
        f"{found['gone_rows']:,} gone"
    )


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
    block = "#" if ascii_only else "█"
    lines: list[tuple[str, Text]] = []
    for name, label in zip(names, shown, strict=True):
        bar = block * round(label["share"] * BAR_WIDTH)
        padding = " " * (width - name.cell_len)
        numbers = f"{padding}  {label['count']:>{digits},}  {label['share']:>6.1%}  "
        value = Text.assemble(name, numbers, (bar.ljust(BAR_WIDTH), "cyan"), "  ")
        if label["mean_score"] is not None:
            value.append(f"mean {label['mean_score']:.3f}")
        lines.append(("" if lines else "labels", value))
    hidden = len(document["predictions"]["labels"]) - len(shown)
    if hidden and lines:
        lines.append(("", Text(f"and {hidden:,} more labels", style="dim")))
    return lines


def _lengths(text: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    characters, tokens = text["characters"], text["tokens"]
    words = (
        f"median {characters['p50']:,} characters, {tokens['p50']:,} tokens; "
        f"longest {characters['max']:,} characters"
    )
    if text["truncated_rows"]:
        words += f"; {text['truncated_rows']:,} texts ({text['truncated_share']:.1%}) cut"
        if model.get("max_length"):
            words += f" at {model['max_length']:,} tokens"
    unfamiliar = text.get("unfamiliar")
    if unfamiliar and unfamiliar["rows"]:
        words += f"; {unfamiliar['rows']:,} unlike what the model has learned"
    return words


def _evaluation(
    evaluation: Mapping[str, Any], unsure_below: float | None
) -> list[tuple[str, Text]]:
    left = left_out(evaluation["gold"], ("unmatched", "left_out", "missing"))
    if not evaluation["rows"]:
        return [("gold", Text(", ".join(["no row with a gold label", *left]), style=WARNED))]
    low, high = evaluation["accuracy_interval"]
    word = accuracy_word(evaluation)
    first = Text.assemble(
        (f"{evaluation['accuracy']:.4f}", "bold"),
        f" ({low:.3f} to {high:.3f}) on {evaluation['rows']:,} rows,"
        f" majority baseline {evaluation['majority']['accuracy']:.3f}",
    )
    figures = [f"macro F1 {evaluation['macro']['f1']:.3f}", f"MCC {evaluation['mcc']:.3f}"]
    if evaluation["roc_auc"] is not None:
        figures.append(f"ROC AUC {evaluation['roc_auc']:.3f}")
    figures.append(f"calibration error {evaluation['calibration_error']:.3f}")
    lines = [(word, first), ("", Text(", ".join(figures)))]
    for entry in evaluation["coverage"]:
        if entry["score_at_least"] == unsure_below and entry["rows"]:
            kept = f"the {entry['share']:.1%} with a score of {unsure_below:g} or more"
            lines.append(("", Text(f"{entry['accuracy']:.4f} of {kept}")))
    if left:
        lines.append(("gold", Text(", ".join(left))))
    return lines


def left_out(gold: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return the counts of gold values that were not compared, in words; without those of 0."""
    return [f"{gold[name]:,} {name.replace('_', ' ')}" for name in names if gold[name]]


def _spark(counts: list[int], heights: str) -> str:
    """Return a histogram of one line; only an empty bin has the lowest height."""
    most = max(counts)
    drawn = ""
    for count in counts:
        height = round(count / most * (len(heights) - 1))
        if count:
            height = max(1, height)
        drawn += heights[height]
    return drawn


def name_of(label: object) -> str:
    """Return a label or a column for a line of text: printable and not too long."""
    return _cut(printable(label), NAME_CHARACTERS)


def path_of(path: object) -> str:
    """Return a path or another value for a line of text: printable and not too long."""
    return _cut(printable(path), PATH_CHARACTERS)


def _cut(text: str, characters: int) -> str:
    if len(text) <= characters:
        return text
    return text[: characters - 3] + "..."
