"""The page of a fine-tuned model: its metrics.json and its training curve, shown."""

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

from batchsent.evaluation.summary import as_input_error
from batchsent.pages import charts
from batchsent.pages.report_evaluation import confusion_matrix
from batchsent.pages.template import count, cut, facts, moment, number, page
from batchsent.text import elapsed, shortened

# Lines of a chart have this many points at most: a screen has no more to show.
MOST_POINTS = 400
# Of the text of a mistake.
MISTAKE_CHARACTERS = 300

MEASURED = (
    ("eval_accuracy", "accuracy"),
    ("eval_macro_f1", "macro F1"),
    ("eval_mcc", "Matthews correlation"),
)

# What the page and the card say of a training that changed no weight.
KEPT_BASE = (
    "What was learned from {rows:,} rows was not clearly better than the base model on the rows "
    "held out: these are the base model's weights, and it gives the base model's scores."
)

Document = Mapping[str, Any]
Line = tuple[list[float], list[float]]


def render_training(
    document: Document, curve: str, texts: Mapping[int, str] | None = None
) -> bytes:
    """Return a model's page from its metrics.json and training_curve.csv, in UTF-8.

    `texts` are those of the evaluation rows by their numbers, for the mistakes on the page.

    Raises InputError for documents that are not what finetune writes.
    """
    with as_input_error("the model's metrics.json or training_curve.csv", "batchsent finetune"):
        rows = list(csv.DictReader(io.StringIO(curve)))
        return page("training.html", {"d": document, **_content(document, rows, texts or {})})


def _content(
    document: Document, curve: list[dict[str, str]], texts: Mapping[int, str]
) -> dict[str, Any]:
    metrics, data, training = document["metrics"], document["data"], document["training"]
    base = document["base_model"]
    name = base.get("name") or "a model from scratch"
    sections = [
        ("Training rows", {key: value for key, value in data["train"].items() if key != "labels"}),
        ("Evaluation rows", {key: value for key, value in data["eval"].items() if key != "labels"}),
        ("Base model", base),
        ("Pre-training", document.get("pretraining")),
        ("Hyper-parameters", document["hyperparameters"]),
        ("Training", training),
        ("Versions", document["versions"]),
    ]
    return {
        "title": f"Fine-tuned from {cut(name)}",
        "subtitle": moment(str(document["created"])),
        "verdict": _verdict(document),
        "notes": _notes(document),
        "evaluation": document.get("evaluation"),
        "comparison": _comparison(document),
        "pretraining": _pretraining(document),
        "matrix": _matrix(document),
        "mistakes": _mistakes(document, texts),
        "source": cut(data["eval"].get("name") or "their source"),
        "tiles": [
            ("accuracy", f"{metrics['accuracy']:.1%}", _accuracy_note(document)),
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
        "labels": _labels(document),
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


def _accuracy_note(document: Document) -> str:
    rows = f"on {count(document['data']['eval']['rows'])} rows"
    evaluation = document.get("evaluation")
    if evaluation is None:
        return rows
    low, high = evaluation["accuracy_interval"]
    rows = f"{rows}, 95%: {low:.1%} to {high:.1%}"
    seen = document["seen"]["rows"]
    return f"{rows}; {seen:,} rows seen by the base model" if seen else rows


def _labels(document: Document) -> list[dict[str, Any]]:
    trained = document["data"]["train"].get("labels") or {}
    intervals = {}
    for label in (document.get("evaluation") or {}).get("labels", []):
        intervals[label["label"]] = {
            name: label[name] for name in ("precision_interval", "recall_interval")
        }
    none = {"precision_interval": None, "recall_interval": None}
    return [
        {
            **own,
            **intervals.get(label, none),
            "label": label,
            "support": int(own["support"]),
            "train": trained.get(label),
            "bar": charts.bar(own["f1"]),
        }
        for label, own in document["metrics"]["per_class"].items()
    ]


def _notes(document: Document) -> list[str]:
    """Say what a reader should know first of the weights and of the figures."""
    kept = []
    if document["training"].get("kept_base"):
        kept = [KEPT_BASE.format(rows=document["data"]["train"]["rows"])]
    return [*kept, *_about_seen(document)]


def _about_seen(document: Document) -> list[str]:
    """Say how far the figures on all rows can be believed, where the base has seen some of them."""
    seen, rows = document.get("seen"), document["data"]["eval"]["rows"]
    if seen is None or not seen["rows"]:
        return []
    said = (
        f"{seen['rows']:,} of the {rows:,} evaluation rows are among the texts that the base model "
        "has learned: figures on all rows are too good."
    )
    others = seen["evaluation_of_others"]
    if others is None:
        return [f"{said} There are no other rows to measure on."]
    low, high = others["accuracy_interval"]
    return [
        f"{said} On the other {others['rows']:,} the accuracy is {others['accuracy']:.1%} "
        f"(95%: {low:.1%} to {high:.1%})."
    ]


def _comparison(document: Document) -> dict[str, Any] | None:
    """Return the base model's figures beside the model's, or the words that there are none."""
    found = document.get("comparison")
    if found is None:
        return None
    if found["why_not"] is not None:
        return {"words": f"There is no comparison: {cut(found['why_not'])}."}
    base, tuned = found["base"], found["tuned"]
    rows = [("accuracy", base["accuracy"], tuned["accuracy"])]
    for name, words in (("precision", "precision"), ("recall", "recall"), ("f1", "F1")):
        rows.append((f"macro {words}", base["macro"][name], tuned["macro"][name]))
    title = "the same rows"
    if document["seen"]["rows"]:
        title = f"the {found['rows']:,} rows that the base model has not seen"
    low, high = found["difference_interval"]
    words = (
        f"The accuracy differs by {100 * found['difference']:+.1f} points "
        f"(95%: {100 * low:+.1f} to {100 * high:+.1f}) on {title}."
    )
    return {"title": title, "rows": rows, "words": words}


def _pretraining(document: Document) -> str | None:
    """Return what the pre-training gave in words; None where there was none."""
    found = document.get("pretraining")
    if found is None:
        return None
    kept = (
        "; the base model's weights were kept in the end"
        if document["training"]["kept_base"]
        else ""
    )
    return (
        f"Before the labels it learned masked tokens of {found['rows']:,} unlabelled rows: the "
        f"loss on {found['held_out']:,} rows held out went from {found['loss_before']:.4f} to "
        f"{found['loss_after']:.4f} (perplexity {found['perplexity_before']:,.1f} to "
        f"{found['perplexity_after']:,.1f}){kept}."
    )


def _matrix(document: Document) -> dict[str, Any] | None:
    evaluation = document.get("evaluation")
    return None if evaluation is None else confusion_matrix(evaluation)


def _mistakes(document: Document, texts: Mapping[int, str]) -> list[dict[str, Any]]:
    found = []
    for mistake in document.get("mistakes") or []:
        text = shortened(texts.get(mistake["row"], ""), MISTAKE_CHARACTERS)
        found.append({**mistake, "text": text})
    return found


def _epochs(number: float) -> str:
    return f"{number:g} epoch{'' if number == 1 else 's'}"


def _charts(curve: list[dict[str, str]], rows: str) -> list[dict[str, Any]]:
    losses = [
        (name, _line(curve, column)) for column, name in (("loss", "training"), ("eval_loss", rows))
    ]
    measured = [(name, _line(curve, column)) for column, name in MEASURED]
    rates, unit = _in_units(_line(curve, "learning_rate"))
    found = []
    for title, named in (
        ("Loss", losses),
        (f"Figures on the {rows} rows", measured),
        (f"Learning rate, in units of {unit:g}", [("learning rate", rates)]),
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


def _in_units(line: Line) -> tuple[Line, float]:
    """Return a line in units of the power of ten below its highest value, and that unit.

    An axis has room for 1.5, not for 1.5e-05.
    """
    steps, values = line
    highest = max(values, default=0.0)
    if highest <= 0:
        return line, 1.0
    exponent = math.floor(math.log10(highest))
    return (steps, [value / 10.0**exponent for value in values]), 10.0**exponent


def _line(curve: list[dict[str, str]], column: str) -> Line:
    """Return steps and values of a column, thinned out evenly where there are very many."""
    points = [(float(row["step"]), float(row[column])) for row in curve if row.get(column)]
    thinned = points[:: -(-len(points) // MOST_POINTS) or 1]
    if points and thinned[-1] != points[-1]:
        thinned.append(points[-1])
    return [x for x, _ in thinned], [y for _, y in thinned]
