"""The page of a scoring run: what of its summary is shown, and how it is said.

Reads nothing but the summary.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batchsent.errors import UsageError
from batchsent.evaluation import gates
from batchsent.evaluation.gold import accuracy_word
from batchsent.evaluation.summary import as_input_error
from batchsent.pages import axes, charts
from batchsent.pages.report_evaluation import evaluation_content
from batchsent.pages.template import bounds, count, cut, facts, moment, page
from batchsent.text import elapsed

MOST_LABELS = 30
MOST_SCORE_CHARTS = 6

Document = Mapping[str, Any]


def render(document: Document) -> bytes:
    """Return the page of a summary, in UTF-8.

    Raises InputError for a summary whose figures are not what they should be.
    """
    with as_input_error():
        return page(
            "report.html", {"d": document, "e": document["evaluation"], **_content(document)}
        )


def _content(document: Document) -> dict[str, Any]:
    rows, predictions, evaluation = (
        document["rows"],
        document["predictions"],
        document["evaluation"],
    )
    ranked = sorted(predictions["labels"], key=lambda label: -label["count"])
    shown = predictions["labels"] if len(ranked) <= MOST_LABELS else ranked[:MOST_LABELS]
    hidden = ranked[MOST_LABELS:]
    source = document["input"].get("path")
    content: dict[str, Any] = {
        "run_id": document["run"].get("id"),
        "title": f"Scores of {_name(source)}" if source else "A scoring run",
        "subtitle": _subtitle(document),
        "verdict": _verdict(document),
        "tiles": _tiles(document),
        "accounting": [
            {
                "name": name,
                "meaning": meaning,
                "count": rows[name],
                "share": rows[name] / rows["read"] if rows["read"] else None,
                "bar": charts.bar(rows[name] / rows["read"] if rows["read"] else None),
            }
            for name, meaning in (
                ("scored", "have a label and a score"),
                ("blank", "have no text; kept, label and score empty"),
                ("rejected", "could not be read; left out of the output"),
                ("nonfinite", "the model gave no number; kept, label and score empty"),
            )
        ],
        "labels": [{**label, "bar": charts.bar(label["share"])} for label in shown],
        "hidden_labels": len(hidden),
        "hidden_rows": sum(label["count"] for label in hidden),
        "score_charts": _score_charts(predictions),
        "length_charts": _length_charts(document),
        "stages": _stages(document),
        "facts": _facts(document),
        "command": _command(document),
        **_gates(document),
        "most_labels": MOST_LABELS,
    }
    if evaluation is not None and evaluation["rows"]:
        content |= evaluation_content(evaluation, predictions["unsure_below"])
    return content


def _verdict(document: Document) -> str:
    """Say the run in two or three sentences."""
    rows, evaluation = document["rows"], document["evaluation"]
    said = f"{rows['scored']:,} of {rows['read']:,} rows were scored"
    seconds = document["run"].get("elapsed_s")
    said += f" in {elapsed(seconds)}." if seconds is not None else "."
    most = max(document["predictions"]["labels"], key=lambda label: label["count"], default=None)
    if most is not None and most["count"]:
        said += f" The commonest label is {cut(most['label'])}, with {most['share']:.1%} of them."
    if evaluation is not None and evaluation["rows"]:
        low, high = evaluation["accuracy_interval"]
        what = (
            "agree with the star ratings" if evaluation["gold"]["kind"] == "stars" else "are right"
        )
        said += (
            f" Of {evaluation['rows']:,} rows with a gold label {evaluation['accuracy']:.1%} "
            f"{what} (between {low:.1%} and {high:.1%}, 95 times of 100); always answering "
            f"{cut(evaluation['majority']['label'])} would get "
            f"{evaluation['majority']['accuracy']:.1%}."
        )
    return said


def _gates(document: Document) -> dict[str, Any]:
    """Return the floors of --fail-under that the evaluation is under, or else all of them."""
    floors = (document["run"].get("options") or {}).get("fail_under") or []
    if document["status"] == "failed":
        return {}
    try:
        failures = gates.failed_minimums(document["evaluation"], floors)
    except UsageError as error:
        # the run has checked them: the summary was changed since
        raise ValueError(error.message) from error
    return {"failures": failures, "gates": [] if failures else floors}


def _subtitle(document: Document) -> str:
    parts = [f"status {document['status']}"]
    if document["run"].get("ended"):
        parts.append(moment(str(document["run"]["ended"])))
    model = document["model"]
    parts += [str(value) for value in (model.get("source"), model.get("precision")) if value]
    return " · ".join(parts)


def _tiles(document: Document) -> list[tuple[str, str, str]]:
    rows, evaluation, speed = document["rows"], document["evaluation"], document["performance"]
    tiles = [("rows scored", count(rows["scored"]), f"of {rows['read']:,} read")]
    if evaluation is not None and evaluation["rows"]:
        note = bounds(evaluation["accuracy_interval"])
        tiles.append((accuracy_word(evaluation), f"{evaluation['accuracy']:.1%}", note))
    if speed.get("rows_per_s") is not None:
        rate = speed["rows_per_s"]
        tokens = speed.get("tokens_per_s")
        note = f"{axes.short(tokens)} tokens/s" if tokens is not None else ""
        tiles.append(("rows a second", f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}", note))
    if document["predictions"]["mean_score"] is not None:
        tiles.append(
            ("mean score", f"{document['predictions']['mean_score']:.3f}", "of the label given")
        )
    if document["text"]["truncated_share"] is not None:
        tiles.append(
            (
                "texts cut",
                f"{document['text']['truncated_share']:.1%}",
                "longer than the model reads",
            )
        )
    return tiles


def _score_charts(predictions: Document) -> list[dict[str, Any]]:
    histogram = predictions["score_histogram"]
    if not any(histogram["counts"]):
        return []
    first = next(i for i, count in enumerate(histogram["counts"]) if count)
    # A winner of two labels has 0.5 or more: an empty left half says nothing.
    first = min(first, len(histogram["counts"]) // 2)
    start = histogram["edges"][first]
    ticks = axes.round_ticks(start, 1)
    bins = axes.bin_words(histogram["edges"][first:])
    kept = [
        label for label in predictions["labels"] if label.get("score_counts") and label["count"]
    ]
    charted = kept if 0 < len(kept) <= MOST_SCORE_CHARTS else []
    found = [("All scores", None, histogram["counts"])] if not charted else []
    found += [("Scores of", label["label"], label["score_counts"]) for label in charted]
    # one scale for all, so that heights can be compared
    most = max(max(counts) for _, _, counts in found)
    return [
        {
            "name": name,
            "label": label,
            "svg": charts.histogram(
                counts[first:],
                ticks,
                title="Histogram of scores",
                x_title="score",
                bins=bins,
                most=most,
            ),
            "caption": f"{sum(counts):,} rows",
        }
        for name, label, counts in found
    ]


def _length_charts(document: Document) -> list[dict[str, Any]]:
    text, limit = document["text"], document["model"].get("max_length")
    found = []
    for unit, mark_at in (("characters", None), ("tokens", limit)):
        lengths = text[unit]
        if not lengths["count"]:
            continue
        edges, counts = lengths["histogram"]["edges"], lengths["histogram"]["counts"]
        used = [i for i, count in enumerate(counts) if count]
        first, last = max(used[0] - 1, 0), min(used[-1] + 2, len(edges) - 1)
        shown = edges[first : last + 1]
        mark = None
        if mark_at and (place := axes.log_place(mark_at, shown)) is not None:
            mark = (place, f"read up to {mark_at:,}")
        found.append(
            {
                "name": f"In {unit}",
                "svg": charts.histogram(
                    counts[first:last],
                    axes.log_ticks(shown),
                    title=f"Histogram of lengths in {unit}",
                    x_title=f"{unit} (log scale)",
                    bins=[f"{words} {unit}" for words in axes.bin_words(shown, whole=True)],
                    mark=mark,
                ),
                "caption": f"Half of the texts have {lengths['p50']:,} {unit} or less, 95% have "
                f"{lengths['p95']:,} or less; the longest has {lengths['max']:,}.",
            }
        )
    return found


def _stages(document: Document) -> list[dict[str, Any]]:
    seconds = {
        name: value
        for name, value in (document["performance"].get("seconds") or {}).items()
        if value is not None
    }
    longest = max(seconds.values(), default=0) or 1
    return [
        {"name": name, "seconds": value, "bar": charts.bar(value / longest)}
        for name, value in seconds.items()
    ]


def _facts(document: Document) -> list[dict[str, Any]]:
    run = {
        name: value
        for name, value in document["run"].items()
        if name not in {"options", "fingerprint", "writing", "command"}
    }
    sections: Sequence[tuple[str, Mapping[str, Any]]] = (
        ("Run", run),
        ("Input", document["input"]),
        *(("Output", output) for output in document["outputs"]),
        ("Model", document["model"]),
        ("Device", document["device"]),
        ("Options", document["run"].get("options") or {}),
        ("Versions", document["package"]),
    )
    return [facts(name, section) for name, section in sections if section]


def _command(document: Document) -> str | None:
    command = document["run"].get("command")
    if not command:
        return None
    first, *words = map(str, command)
    # Where the program lies is nobody's business, and not what to type; a program of one's own
    # keeps its name.
    ours = Path(first).name == "batchsent" or Path(first).parts[-2:] == ("batchsent", "__main__.py")
    return shlex.join(["batchsent" if ours else first, *words])


def _name(path: str) -> str:
    return cut(Path(path).name if path != "-" else "standard input")
