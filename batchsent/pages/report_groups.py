"""The part of a run's page that shows groups of rows, one line a group."""

from collections.abc import Mapping, Sequence
from typing import Any

from batchsent.evaluation.gold import accuracy_word
from batchsent.pages import axes, charts

# A share has a column of its own for this many labels; of more, the commonest label is named.
MOST_SHARES = 3

Document = Mapping[str, Any]


def groups_content(document: Document, link: str | None) -> dict[str, Any] | None:
    """Return what the page shows of the groups; None where the summary has none.

    `link` leads to the table with all of them.
    """
    tables = [entry for entry in document["outputs"] if entry.get("role") == "groups"]
    if not tables or not tables[0].get("largest"):
        return None
    table, labels = tables[0], list(document["model"].get("labels") or [])
    entries = table["largest"]
    shown = _labels_shown(labels)
    lows = [entry["accuracy_interval"][0] for entry in entries if entry.get("accuracy_interval")]
    judged = "judged" in entries[0]
    start = axes.share_start(lows)
    evaluation = document["evaluation"]
    return {
        "column": table["column"],
        "count": table["rows"],
        "path": table["path"],
        "link": link,
        "labels": [labels[number] for number in shown],
        "commonest": bool(labels) and not shown and entries[0]["shares"] is not None,
        "judged": judged,
        "corrected": any(entry.get("corrected_shares") for entry in entries),
        "accuracy_word": accuracy_word(evaluation) if evaluation else "accuracy",
        # how many columns of bars share the width
        "width": "two" if len(shown) + judged <= 2 else "many",
        "start": start,
        "unsure": document["predictions"]["unsure_below"] is not None,
        "neutral": "neutral" in entries[0],
        "rows": [_row(entry, labels, shown, start) for entry in entries],
    }


def _labels_shown(labels: Sequence[str]) -> list[int]:
    """Return the numbers of the labels whose shares have a column; of two the second says both."""
    if len(labels) == 2:
        return [1]
    if len(labels) > MOST_SHARES:
        return []
    return list(range(len(labels)))


def _row(
    entry: Document, labels: Sequence[str], shown: Sequence[int], start: float
) -> dict[str, Any]:
    row = {**entry, "name": entry["value"], "shares": [], "commonest": None, "plot": None}
    shares = entry["shares"]
    if shares is not None:
        better = entry.get("corrected_shares") or [None] * len(shares)
        bounds = entry.get("corrected_intervals") or [None] * len(shares)
        for n in shown:
            row["shares"].append(
                (labels[n], shares[n], charts.bar(shares[n]), better[n], bounds[n])
            )
    if shares and entry["scored"]:
        most = max(range(len(labels)), key=lambda n: shares[n])
        row["commonest"] = (labels[most], shares[most], charts.bar(shares[most]))
    if entry.get("accuracy_interval"):
        low, high = entry["accuracy_interval"]
        row["plot"] = charts.whisker(entry["accuracy"], low, high, start)
    return row
