"""The page of a fine-tuned model: its metrics.json and its training curve, shown.

Computes nothing of them.
"""

import csv
import io
from collections.abc import Mapping
from typing import Any

from batchsent.evaluation.summary import as_input_error
from batchsent.pages import charts
from batchsent.pages.template import count, cut, facts, moment, number, page
from batchsent.text import elapsed

# Lines of a chart have this many points at most: a screen has no more to show.
MOST_POINTS = 400

MEASURED = (
    ("eval_accuracy", "accuracy"),
    ("eval_macro_f1", "macro F1"),
    ("eval_mcc", "Matthews correlation"),
)

Document = Mapping[str, Any]
Line = tuple[list[float], list[float]]


def render_training(document: Document, curve: str) -> bytes:
    """Return a model's page from its metrics.json and training_curve.csv, in UTF-8.

    Raises InputError for documents that are not what finetune writes.
    """
    with as_input_error("the model's metrics.json or training_curve.csv", "batchsent finetune"):
        rows = list(csv.DictReader(io.StringIO(curve)))
        return page("training.html", {"d": document, **_content(document, rows)})


def _content(document: Document, curve: list[dict[str, str]]) -> dict[str, Any]:
    metrics, data, training = document["metrics"], document["data"], document["training"]
    base = document["base_model"]
    name = base.get("name") or "a model from scratch"
    sections = [
        ("Training rows", {key: value for key, value in data["train"].items() if key != "labels"}),
        ("Evaluation rows", {key: value for key, value in data["eval"].items() if key != "labels"}),
        ("Base model", base),
        ("Hyper-parameters", document["hyperparameters"]),
        ("Training", training),
        ("Versions", document["versions"]),
    ]
    return {
        "title": f"Fine-tuned from {cut(name)}",
        "subtitle": moment(str(document["created"])),
        "verdict": _verdict(document),
        "tiles": [
            ("accuracy", f"{metrics['accuracy']:.1%}", f"on {count(data['eval']['rows'])} rows"),
            ("macro F1", number(metrics["macro_f1"]), ""),
            ("loss", number(metrics["loss"]), "on the evaluation rows"),
            (
                "training rows",
                count(data["train"]["rows"]),
                _epochs(document["hyperparameters"]["epochs"]),
            ),
            ("training took", elapsed(training["runtime_s"]), cut(training["device"])),
        ],
        # What a training is stopped by is measured on rows of their own.
        "charts": _charts(
            curve, "held-out" if document["hyperparameters"].get("early_stopping") else "evaluation"
        ),
        "labels": [
            {
                **own,
                "label": label,
                "support": int(own["support"]),
                "train": (data["train"].get("labels") or {}).get(label),
                "bar": charts.bar(own["f1"]),
            }
            for label, own in metrics["per_class"].items()
        ],
        "facts": [facts(title, section) for title, section in sections if section],
    }


def _verdict(document: Document) -> str:
    metrics, data = document["metrics"], document["data"]
    said = (
        f"{metrics['accuracy']:.1%} of {data['eval']['rows']:,} evaluation rows got the right label"
    )
    if metrics.get("majority_baseline") is not None:
        said += f"; always answering the commonest one would get {metrics['majority_baseline']:.1%}"
    return f"{said}."


def _epochs(number: float) -> str:
    return f"{number:g} epoch{'' if number == 1 else 's'}"


def _charts(curve: list[dict[str, str]], rows: str) -> list[dict[str, Any]]:
    losses = [
        (name, _line(curve, column)) for column, name in (("loss", "training"), ("eval_loss", rows))
    ]
    measured = [(name, _line(curve, column)) for column, name in MEASURED]
    rates = [("learning rate", _line(curve, "learning_rate"))]
    found = []
    for title, named in (
        ("Loss", losses),
        (f"Figures on the {rows} rows", measured),
        ("Learning rate", rates),
    ):
        drawn = [(name, line) for name, line in named if line[0]]
        # Where everything was measured once, at the end, there is no course to draw: the tiles have
        # the figures.
        if all(len(line[0]) < 2 for _, line in drawn):
            continue
        keys = [
            charts.legend_line(i) if len(line[0]) > 1 else charts.legend_dot()
            for i, (_, line) in enumerate(drawn)
        ]
        legend = list(zip(keys, (name for name, _ in drawn), strict=True)) if len(drawn) > 1 else []
        svg = charts.trend([line for _, line in drawn], title=title, x_title="step")
        found.append({"name": title, "svg": svg, "legend": legend})
    return found


def _line(curve: list[dict[str, str]], column: str) -> Line:
    """Return steps and values of a column, thinned out evenly where there are very many."""
    points = [(float(row["step"]), float(row[column])) for row in curve if row.get(column)]
    thinned = points[:: -(-len(points) // MOST_POINTS) or 1]
    if points and thinned[-1] != points[-1]:
        thinned.append(points[-1])
    return [x for x, _ in thinned], [y for _, y in thinned]
