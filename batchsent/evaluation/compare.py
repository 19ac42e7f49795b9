"""What changed between two runs, by their summaries alone.

Every change of a share stands beside its noise: how far two samples of these sizes from one and the
same source would differ by chance, 95 times of 100. A change within it says nothing.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.evaluation import gates
from batchsent.evaluation.quality import Z
from batchsent.evaluation.summary import as_input_error

# Cells of the drift figures hold at least this share of the first run: PSI is usually taken over
# deciles.
CELL_SHARE = 0.1
# What is commonly called no, some and much drift (Siddiqi 2006).
SOME_DRIFT, MUCH_DRIFT = 0.1, 0.25

# Figures of which more is better, where they stand in an evaluation, and of which less is.
BETTER = {**gates.FLOORS}
WORSE = {"brier": ("brier",), "calibration_error": ("calibration_error",)}

# What a person calls a figure, where its name does not say it.
WORDS = {
    "p50 characters": "median length in characters",
    "p95 characters": "95% have at most, in characters",
    "mcc": "Matthews correlation",
    "macro f1": "macro F1",
    "roc auc": "ROC AUC",
    "brier": "Brier score",
}

Figure = dict[str, Any]


def compare(
    a: Mapping[str, Any], b: Mapping[str, Any], *, ignored: Collection[str] = ()
) -> dict[str, Any]:
    """Compare two summaries, the first being what the second is measured against.

    Returns figures (name, a, b, change, noise), labels by share, drift (PSI and KS of scores and of
    text lengths), gates (every figure a condition may name, None where it is not known) and
    differences of model, options (but those `ignored`), versions and device. Raises InputError for
    a summary whose figures are not what they should be.
    """
    with as_input_error("one of the summaries"):
        labels = _labels(a, b)
        figures = [*_rates(a, b), *_metrics(a, b)]
        drift = _drift(a, b)
        result = {
            "schema": "batchsent.comparison/1",
            "a": _about(a),
            "b": _about(b),
            "figures": figures,
            "labels": labels,
            "drift": drift,
            "gates": _gates(a, b, figures, labels, drift),
            "differences": _differences(a, b, ignored),
        }
        return {**result, "verdict": _verdict(result)}


def check(comparison: Mapping[str, Any], expressions: Sequence[str]) -> list[dict[str, Any]]:
    """Return the conditions that hold for a comparison, such as ``psi>0.2``.

    Raises UsageError for what is no condition or names no figure of `comparison["gates"]`.
    """
    return gates.failures(comparison["gates"], expressions)


def psi(a: NDArray[Any], b: NDArray[Any]) -> tuple[float | None, float | None]:
    """Return the population stability index of two counts over the same cells, and its noise.

    Neighbouring cells are joined until each holds CELL_SHARE of `a`. Half a row is added to every
    cell, so that an empty one does not make the index infinite. Without drift the index is
    distributed like chi-square with cells - 1 degrees of freedom times (1/rows of a + 1/rows of b)
    (Yurdakul 2018).
    """
    rows_a, rows_b = float(a.sum()), float(b.sum())
    if not rows_a or not rows_b:
        return None, None
    cells, filled = np.zeros(len(a), dtype=np.int64), 0.0
    for i in range(1, len(a)):
        filled += float(a[i - 1])
        full = filled >= CELL_SHARE * rows_a and float(a[i:].sum()) >= CELL_SHARE * rows_a
        cells[i] = cells[i - 1] + full
        filled = 0.0 if full else filled
    k = int(cells[-1]) + 1
    p = (np.bincount(cells, weights=a) + 0.5) / (rows_a + 0.5 * k)
    q = (np.bincount(cells, weights=b) + 0.5) / (rows_b + 0.5 * k)
    index = float(((q - p) * np.log(q / p)).sum())
    # 95 % quantile of chi-square by Wilson and Hilferty's cube, to 1 % from one degree of freedom
    # up.
    free = max(k - 1, 1)
    noise = (
        free
        * (1 - 2 / (9 * free) + 1.6449 * math.sqrt(2 / (9 * free))) ** 3
        * (1 / rows_a + 1 / rows_b)
    )
    return index, noise


def ks_distance(a: NDArray[Any], b: NDArray[Any]) -> tuple[float | None, float | None]:
    """Return the Kolmogorov-Smirnov distance of two histograms, and its 95 % noise."""
    rows_a, rows_b = float(a.sum()), float(b.sum())
    if not rows_a or not rows_b:
        return None, None
    gap = np.abs(np.cumsum(a) / rows_a - np.cumsum(b) / rows_b).max()
    return float(gap), 1.358 * math.sqrt(1 / rows_a + 1 / rows_b)


def _about(document: Mapping[str, Any]) -> dict[str, Any]:
    outputs = document["outputs"]
    return {
        "status": document["status"],
        "input": document["input"].get("path"),
        "output": outputs[0].get("path") if outputs else None,
        "ended": document["run"].get("ended"),
        "rows": document["rows"]["read"],
    }


def _figure(name: str, a: float | None, b: float | None, noise: float | None = None) -> Figure:
    return {
        "name": name,
        "a": a,
        "b": b,
        "change": None if a is None or b is None else b - a,
        "noise": noise,
    }


def _share(name: str, hits_a: int, rows_a: int, hits_b: int, rows_b: int) -> Figure:
    """Return a share with the noise of the difference of two proportions of one source."""
    if not rows_a or not rows_b:
        return _figure(
            name, hits_a / rows_a if rows_a else None, hits_b / rows_b if rows_b else None
        )
    pooled = (hits_a + hits_b) / (rows_a + rows_b)
    noise = Z * math.sqrt(pooled * (1 - pooled) * (1 / rows_a + 1 / rows_b))
    return _figure(name, hits_a / rows_a, hits_b / rows_b, noise)


def _rates(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Figure]:
    rows_a, rows_b = a["rows"], b["rows"]
    figures = [_figure("rows", rows_a["read"], rows_b["read"])]
    figures += [
        _share(f"{name}_share", rows_a[name], rows_a["read"], rows_b[name], rows_b["read"])
        for name in ("blank", "rejected", "nonfinite")
    ]
    text_a, text_b = a["text"], b["text"]
    figures.append(
        _share(
            "truncated_share",
            text_a["truncated_rows"],
            text_a["tokens"]["count"],
            text_b["truncated_rows"],
            text_b["tokens"]["count"],
        )
    )
    said_a, said_b = a["predictions"], b["predictions"]
    figures.append(_figure("mean_score", said_a["mean_score"], said_b["mean_score"]))
    # Older summaries, and those of models without a temperature, have no such figure.
    expected = [said.get(gates.EXPECTED) for said in (said_a, said_b)]
    if None not in expected:
        figures.append(_figure(gates.EXPECTED, *expected))
    # Shares below two different thresholds are two different figures.
    if said_a["unsure_below"] is not None and said_a["unsure_below"] == said_b["unsure_below"]:
        figures.append(
            _share(
                "unsure_share",
                said_a["unsure"],
                rows_a["scored"],
                said_b["unsure"],
                rows_b["scored"],
            )
        )
    figures += [
        _figure(
            f"{quantile}_characters", text_a["characters"][quantile], text_b["characters"][quantile]
        )
        for quantile in ("p50", "p95")
    ]
    return figures


def _metrics(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Figure]:
    """Return the figures of the evaluations, where both have one."""
    first, second = a["evaluation"], b["evaluation"]
    if first is None or second is None:
        return []
    figures = []
    for name, path in {**BETTER, **WORSE}.items():
        before, after = first, second
        for key in path:
            before, after = before[key], after[key]
        figures.append(_figure(name, before, after))
    rows_a, rows_b = first["rows"], second["rows"]
    if rows_a and rows_b:
        hits_a, hits_b = round(first["accuracy"] * rows_a), round(second["accuracy"] * rows_b)
        figures[0] = _share("accuracy", hits_a, rows_a, hits_b, rows_b)
    return figures


def _labels(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Figure]:
    """Return the share of each label, in the order of the first run.

    A label that one of the runs lacks has 0 rows there.
    """
    counts_a, counts_b = (
        {entry["label"]: entry["count"] for entry in d["predictions"]["labels"]} for d in (a, b)
    )
    return [
        _share(
            label,
            counts_a.get(label, 0),
            a["rows"]["scored"],
            counts_b.get(label, 0),
            b["rows"]["scored"],
        )
        for label in dict.fromkeys([*counts_a, *counts_b])
    ]


def _drift(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, float | None]:
    scores_a, scores_b = _score_cells(a, b)
    lengths_a, lengths_b = (
        np.array(d["text"]["characters"]["histogram"]["counts"]) for d in (a, b)
    )
    found: dict[str, float | None] = {}
    for name, cells_a, cells_b in (("", scores_a, scores_b), ("length_", lengths_a, lengths_b)):
        found[f"{name}psi"], found[f"{name}psi_noise"] = psi(cells_a, cells_b)
        found[f"{name}ks"], found[f"{name}ks_noise"] = ks_distance(cells_a, cells_b)
    return found


def _score_cells(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return both runs' rows by label and score, over the same cells in the same order.

    Of two labels the first comes with falling, the second with rising scores: that is the order of
    the second one's probability, and the KS distance is that of this probability.
    """
    named: list[str] = []
    for document in (a, b):
        named += [entry["label"] for entry in document["predictions"]["labels"]]
    labels = list(dict.fromkeys(named))
    cells = []
    for document in (a, b):
        bins = len(document["predictions"]["score_histogram"]["counts"])
        by_label = {entry["label"]: entry for entry in document["predictions"]["labels"]}
        parts = []
        for number, label in enumerate(labels):
            entry = by_label.get(label, {"count": 0})
            # Models of very many labels keep no histogram a label: the counts alone are compared.
            counts = np.array(entry.get("score_counts") or [*[0] * (bins - 1), entry["count"]])
            parts.append(counts[::-1] if number == 0 else counts)
        cells.append(np.concatenate(parts) if parts else np.zeros(1, dtype=np.int64))
    return cells[0], cells[1]


def _gates(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    figures: list[Figure],
    labels: list[Figure],
    drift: Mapping[str, float | None],
) -> dict[str, float | None]:
    """Return every figure that a condition may name."""
    changes = {figure["name"]: figure["change"] for figure in figures}
    read_a, read_b = a["rows"]["read"], b["rows"]["read"]
    moved = [abs(label["change"]) for label in labels if label["change"] is not None]
    values: dict[str, float | None] = {
        name: drift[name] for name in ("psi", "ks", "length_psi", "length_ks")
    }
    values["label_share_change"] = max(moved) if moved else None
    values["rows_drop"] = 1 - read_b / read_a if read_a else None
    for name in ("blank", "rejected", "nonfinite", "truncated", "unsure"):
        values[f"{name}_share_rise"] = changes.get(f"{name}_share")
    mean = changes.get("mean_score")
    values["mean_score_change"] = None if mean is None else abs(mean)
    for name in (*BETTER, gates.EXPECTED):
        change = changes.get(name)
        values[f"{name}_drop"] = None if change is None else 0 - change  # not -0.0
    for name in WORSE:
        values[f"{name}_rise"] = changes.get(name)
    return values


def _differences(
    a: Mapping[str, Any], b: Mapping[str, Any], ignored: Collection[str]
) -> list[dict[str, Any]]:
    """Return what differs in model, options, versions and device: section, name and both values."""
    found = []
    for section, before, after in (
        ("model", a["model"], b["model"]),
        ("options", a["run"].get("options") or {}, b["run"].get("options") or {}),
        ("package", a["package"], b["package"]),
        ("device", {"name": a["device"].get("name")}, {"name": b["device"].get("name")}),
    ):
        for name in dict.fromkeys([*before, *after]):
            one, other = before.get(name), after.get(name)
            if one != other and not (section == "options" and name in ignored):
                found.append({"section": section, "name": name, "a": one, "b": other})
    return found


def _verdict(result: Mapping[str, Any]) -> str:
    """Say in one sentence what a person should take away."""
    drift, parts = result["drift"], []
    for name, what in (("psi", "scores"), ("length_psi", "text lengths")):
        index, noise = drift[name], drift[f"{name}_noise"]
        if index is None:
            parts.append(f"the {what} cannot be compared")
        elif index <= max(noise, SOME_DRIFT):
            parts.append(f"the {what} are alike")
        else:
            parts.append(f"the {what} {'differ much' if index > MUCH_DRIFT else 'differ somewhat'}")
    accuracy = next((figure for figure in result["figures"] if figure["name"] == "accuracy"), None)
    if accuracy is not None and accuracy["change"] is not None:
        if abs(accuracy["change"]) <= accuracy["noise"]:
            parts.append("accuracy changed no more than chance would")
        else:
            way = "rose" if accuracy["change"] > 0 else "fell"
            parts.append(f"accuracy {way} by {abs(accuracy['change']):.3f}")
    return "; ".join(parts)
