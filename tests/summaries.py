"""Summary documents of complete runs over made-up rows."""

from batchsent.evaluation import summary
from batchsent.versions import SCORING, versions
from tests.scored_rows import TWO

HOSTILE = "[red]\x1b]52;c;aGk=\x07\u202e\r\n:smile: $\\frac{<b>"

# What the run itself adds, in the shape in which it does.
RUN = {
    "run": {"elapsed_s": 192.4, "resumed_rows": 1_000, "options": {"text_column": "review"}},
    "package": versions(SCORING),
    "input": {"path": "reviews.csv", "format": "csv", "bytes": 10, "sha256": "0" * 64},
    "outputs": [{"path": "scored.csv", "bytes": 20, "sha256": "1" * 64, "rows": 3_000}],
    "model": {
        "source": "models/mini",
        "revision": None,
        "labels": list(TWO),
        "max_length": 512,
        "precision": "float32",
    },
    "device": {"name": "cpu"},
    "performance": {"rows_per_s": 17.03, "tokens_per_s": 4_000.0, "padding_share": 0.0},
}


def document(sections, **changes):
    """Return the summary of a complete run over these sections."""
    return summary.build(
        **{"status": "complete", "exit_code": 0, **RUN, "tally_sections": sections} | changes
    )


def summary_of(rows, *, gold=True, unsure_below=None, **changes):
    """Return the summary of a complete run over these rows."""
    return document(rows.tally(gold=gold, unsure_below=unsure_below).sections(), **changes)
