"""Which texts share a forward pass, by their lengths.

A plan depends on the lengths and the budget alone. So a chunk that is finished after an
interruption has the same batches, and the same bytes, as one without.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

# What limits a batch: texts of one length only; the tokens with padding; the tokens themselves; in
# packs of one size these and the texts.
Shape = Literal["equal", "padded", "packed", "constant"]
# CUDA's kernels count the texts of a batch in 16 bits.
MOST_TEXTS = 32_768
# A pack of one size has room for a text for each so many of its tokens. The rows of the last layer
# that no text needs cost 1 % of the pack; more texts than that have 14 words at most.
TOKENS_OF_A_TEXT = 16


def most_texts(budget_tokens: int, shape: Shape) -> int:
    """Return how many texts a batch may have."""
    if shape == "constant":
        return min(MOST_TEXTS, max(1, budget_tokens // TOKENS_OF_A_TEXT))
    return MOST_TEXTS


def plan_batches(
    lengths: NDArray[np.int64], budget_tokens: int, shape: Shape
) -> list[NDArray[np.int64]]:
    """Return row numbers, batch by batch, longest texts first.

    The cost of a batch is its number of tokens, for "padded" its number of rows times its longest
    text. It is within `budget_tokens`, unless the batch is a single text. No batch has more than
    `most_texts`.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    most = most_texts(budget_tokens, shape)
    sorted_lengths = lengths[order]
    while start < len(order):
        longest = int(sorted_lengths[start])
        end = start + max(1, budget_tokens // max(1, longest))
        if shape == "equal":
            # In descending order: the first place with a shorter text.
            same = int(np.searchsorted(-sorted_lengths, -longest, side="right"))
            end = min(end, same)
        elif shape != "padded":
            # Shorter texts leave room for more rows than the longest one says.
            running = np.cumsum(sorted_lengths[start : start + budget_tokens])
            end = start + max(1, int(np.searchsorted(running, budget_tokens, side="right")))
        end = min(end, start + most)
        batches.append(order[start:end])
        start = end
    return batches


def halve(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Split a batch of two rows or more into two."""
    middle = len(rows) // 2
    return [rows[:middle], rows[middle:]]
