"""Token ids of texts in one array: cut to a length or into windows, with special tokens."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# What is read of a text that is longer than the model reads.
LONG_TEXT = ("head", "tail", "head-tail", "window")
# The share of the head in head-tail: 128 of 512 tokens, as in Sun et al., "How to Fine-Tune BERT
# for Text Classification?" (2019), section 5.3.1.
HEAD_SHARE = 0.25
# Special tokens before a text, and after it.
SpecialTokens = tuple[NDArray[np.int32], NDArray[np.int32]]


@dataclass(frozen=True)
class Tokens:
    """Token ids of several texts in one array, each text as one piece or several windows."""

    ids: NDArray[np.int32]  # (total,) special tokens included
    offsets: NDArray[np.int64]  # (pieces + 1,) piece i has ids[offsets[i]:offsets[i + 1]]
    truncated_tokens: NDArray[np.int32]  # (texts,) tokens of a text that are in no piece
    # (texts,) tokens of a text that are in its pieces, each once, and the special tokens of one
    n_tokens: NDArray[np.int32]
    text_of: NDArray[np.int64]  # (pieces,) number of the text, rising
    # (texts,) pieces that continue a word or stand for an unknown one, where the tokenizer tells
    odd_pieces: NDArray[np.int32] | None = None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(pieces,) tokens of each piece."""
        return np.diff(self.offsets)

    def take(self, pieces: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the ids of these pieces in one array, in the order of `pieces`."""
        begins, ends = self.offsets[pieces].tolist(), self.offsets[pieces + 1].tolist()
        return np.concatenate(
            [self.ids[begin:end] for begin, end in zip(begins, ends, strict=True)]
        )


def join(rows: list[NDArray[np.int32]]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the ids of several texts in one array, and how many each text has."""
    counts = np.array([len(row) for row in rows], dtype=np.int64)
    return np.concatenate([np.empty(0, dtype=np.int32), *rows]), counts


def join_tokens(parts: list[Tokens]) -> Tokens:
    """Return the tokens of several lists of texts as those of one list."""
    # Lists of texts with 2 and 1 pieces, of 3, 4 and 2 ids:
    #     offsets    0 3 7    0 2    ->    0 3 7 9
    #     text_of    0 1      0      ->    0 1 2
    ids_before = np.cumsum([0, *(len(part.ids) for part in parts)])
    texts_before = np.cumsum([0, *(len(part.n_tokens) for part in parts)])
    ends = [part.offsets[1:] + first for part, first in zip(parts, ids_before, strict=False)]
    text_of = [part.text_of + first for part, first in zip(parts, texts_before, strict=False)]
    odd = [part.odd_pieces for part in parts if part.odd_pieces is not None]
    return Tokens(
        ids=np.concatenate([part.ids for part in parts]),
        offsets=np.concatenate([np.zeros(1, np.int64), *ends]),
        truncated_tokens=np.concatenate([part.truncated_tokens for part in parts]),
        n_tokens=np.concatenate([part.n_tokens for part in parts]),
        text_of=np.concatenate(text_of),
        odd_pieces=np.concatenate(odd) if odd else None,
    )


def pack(
    ids: NDArray[np.int32],
    counts: NDArray[np.int64],
    special_tokens: SpecialTokens,
    content_tokens: int,
    long_text: str,
) -> Tokens:
    """Cut each text's ids to the length, or into windows, and add special tokens.

    `ids` are the texts' own in one array, `counts` (texts,) how many each text has.
    """
    in_windows = long_text == "window" and counts.size and counts.max() > content_tokens
    if in_windows:
        source, kept, text_of = windows(counts, content_tokens)
        ids = ids[source]
        read = counts
    else:
        ids = cut(ids, counts, content_tokens, long_text)
        kept, text_of = np.minimum(counts, content_tokens), np.arange(len(counts))
        read = kept
    special = len(special_tokens[0]) + len(special_tokens[1])
    offsets = np.zeros(len(kept) + 1, dtype=np.int64)
    np.cumsum(kept + special, out=offsets[1:])
    return Tokens(
        ids=add_special_tokens(ids, offsets, special_tokens),
        offsets=offsets,
        truncated_tokens=(counts - read).astype(np.int32),
        n_tokens=(read + special).astype(np.int32),
        text_of=text_of,
    )


def cut(
    ids: NDArray[np.int32], counts: NDArray[np.int64], content_tokens: int, long_text: str
) -> NDArray[np.int32]:
    """Return the ids that are kept of texts of `counts` ids each, `content_tokens` at most."""
    if not counts.size or counts.max() <= content_tokens:
        return ids
    head = 0
    if long_text == "head":
        head = content_tokens
    elif long_text == "head-tail":
        head = int(content_tokens * HEAD_SHARE)
    # Texts of 2, 6 and 1 ids, of which 4 are kept, 1 of the head and 3 of the tail:
    #     ids       a b  c d e f g h  i
    #     long           1                  number of the text that is cut
    #     ends           8                  ids up to its end
    #     kept      a b  c     f g h  i     so ids 3:5 are lost, and 0:3 and 5:9 are kept
    long = np.flatnonzero(counts > content_tokens)
    ends = np.cumsum(counts)[long]
    lost_from = (ends - counts[long] + head).tolist()
    lost_until = (ends - (content_tokens - head)).tolist()
    kept = zip([0, *lost_until], [*lost_from, len(ids)], strict=True)
    return np.concatenate([ids[first:until] for first, until in kept])


def add_special_tokens(
    ids: NDArray[np.int32], offsets: NDArray[np.int64], special_tokens: SpecialTokens
) -> NDArray[np.int32]:
    """Return the pieces with special tokens; piece i is then at offsets[i]:offsets[i + 1]."""
    before, after = special_tokens
    packed = np.empty(int(offsets[-1]), dtype=np.int32)
    # Two pieces of 2 and 1 ids, with one special token before and one after each:
    #     offsets    0 4 7
    #     packed     [CLS] a b [SEP] [CLS] c [SEP]
    #     is_id          0 1 1     0     0 1     0
    is_id = np.ones(len(packed), dtype=bool)
    for first, tokens in ((offsets[:-1], before), (offsets[1:] - len(after), after)):
        for place, token in enumerate(tokens):
            packed[first + place] = token
            is_id[first + place] = False
    packed[is_id] = ids
    return packed


def windows(
    counts: NDArray[np.int64], content_tokens: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cut texts into the fewest windows that overlap by a quarter or more.

    The windows of a text have the same length and are evenly spaced from its first token to its
    last. Returns the places of the windows' ids among the texts' ids, how many ids each window has,
    and each window's text.
    """
    # Texts of 9 and 3 ids, windows of 4, which overlap by 1 id or more:
    #     number    3 1                  windows of each text, 1 + ceil((9 - 4) / 3) and 1
    #     text_of   0 0 0 1
    #     rank      0 1 2 0              number of a window within its text
    #     length    4 4 4 3
    #     excess    5 5 5 0              ids of the text beyond one window
    #     start     0 2 5 9              first id: excess * rank / (number - 1), and 9 for text 1
    #     source    0 1 2 3, 2 3 4 5, 5 6 7 8, 9 10 11
    step = max(1, content_tokens - content_tokens // 4)
    number = 1 + np.maximum(0, -((content_tokens - counts) // step))
    text_of = np.repeat(np.arange(len(counts)), number)
    rank = np.arange(len(text_of)) - np.repeat(np.cumsum(number) - number, number)
    length = np.minimum(counts, content_tokens)[text_of]
    excess = counts[text_of] - length
    start = (np.cumsum(counts) - counts)[text_of]
    start += excess * rank // np.maximum(1, number - 1)[text_of]
    ends = np.cumsum(length)
    source = np.repeat(start - (ends - length), length) + np.arange(int(ends[-1]))
    return source, length, text_of
