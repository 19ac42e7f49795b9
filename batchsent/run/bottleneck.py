"""What bounds the speed of a run: the model, or what feeds it."""

from collections.abc import Mapping

# The stages of a run whose time grows with the input, and what the summary calls the slowest one.
STAGES = {
    "read": "reading the input",
    "tokenize": "the tokenizer",
    "score": "the model",
    "write": "writing the output",
}
# A device that is busy for this share of the time bounds the run: more would take perfect feeding.
BUSY = 0.9


def bottleneck(seconds: Mapping[str, float], device_busy_share: float | None) -> str:
    """Name what bounds a run, by the busy `seconds` of its stages and the share of its device.

    The scoring stage is busy while it waits for the device. So where the device waits, and that
    stage is the slowest all the same, what it does between batches on the processor bounds the run.
    """
    if device_busy_share is not None and device_busy_share >= BUSY:
        return STAGES["score"]
    slowest = max(STAGES, key=lambda stage: seconds.get(stage, 0.0))
    if device_busy_share is None:
        return STAGES[slowest]
    name = STAGES[slowest] if slowest != "score" else "the processor's work between batches"
    return f"{name} (the device waits {1 - device_busy_share:.0%} of the time)"
