"""The charts of a run's page: its scores and the lengths of its texts."""

from collections.abc import Mapping
from typing import Any

from batchsent.pages import axes, charts

MOST_SCORE_CHARTS = 6

Document = Mapping[str, Any]


def score_charts(predictions: Document) -> list[dict[str, Any]]:
    """Return a histogram of the scores of each label, or of all where there are many."""
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
    if 0 < len(kept) <= MOST_SCORE_CHARTS:
        found = [("Scores of", label["label"], label["score_counts"]) for label in kept]
    else:
        found = [("All scores", None, histogram["counts"])]
    # one scale for all, so that heights can be compared
    most = max(max(counts) for _, _, counts in found)
    made = []
    for name, label, counts in found:
        svg = charts.histogram(
            counts[first:],
            ticks,
            title="Histogram of scores",
            x_title="score",
            bins=bins,
            most=most,
        )
        caption = f"{sum(counts):,} rows"
        made.append({"name": name, "label": label, "svg": svg, "caption": caption})
    return made


def length_charts(document: Document) -> list[dict[str, Any]]:
    """Return a histogram of the lengths in characters and one in tokens."""
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
