"""How a model did on held-out rows: held_out.json of its folder, read and checked.

`finetune` counts the evaluation rows that the model and its base models have not learned from
(training/held_out.py). A run holds the scores of a dump against these counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.evaluation import summary
from batchsent.evaluation.score_cells import BINS, EDGES
from batchsent.model.calibration import HIGHEST, LOWEST
from batchsent.model.files import read_own_json

FILE = "held_out.json"
SCHEMA = "batchsent.held_out/1"
ABOUT = (
    "Counts of labelled rows that neither this model nor its base models learned from. Each entry "
    "of calibrated and raw counts the rows of one label that the model gave one label (predicted), "
    "by the probability of that label between edges; confusion has a row for each label, a column "
    "for each predicted one."
)
# The histograms of more labels take megabytes, and hardly any label has enough rows.
MOST_LABELS = 100
# Larger counts are no rows that somebody has labelled; their sums stay exact.
MOST_ROWS = 2**40


@dataclass(frozen=True)
class HeldOut:
    """How a model did on held-out rows: counts by right label, label given and its probability."""

    labels: tuple[str, ...]
    temperature: float  # what the calibrated probabilities were made with
    # (labels, predicted, BINS) rows by their calibrated probability, between the edges of EDGES
    calibrated: NDArray[np.int64]
    raw: NDArray[np.int64]  # (labels, predicted, BINS) the same of the softmax as it is
    weights_sha256: str | None = None  # of the weights it belongs to, where known
    # share of odd pieces above which a text is unfamiliar (evaluation/familiarity.py), where known
    odd_pieces_above: float | None = None

    @property
    def rows(self) -> int:
        """Number of held-out rows."""
        return int(self.raw.sum())

    @property
    def confusion(self) -> NDArray[np.int64]:
        """(labels, predicted) rows."""
        found: NDArray[np.int64] = self.raw.sum(axis=2)
        return found

    def at_least(self, score: float, *, calibrated: bool = False) -> tuple[int, int]:
        """Return how many rows have this score or a higher one, and how many of them are right.

        A `score` within a bin counts from the bin's upper edge.
        """
        counts = self.calibrated if calibrated else self.raw
        first = int(np.searchsorted(EDGES[:-1], score - 1e-9))
        kept = counts[:, :, first:].sum(axis=2)
        return int(kept.sum()), int(np.trace(kept))


def dumps(found: HeldOut) -> bytes:
    """Return the content of a model folder's held_out.json."""
    document = {
        "schema": SCHEMA,
        "about": ABOUT,
        "weights_sha256": found.weights_sha256,
        "labels": list(found.labels),
        "rows": found.rows,
        "scores": {
            "temperature": found.temperature,
            "edges": EDGES.tolist(),
            "confusion": found.confusion.tolist(),
            "calibrated": _entries(found.labels, found.calibrated),
            "raw": _entries(found.labels, found.raw),
        },
    }
    if found.odd_pieces_above is not None:
        document["pieces"] = {"odd_pieces_above": found.odd_pieces_above}
    return summary.dumps(document)


def read(folder: Path, *, weights_sha256: str | None = None) -> HeldOut | None:
    """Read the held-out counts of a model folder; None where it has none.

    Raises ModelError for a file that is damaged, or belongs to other weights than `weights_sha256`.
    """
    hint = "make the model again with batchsent finetune, or remove the file"
    return read_own_json(folder / FILE, SCHEMA, hint, _parse, weights_sha256)


def _parse(document: Mapping[str, Any]) -> HeldOut:
    """Return what a document says. Raises a built-in error for one that contradicts itself."""
    labels, scores = tuple(document["labels"]), document["scores"]
    if not all(isinstance(label, str) for label in labels) or len(set(labels)) != len(labels):
        raise ValueError("its labels are not different names")
    if not 2 <= len(labels) <= MOST_LABELS:
        raise ValueError(f"it has {len(labels)} labels")
    temperature = scores["temperature"]
    if isinstance(temperature, bool) or not LOWEST <= temperature <= HIGHEST:
        raise ValueError(f"a temperature of {temperature!r}")
    if scores["edges"] != EDGES.tolist():
        raise ValueError("its edges are not those of this version")
    limit = document.get("pieces", {}).get("odd_pieces_above")
    if limit is not None and (isinstance(limit, bool) or not 0 <= limit <= 1):
        raise ValueError(f"odd_pieces_above is {limit!r}")
    found = HeldOut(
        labels,
        float(temperature),
        _counts(labels, scores["calibrated"]),
        _counts(labels, scores["raw"]),
        document["weights_sha256"],
        limit,
    )
    if found.rows != document["rows"] or found.confusion.tolist() != scores["confusion"]:
        raise ValueError("its counts do not sum to its rows")
    if (found.calibrated.sum(axis=(1, 2)) != found.raw.sum(axis=(1, 2))).any():
        raise ValueError("calibrated and raw are not about the same rows")
    return found


def _entries(labels: Sequence[str], counts: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Return the counts (labels, predicted, BINS) of each pair of labels that has rows."""
    entries = []
    for i, j in np.argwhere(counts.any(axis=2)).tolist():
        entries.append(
            {"label": labels[i], "predicted": labels[j], "counts": counts[i, j].tolist()}
        )
    return entries


def _counts(labels: Sequence[str], entries: Sequence[Mapping[str, Any]]) -> NDArray[np.int64]:
    """Return what `_entries` wrote as an array again."""
    number = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels), BINS), dtype=np.int64)
    for entry in entries:
        given = entry["counts"]
        is_counts = all(type(rows) is int and 0 <= rows < MOST_ROWS for rows in given)
        if len(given) != BINS or not is_counts:
            raise ValueError(f"it has no {BINS} counts of a pair of labels")
        counts[number[entry["label"]], number[entry["predicted"]]] += np.array(given)
    return counts
