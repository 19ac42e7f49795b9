"""Pieces of a WordPiece vocabulary that stand for what it does not know as words."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.model.packing import Tokens


def odd_pieces(tokenizer: Any) -> NDArray[np.bool_] | None:
    """Return (vocabulary,) whether a piece continues a word or stands for an unknown one.

    None for a tokenizer that is not WordPiece: byte-level and SentencePiece vocabularies mark the
    beginnings of words otherwise, and know no unknown text.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    model = json.loads(backend.to_str())["model"]
    if model.get("type") != "WordPiece":
        return None
    prefix, unknown = model["continuing_subword_prefix"], model["unk_token"]
    vocabulary: dict[str, int] = model["vocab"]
    found = np.zeros(max(vocabulary.values(), default=-1) + 1, dtype=bool)
    for piece, number in vocabulary.items():
        found[number] = piece == unknown or (piece.startswith(prefix) and piece != prefix)
    return found


def count_odd(tokens: Tokens, odd: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return (texts,) how many pieces of each text are odd; of windows that overlap, of all."""
    sums = np.zeros(len(tokens.ids) + 1, dtype=np.int64)
    # Tokens that were added to the tokenizer have ids beyond its vocabulary.
    np.cumsum(odd[np.minimum(tokens.ids, len(odd) - 1)], out=sums[1:])
    each = np.diff(sums[tokens.offsets])
    texts = len(tokens.n_tokens)
    found: NDArray[np.int32] = np.bincount(tokens.text_of, each, texts).astype(np.int32)
    return found
