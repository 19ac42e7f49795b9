"""What a run says of its accuracy and its shares without gold labels, as lines on a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from batchsent.text import printable

# Corrected shares of more labels are in the summary and on the page.
MOST_LABELS = 6
NAME_CHARACTERS = 40


def lines(predictions: Mapping[str, Any], warned: str) -> list[tuple[str, Text]]:
    """Return name and value of each line; `warned` is the style of a failed drift check."""
    found: list[tuple[str, Text]] = []
    expected = predictions.get("expected_accuracy")
    corrected = predictions.get("corrected")
    if expected is not None:
        found.append(("expected", Text(f"accuracy {expected:.3f}, if the calibrated scores hold")))
    if corrected is None:
        return found
    labels = corrected["labels"]
    if labels and len(labels) <= MOST_LABELS:
        # Of two labels the second says both.
        shown = labels[1:] if len(labels) == 2 else labels
        shares = ", ".join(_share(entry) for entry in shown)
        words = f"{shares}, by the errors on {corrected['held_out_rows']:,} held-out rows"
        found.append(("corrected", Text(words)))
    if corrected["drift"] is not None and corrected["why_not"] is not None:
        said = f"no share is corrected: {printable(corrected['why_not'])}"
        found.append(("corrected", Text(said, style=warned)))
        if corrected["hint"]:
            found.append(("", Text(printable(corrected["hint"]), style="dim")))
    return found


def _share(entry: Mapping[str, Any]) -> str:
    """Return a corrected share with its interval, such as `POSITIVE 48.5% (46.2 to 50.8)`."""
    low, high = entry["interval"]
    name = printable(entry["label"])[:NAME_CHARACTERS]
    return f"{name} {entry['share']:.1%} ({100 * low:.1f} to {100 * high:.1f})"
