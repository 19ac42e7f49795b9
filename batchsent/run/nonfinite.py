"""What is said of texts for which the model gives no finite number."""

from batchsent.errors import ModelError


def describe_nonfinite(nonfinite: int, scored: int, what: str) -> str | None:
    """Say that some of `what` have no score, or None where all have one.

    Raises ModelError where none has.
    """
    if nonfinite and not scored:
        raise ModelError(
            f"the model gives no finite number for any of {nonfinite:,} {what} (NaN or infinity)",
            hint="its weights are damaged or its training diverged: use another copy",
        )
    if not nonfinite:
        return None
    of_all = f"{nonfinite:,} of {nonfinite + scored:,} {what}"
    return f"the model gives no finite number for {of_all}: they have no label"
