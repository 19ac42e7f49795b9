"""Which texts share a forward pass, by their lengths.

A plan depends on the lengths and the budget alone. So a chunk that is finished after an
interruption has the same batches, and the same bytes, as one without.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

# What limits a batch: texts of one length only; the tokens with padding; the tokens themselves.
Shape = Literal["equal", "padded", "packed"]
# CUDA's kernels count the texts of a batch in 16 bits.
MOST_TEXTS = 32_768


def plan_batches(
    lengths: NDArray[np.int64], budget_tokens: int, shape: Shape
) -> list[NDArray[np.int64]]:
    """Return row numbers, batch by batch, longest texts first.

    The cost of a batch is its number of tokens, for "padded" its number of rows times its longest
    text. It is within `budget_tokens`, unless the batch is a single text. No batch has more than
    MOST_TEXTS texts.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    sorted_lengths = lengths[order]
    while start < len(order):
        longest = int(sorted_lengths[start])
        end = start + max(1, budget_tokens // max(1, longest))
        if shape == "equal":
            # In descending order: the first place with a shorter text.
            same = int(np.searchsorted(-sorted_lengths, -longest, side="right"))
            end = min(end, same)
        elif shape == "packed":
            # Shorter texts leave room for more rows than the longest one says.
            running = np.cumsum(sorted_lengths[start : start + budget_tokens])
            end = start + max(1, int(np.searchsorted(running, budget_tokens, side="right")))
        end = min(end, start + MOST_TEXTS)
        batches.append(order[start:end])
        start = end
    return batches


def halve(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Split a batch of two rows or more into two."""
    middle = len(rows) // 2
    return [rows[:middle], rows[middle:]]
