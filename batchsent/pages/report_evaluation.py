"""The part of a run's page that holds its gold labels against its scores."""

from collections.abc import Mapping, Sequence
from typing import Any

from batchsent.evaluation.gold import accuracy_word
from batchsent.evaluation.quality import interval
from batchsent.pages import axes, charts
from batchsent.pages.svg import DASHES
from batchsent.pages.template import bounds, cut, number

MOST_MATRIX = 12

Document = Mapping[str, Any]


def evaluation_content(evaluation: Document, unsure_below: float | None) -> dict[str, Any]:
    """Return what the page shows of an evaluation, by the template's names."""
    return {
        "left": _left(evaluation["gold"]),
        "figures": _figures(evaluation),
        "matrix": confusion_matrix(evaluation),
        "charts": [
            *_curve_charts(evaluation),
            _calibration_chart(evaluation),
            *_coverage_charts(evaluation),
        ],
        "coverage": _coverage(evaluation["coverage"], unsure_below),
        "by_length": _by_length(evaluation),
    }


def _figures(evaluation: Document) -> list[tuple[str, float | None, str]]:
    ranked = "each label against the others, mean"
    if evaluation["positive"] is not None:
        ranked = f"probability of {cut(evaluation['positive'])}"
    return [
        (
            accuracy_word(evaluation),
            evaluation["accuracy"],
            f"95%: {bounds(evaluation['accuracy_interval'])}",
        ),
        (
            "majority",
            evaluation["majority"]["accuracy"],
            f"always answering {cut(evaluation['majority']['label'])}",
        ),
        ("balanced accuracy", evaluation["balanced_accuracy"], "mean recall of the labels"),
        ("macro precision", evaluation["macro"]["precision"], ""),
        ("macro recall", evaluation["macro"]["recall"], ""),
        ("macro F1", evaluation["macro"]["f1"], ""),
        ("Matthews correlation", evaluation["mcc"], "0 is chance, 1 is perfect"),
        ("ROC AUC", evaluation["roc_auc"], ranked),
        ("average precision", evaluation["average_precision"], ranked),
        ("Brier score", evaluation["brier"], "0 is best"),
        (
            "calibration error",
            evaluation["calibration_error"],
            "mean distance of score and accuracy",
        ),
    ]


def _left(gold: Document) -> str:
    """Say which rows are not in the evaluation."""
    words = {
        "missing": "without a gold value",
        "left_out": "left out by the rule",
        "unmatched": "whose value matches no label",
        "not_scored": "without a score",
    }
    said = [f"{gold[name]:,} {meaning}" for name, meaning in words.items() if gold[name]]
    return f" Not judged: {', '.join(said)}." if said else ""


def confusion_matrix(evaluation: Document) -> dict[str, Any] | None:
    """Return the matrix as a page draws it; None where there are too many labels."""
    counts = evaluation["confusion"]["counts"]
    names = [label["label"] for label in evaluation["labels"]]
    if counts is None or len(names) > MOST_MATRIX:
        return None
    rows = []
    for i, (name, row) in enumerate(zip(names, counts, strict=True)):
        total = sum(row) or 1
        cells = [
            {
                "count": count,
                "share": count / total,
                "heat": round(4 * count / total),
                "hit": i == j,
            }
            for j, count in enumerate(row)
        ]
        rows.append({"name": name, "cells": cells})
    return {"names": names, "rows": rows}


def _curve_charts(evaluation: Document) -> list[dict[str, Any]]:
    drawn = evaluation["curves"][: len(DASHES)]
    if not drawn:
        return []
    legend, names, base = [], [], None
    if len(drawn) > 1:
        names = [cut(curve["label"]) for curve in drawn]
        legend = [(charts.legend_line(i), name) for i, name in enumerate(names)]
    else:
        gold = next(
            label["gold"] for label in evaluation["labels"] if label["label"] == drawn[0]["label"]
        )
        base = (gold / evaluation["rows"],) * 2
    roc = charts.curves(
        [(curve["roc"]["fpr"], curve["roc"]["tpr"]) for curve in drawn],
        title="ROC curve",
        x_title="false positive rate",
        y_title="true positive rate",
        chance=(0, 1),
        names=names,
    )
    precision = charts.curves(
        [
            (curve["precision_recall"]["recall"], curve["precision_recall"]["precision"])
            for curve in drawn
        ],
        title="Precision-recall curve",
        x_title="recall",
        y_title="precision",
        chance=base,
        names=names,
    )
    area = f"Area {number(evaluation['roc_auc'])}; the dashed line is chance."
    average = f"Average precision {number(evaluation['average_precision'])}"
    average += "; the dashed line is chance." if base else "."
    return [
        {"name": "ROC curve", "svg": roc, "caption": area, "legend": legend},
        {"name": "Precision and recall", "svg": precision, "caption": average, "legend": legend},
    ]


def _calibration_chart(evaluation: Document) -> dict[str, Any]:
    points = [
        charts.Dot(
            cell["mean_score"],
            cell["accuracy"],
            *_interval(cell["accuracy"], cell["rows"]),
            rows=cell["rows"],
            weight=cell["rows"] / evaluation["rows"],
        )
        for cell in evaluation["calibration"]
        if cell["rows"]
    ]
    # Both axes begin at one place, so that scores to be believed lie on the diagonal.
    start = axes.share_start([*(dot.low for dot in points), *(dot.x for dot in points)])
    svg = charts.dots(
        points,
        title="Reliability diagram",
        x_title="mean score",
        y_title="share that is right",
        x_from=start,
        y_from=start,
        chance=True,
    )
    caption = (
        f"On the dashed line they can. Off by {number(evaluation['calibration_error'])} on "
        "average; larger dots hold more rows, lines are 95% intervals."
    )
    return {"name": "Can the scores be read as chances?", "svg": svg, "caption": caption}


def _coverage_charts(evaluation: Document) -> list[dict[str, Any]]:
    """Draw accuracy against the share of rows kept.

    Nothing where no threshold sets some of the rows aside.
    """
    rows, kept = evaluation["rows"], [entry for entry in evaluation["coverage"] if entry["rows"]]
    around = _interval(evaluation["accuracy"], rows)
    points = [charts.Dot(1.0, evaluation["accuracy"], *around, rows=rows)]
    # Of thresholds that keep the same rows the highest says the most.
    left = [*(entry["rows"] for entry in kept[1:]), 0]  # by the threshold above
    for entry, fewer in zip(kept, left, strict=False):
        if fewer < entry["rows"] < rows:
            around = _interval(entry["accuracy"], entry["rows"])
            words = f"{entry['score_at_least']:.4g}"
            points.append(
                charts.Dot(
                    entry["share"], entry["accuracy"], *around, rows=entry["rows"], words=words
                )
            )
    if len(points) < 2:
        return []
    svg = charts.dots(
        points,
        title="Accuracy against coverage",
        x_title="share of rows kept",
        y_title="accuracy among them",
        x_from=axes.share_start([points[-1].x]),
        y_from=axes.share_start([dot.low for dot in points]),
        joined=True,
    )
    caption = (
        "Beside the dots: the lowest score that is kept; the rightmost dot is all rows. "
        "Lines are 95% intervals."
    )
    return [{"name": "How right are the sure ones?", "svg": svg, "caption": caption}]


def _interval(share: float, rows: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of at least one row."""
    low, high = interval(round(share * rows), rows) or (share, share)
    return low, high


def _coverage(entries: Sequence[Document], unsure_below: float | None) -> list[dict[str, Any]]:
    rows = []
    for entry in entries:
        row = {**entry, "own": entry["score_at_least"] == unsure_below, "interval": None}
        if entry["rows"]:
            row["interval"] = _interval(entry["accuracy"], entry["rows"])
        rows.append(row)
    return rows


def _by_length(evaluation: Document) -> dict[str, Any]:
    entries = []
    for bucket in evaluation["by_length"]:
        end = f" to {bucket['to'] - 1:,}" if bucket["to"] is not None else " and more"
        entries.append((f"{bucket['from']:,}{end}", bucket))
    entries += [
        ("read to the end", evaluation["whole"]),
        ("cut by the model", evaluation["truncated"]),
    ]
    judged = [(name, bucket) for name, bucket in entries if bucket["rows"]]
    start = axes.share_start([bucket["accuracy_interval"][0] for _, bucket in judged])
    rows = []
    for name, bucket in judged:
        low, high = bucket["accuracy_interval"]
        plot = charts.whisker(bucket["accuracy"], low, high, start)
        rows.append({**bucket, "name": name, "interval": bucket["accuracy_interval"], "plot": plot})
    return {"start": start, "rows": rows}
