"""The part of a run's page that shows rows of the input: the only one that holds texts."""

from collections.abc import Mapping
from typing import Any

from batchsent.evaluation.examples import TEXT_CHARACTERS, ShownExamples
from batchsent.pages.template import cut

KINDS = {
    "wrong": ("Most wrong", "Gold says otherwise, and the model finds that least probable."),
    "unsure": ("Least sure", "The lowest scores."),
    "positive": ("Most positive", "Labelled positive, with the highest probability of it."),
    "negative": ("Most negative", "Labelled negative, with the highest probability of it."),
    "mixed": ("Mixed", "Both a clearly positive and a clearly negative sentence."),
}


def examples_content(document: Mapping[str, Any], examples: ShownExamples | None) -> dict[str, Any]:
    """Return what the page shows of examples, and a note where they were left out.

    The summary holds no texts: a page that is drawn from it later has none.
    """
    asked = (document["run"].get("options") or {}).get("report_examples")
    if examples is None:
        note = ""
        if asked:
            note = (
                "The page that the run wrote had examples. The summary holds no texts, so that "
                "a page drawn from it has none: score the input again to see them."
            )
        return {"examples": [], "examples_note": note}
    kinds = [
        {"title": title, "meaning": meaning, "rows": examples.kinds[kind]}
        for kind, (title, meaning) in KINDS.items()
        if kind in examples.kinds
    ]
    return {
        "examples": kinds,
        "examples_note": "",
        "examples_columns": [cut(name) for name in examples.columns],
        "examples_gold": document["evaluation"] is not None,
        "examples_characters": TEXT_CHARACTERS,
    }
