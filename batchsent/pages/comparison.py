"""The page of two runs side by side: what moved, and whether by more than chance."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from batchsent.evaluation.compare import MUCH_DRIFT, SOME_DRIFT, WORDS, check, compare
from batchsent.evaluation.gates import as_list
from batchsent.evaluation.summary import as_input_error
from batchsent.pages import axes, charts
from batchsent.pages.template import MOST_SHOWN_LABELS, count, cut, fact, facts, number, page

MOST_SCORE_CHARTS = 6
MOST_DIFFERENCES = 200

# The sections of the page: id -> heading.
CONTENTS = {
    "figures": "What moved",
    "labels": "Labels and scores",
    "lengths": "Length of the texts",
    "differences": "What else differs",
}

Document = Mapping[str, Any]


def render_comparison(
    a: Document, b: Document, conditions: Sequence[str] = (), *, ignored: Collection[str] = ()
) -> bytes:
    """Return the page of two summaries, the second measured against the first, in UTF-8.

    `conditions` are those of --fail-on; those that hold are on the page. Differences of the options
    `ignored` are not shown. Raises InputError for a summary whose figures are not what they should
    be, UsageError for what is no condition.
    """
    with as_input_error("one of the summaries"):
        comparison = compare(a, b, ignored=ignored)
        content = _content(a, b, comparison)
    failures = check(comparison, conditions)
    return page(
        "compare.html", {**content, "failures": failures, "conditions": list(as_list(conditions))}
    )


def _content(a: Document, b: Document, comparison: Document) -> dict[str, Any]:
    ranked = sorted(comparison["labels"], key=lambda label: -abs(label["change"] or 0))
    shown = [label for label in comparison["labels"] if label in ranked[:MOST_SHOWN_LABELS]]
    said, names = comparison["verdict"], (_name(a), _name(b))
    return {
        "title": f"Two runs of {names[0]}" if names[0] == names[1] else " and ".join(names),
        "verdict": f"{said[:1].upper()}{said[1:]}.",
        "tiles": _tiles(comparison),
        "subtitle": "A is what B is measured against",
        "contents": CONTENTS,
        "runs": [facts(name, comparison[key]) for name, key in (("A", "a"), ("B", "b"))],
        **_figures(comparison["figures"]),
        "labels": [_label(label) for label in shown],
        "hidden_labels": len(ranked) - len(shown),
        "score_charts": _score_charts(a, b),
        "length_charts": _length_charts(a, b),
        "differences": [
            {**entry, "a": fact(entry["a"]), "b": fact(entry["b"])}
            for entry in comparison["differences"][:MOST_DIFFERENCES]
        ],
    }


def _name(document: Document) -> str:
    path = document["input"].get("path")
    if not path:
        return "a run"
    if path in {"-", "stdin"}:
        return "standard input"
    return cut(Path(path).name)


def _tiles(comparison: Document) -> list[tuple[str, str, str]]:
    tiles = []
    for name, what in (("psi", "scores"), ("length_psi", "text lengths")):
        index, noise = comparison["drift"][name], comparison["drift"][f"{name}_noise"]
        if index is not None:
            word = "some"
            if index <= max(noise, SOME_DRIFT):
                word = "none"
            elif index > MUCH_DRIFT:
                word = "much"
            tiles.append(
                (f"drift of {what}", word, f"PSI {index:.3f}, by chance up to {noise:.3f}")
            )
    for name, what in (("ks", "scores"), ("length_ks", "text lengths")):
        gap, noise = comparison["drift"][name], comparison["drift"][f"{name}_noise"]
        if gap is not None:
            tiles.append(
                (f"largest gap of {what}", f"{gap:.1%}", f"KS, by chance up to {noise:.1%}")
            )
    for figure in comparison["figures"]:
        if figure["name"] == "accuracy" and figure["change"] is not None:
            note = f"{figure['a']:.1%} to {figure['b']:.1%}, by chance ±{figure['noise']:.1%}"
            tiles.append(("accuracy", f"{100 * figure['change']:+.1f} points", note))
    return tiles


def _figures(figures: Sequence[Document]) -> dict[str, Any]:
    """Return the figures, and the names of those shares that are zero in both runs."""
    shown, zero = [], []
    for figure in figures:
        drawn = _figure(figure)
        if figure["name"].endswith("_share") and figure["a"] == figure["b"] == 0:
            zero.append(drawn["name"])
        else:
            shown.append(drawn)
    return {"figures": shown, "zero": zero}


def _label(label: Document) -> dict[str, Any]:
    return {
        **label,
        **_moved(label),
        "noise": f"{100 * label['noise']:.1f} pts" if label["noise"] else None,
        "bar_a": charts.bar(label["a"], "soft"),
        "bar_b": charts.bar(label["b"]),
    }


def _figure(figure: Document) -> dict[str, Any]:
    share = figure["name"].endswith("_share")
    name = figure["name"].removesuffix("_share").replace("_", " ")
    return {
        "name": f"{name} rows" if share else WORDS.get(name, name),
        **{side: _number(figure[side], share=share) for side in ("a", "b")},
        "noise": _number(figure["noise"], share=share) if figure["noise"] else None,
        **_moved(figure, share=share),
    }


def _moved(figure: Document, *, share: bool = True) -> dict[str, Any]:
    """Return how a change is written and whether it is beyond chance (None: unknown)."""
    change, noise = figure["change"], figure["noise"]
    if change is None:
        return {"change": "-", "moved": False}
    if share:
        said = f"{100 * change:+.1f} pts"
    elif isinstance(change, int):
        said = f"{change:+,d}"
    else:
        said = f"{change:+.3f}"
    return {"change": said if change else "0", "moved": noise is not None and abs(change) > noise}


def _number(value: float | None, *, share: bool) -> str:
    if value is None:
        return "-"
    if share:
        return f"{value:.2%}"
    return count(value) if isinstance(value, int) else number(value)


def _score_charts(a: Document, b: Document) -> list[dict[str, Any]]:
    """Return a chart of the scores of each shared label, or of all where there are many."""
    found: list[tuple[str, str | None, list[int], list[int]]] = []
    in_a, in_b = _counts_by_label(a), _counts_by_label(b)
    shared = [label for label in in_a if label in in_b]
    if 0 < len(shared) <= MOST_SCORE_CHARTS:
        found = [("Scores of", label, in_a[label], in_b[label]) for label in shared]
    else:
        every = [d["predictions"]["score_histogram"]["counts"] for d in (a, b)]
        found = [("All scores", None, *every)]
    edges = a["predictions"]["score_histogram"]["edges"]
    made = []
    for name, label, before, after in found:
        used = [i for i, pair in enumerate(zip(before, after, strict=True)) if any(pair)]
        if not used:
            continue
        # A winner of two labels has 0.5 or more: an empty left half says nothing.
        first = min(used[0], len(before) // 2)
        start = edges[first]
        ticks = axes.round_ticks(start, 1)
        svg = charts.outlines(
            _shares(before)[first:],
            _shares(after)[first:],
            ticks,
            title="Scores of both runs",
            x_title="score",
            bins=axes.bin_words(edges[first:]),
        )
        caption = f"{sum(before):,} rows of A, {sum(after):,} of B"
        made.append(
            {"name": name, "label": label, "svg": svg, "legend": _legend(), "caption": caption}
        )
    return made


def _counts_by_label(document: Document) -> dict[str, list[int]]:
    """Return the score histogram of each label that has one."""
    labels = document["predictions"]["labels"]
    return {label["label"]: label["score_counts"] for label in labels if label.get("score_counts")}


def _length_charts(a: Document, b: Document) -> list[dict[str, Any]]:
    made = []
    for unit in ("characters", "tokens"):
        lengths = [d["text"][unit] for d in (a, b)]
        before, after = (entry["histogram"]["counts"] for entry in lengths)
        used = [i for i, pair in enumerate(zip(before, after, strict=True)) if any(pair)]
        if not used:
            continue
        edges = lengths[0]["histogram"]["edges"]
        first, last = max(used[0] - 1, 0), min(used[-1] + 2, len(edges) - 1)
        svg = charts.outlines(
            _shares(before)[first:last],
            _shares(after)[first:last],
            axes.log_ticks(edges[first : last + 1]),
            title=f"Lengths in {unit} of both runs",
            x_title=f"{unit} (log scale)",
            bins=[
                f"{words} {unit}" for words in axes.bin_words(edges[first : last + 1], whole=True)
            ],
        )
        in_a, in_b = (count(entry["p50"]) for entry in lengths)
        caption = f"Median: {in_a} in A, {in_b} in B"
        made.append({"name": f"In {unit}", "svg": svg, "legend": _legend(), "caption": caption})
    return made


def _legend() -> list[tuple[Markup, str]]:
    return [(charts.legend_area(), "A"), (charts.legend_line(0), "B")]


def _shares(counts: Sequence[int]) -> list[float]:
    rows = sum(counts) or 1
    return [rows_in / rows for rows_in in counts]
