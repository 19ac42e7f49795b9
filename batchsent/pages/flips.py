"""The page of two scored files of the same rows: which labels changed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batchsent.pages import charts
from batchsent.pages.template import MOST_SHOWN_LABELS, cut, fact, page

MOST_DIRECTIONS = 30

Document = Mapping[str, Any]


def render_flips(
    document: Document, conditions: Sequence[str] = (), failures: Sequence[Document] = ()
) -> bytes:
    """Return the page of what `batchsent.compare` found of two scored files, in UTF-8.

    `conditions` are those of --fail-on, `failures` those of them that hold.
    """
    verdict = document["verdict"]
    names = [_name(document[side]) for side in ("old", "new")]
    content = {
        "title": " and ".join(names),
        "contents": _contents(document),
        "subtitle": "Labels of the same rows: the first file is the old one, the second is new",
        "verdict": f"{verdict[:1].upper()}{verdict[1:]}.",
        "tiles": _tiles(document),
        "conditions": conditions,
        "failures": failures,
        "files": [
            {"name": side.capitalize(), "entries": _about(document[side])}
            for side in ("old", "new")
        ],
        "labels": _labels(document),
        "hidden_labels": max(len(document["labels"]) - MOST_SHOWN_LABELS, 0),
        "directions": [
            {**entry, "share": _percent(entry["share"])}
            for entry in document["directions"][:MOST_DIRECTIONS]
        ],
        "bands": [_flipped(band) for band in document["bands"] if band["rows"]],
        "groups": _groups(document),
        "gold": document["gold"],
    }
    return page("flips.html", content)


def _name(facts: Document) -> str:
    return cut(Path(facts["path"]).name)


def _about(facts: Document) -> list[tuple[str, str]]:
    return [(name, fact(facts[name])) for name in ("path", "format", "bytes")]


def _tiles(document: Document) -> list[tuple[str, str, str]]:
    rows, gold = document["rows"], document["gold"]
    tiles = []
    if document["flips"] is not None:
        note = f"{rows['flipped']:,} of {rows['compared']:,} rows"
        tiles.append(("labels changed", f"{document['flips']:.2%}", note))
        tiles.append(("of them sure before", f"{rows['sure_flipped']:,}", "score of 0.9 or more"))
    change = document["score_change"]
    if change["mean"] is not None:
        of = "of all rows" if change["all_rows"] else "of rows that keep their label"
        note = (
            f"half of them {change['p50']:.4f} or less, 95 % {change['p95']:.4f}, 99 % "
            f"{change['p99']:.4f}, largest {change['max']:.4f}, {of}"
        )
        tiles.append(("mean change of scores", f"{change['mean']:.4f}", note))
    if rows["label_lost"] or rows["label_gained"]:
        note = f"{rows['label_gained']:,} got one"
        tiles.append(("rows that lost their label", f"{rows['label_lost']:,}", note))
    if gold is not None and gold["rows"]:
        change = gold["accuracy_new"] - gold["accuracy_old"]
        test = gold["mcnemar"]
        note = (
            f"{gold['accuracy_old']:.2%} to {gold['accuracy_new']:.2%}; McNemar p = {test['p']:.3g}"
        )
        tiles.append(("accuracy", f"{100 * change:+.2f} points", note))
    return tiles


def _labels(document: Document) -> list[dict[str, Any]]:
    ranked = sorted(document["labels"], key=lambda label: -abs(label["change"]))
    return [
        {
            **label,
            "moved": abs(label["change"]) > label["noise"],
            "change": f"{100 * label['change']:+.2f} pts",
            "noise": f"{100 * label['noise']:.2f} pts",
            "bar_a": charts.bar(label["a"], "soft"),
            "bar_b": charts.bar(label["b"]),
        }
        for label in ranked[:MOST_SHOWN_LABELS]
    ]


def _contents(document: Document) -> dict[str, str]:
    """Return the sections of the page: anchor and title of each."""
    groups, gold = document["groups"], document["gold"]
    found = {
        "shares": "Shares of the labels",
        "directions": "Which labels changed",
        "scores": "By the old score",
    }
    if groups is not None:
        found["groups"] = f"By {cut(groups['column'])}"
    if gold is not None and gold["rows"]:
        found["gold"] = "Against the gold labels"
    return {**found, "files": "The two files"}


def _groups(document: Document) -> dict[str, Any] | None:
    groups = document["groups"]
    if groups is None:
        return None
    shown = [
        {**_flipped(group), "group": "(empty)" if group["group"] is None else group["group"]}
        for group in groups["shown"]
    ]
    return {**groups, "shown": shown}


def _flipped(entry: Document) -> dict[str, Any]:
    """Return rows of one kind with the share of them that changed, as words and as a bar."""
    return {**entry, "share": _percent(entry["flips"]), "bar": charts.bar(entry["flips"])}


def _percent(share: float) -> str:
    """Return a share with two decimals: what changes is often a few rows of a thousand."""
    return f"{share:.2%}"
