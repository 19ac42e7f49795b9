"""Texts to token ids, packed without padding; knows nothing of models or batches.

The ids are those of the model's own tokenizer called with truncation=True, with one difference: text in a review
that looks like a special token ([SEP], </s>) is plain text.
"""

import json
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batchsent.errors import ModelError
from batchsent.model.prefix import LONG_CHARS, BertPrefixes, choose_prefixes
from batchsent.model.wordcache import WordCache


@dataclass(frozen=True)
class Tokens:
    """Token ids of several texts, one behind the other."""

    ids: NDArray[np.int32]  # (total,) special tokens included
    offsets: NDArray[np.int64]  # (rows + 1,) text i has ids[offsets[i]:offsets[i + 1]]
    tokens_cut: NDArray[np.int32]  # (rows,) tokens beyond the limit, which are not in ids

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(rows,) tokens of each text."""
        return np.diff(self.offsets)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the ids of some texts, one behind the other in the order asked for."""
        return np.concatenate([self.ids[self.offsets[row] : self.offsets[row + 1]] for row in rows])


class TextEncoder(Protocol):
    """Anything that turns texts into Tokens."""

    path: str  # how it does it, for the summary

    def encode(self, texts: list[str]) -> Tokens:
        """Return the tokens of each text."""


def make_text_encoder(tokenizer: Any, max_length: int) -> TextEncoder:
    """Return the fastest encoder that gives exactly the ids of a transformers tokenizer."""
    if not getattr(tokenizer, "is_fast", False):
        return SlowEncoder(tokenizer, max_length)
    return FastEncoder(tokenizer, max_length)


def without_surrogates(text: str) -> str:
    """Return a text that can be written as UTF-8: halves of surrogate pairs are joined, lone ones become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class FastEncoder:
    """A tokenizer of the tokenizers library, behind a word cache where that is exact.

    Of a text longer than prefix.LONG_CHARS only as much is tokenized as provably gives the same ids; its
    `tokens_cut` is then a lower bound.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        from tokenizers import Tokenizer

        # A copy of our own: the one inside `tokenizer` is truncated and padded as its other callers like.
        self.backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.backend.no_truncation()
        self.backend.no_padding()
        self.backend.encode_special_tokens = True
        self.keep_end = tokenizer.truncation_side == "left"
        self.prefix, self.suffix = frame(self.backend)
        self.room = max_length - len(self.prefix) - len(self.suffix)  # tokens of the text itself
        self.prefixes = choose_prefixes(self.backend, keep_end=self.keep_end)
        # The rule for long texts and the cache rest on the same facts about BERT's pre-tokenizer.
        lowercase = json.loads(self.backend.to_str())["normalizer"] or {}
        self.cache = (
            WordCache(self.backend, lowercase=bool(lowercase.get("lowercase")))
            if isinstance(self.prefixes, BertPrefixes)
            else None
        )
        self.path = "word cache" if self.cache else "tokenizers library, in parallel"

    def encode(self, texts: list[str]) -> Tokens:
        """Return the tokens of each text."""
        if self.prefixes is not None and any(len(text) > LONG_CHARS for text in texts):
            return self._encode_with_long(texts)
        return self._pack(*self._contents(texts))

    def _contents(self, texts: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the texts' own ids, one behind the other, and how many each has."""
        if self.cache is not None:
            return self.cache.contents([as_utf8(text) for text in texts])
        encodings = self.backend.encode_batch_fast([without_surrogates(t) for t in texts], add_special_tokens=False)
        rows = [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]
        counts = np.array([len(row) for row in rows], dtype=np.int64)
        return np.concatenate(rows) if rows else np.empty(0, dtype=np.int32), counts

    def _encode_with_long(self, texts: list[str]) -> Tokens:
        ids, counts = self._contents([text if len(text) <= LONG_CHARS else "" for text in texts])
        rows = np.split(ids, np.cumsum(counts)[:-1])
        for row, text in enumerate(texts):
            if len(text) > LONG_CHARS:
                rows[row] = self._beginning(without_surrogates(text))
        return self._pack(np.concatenate(rows), np.array([len(row) for row in rows], dtype=np.int64))

    def _beginning(self, text: str) -> NDArray[np.int32]:
        """Return the first ids of a long text: all, or provably the right ones and more than are kept."""
        assert self.prefixes is not None
        for texts, whole in self.prefixes.candidates(text, self.room):
            ids, counts = self._contents(texts)
            rows = np.split(ids, np.cumsum(counts)[:-1])
            if whole:
                return ids
            shortest = min(rows, key=len)
            same = all(np.array_equal(row[: self.room], shortest[: self.room]) for row in rows)
            if same and len(shortest) > self.room:
                return shortest
        raise AssertionError("the last candidate is the whole text")

    def _pack(self, ids: NDArray[np.int32], counts: NDArray[np.int64]) -> Tokens:
        """Cut each text's own ids to the room there is and put special tokens around them."""
        kept = np.minimum(counts, self.room)
        if len(ids) > kept.sum():
            # Where each token stands in its text, from the end that is kept.
            ends = np.cumsum(counts)
            place = np.arange(len(ids)) - np.repeat(ends - counts, counts)
            if self.keep_end:
                place = np.repeat(counts, counts) - 1 - place
            ids = ids[place < self.room]
        offsets = np.zeros(len(counts) + 1, dtype=np.int64)
        np.cumsum(kept + len(self.prefix) + len(self.suffix), out=offsets[1:])
        packed = np.empty(int(offsets[-1]), dtype=np.int32)
        own = np.ones(len(packed), dtype=bool)
        for first, special in ((offsets[:-1], self.prefix), (offsets[1:] - len(self.suffix), self.suffix)):
            for place_in, token in enumerate(special):
                packed[first + place_in] = token
                own[first + place_in] = False
        packed[own] = ids
        return Tokens(packed, offsets, (counts - kept).astype(np.int32))


def as_utf8(text: str) -> bytes:
    """Return a text as UTF-8, whatever is in it."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return without_surrogates(text).encode()


class SlowEncoder:
    """A tokenizer written in Python, for models that have no other."""

    path = "Python tokenizer"

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length

    def encode(self, texts: list[str]) -> Tokens:
        """Return the tokens of each text."""
        rows, cut = [], []
        for text in texts:
            clean = without_surrogates(text)
            whole = self.tokenizer(clean, split_special_tokens=True)["input_ids"]
            kept = self.tokenizer(clean, truncation=True, max_length=self.max_length, split_special_tokens=True)[
                "input_ids"
            ]
            rows.append(np.array(kept, dtype=np.int32))
            cut.append(len(whole) - len(kept))
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        ids = np.concatenate(rows) if rows else np.empty(0, dtype=np.int32)
        return Tokens(ids, offsets, np.array(cut, dtype=np.int32))


def frame(backend: Any) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the special tokens that a tokenizer puts before and behind every text."""
    plain = backend.encode("a", add_special_tokens=False).ids
    framed = backend.encode("a")
    for start in range(len(framed.ids) - len(plain) + 1):
        inside = framed.ids[start : start + len(plain)] == plain
        if inside and all(framed.special_tokens_mask[:start]) and not any(framed.type_ids):
            return (
                np.array(framed.ids[:start], dtype=np.int32),
                np.array(framed.ids[start + len(plain) :], dtype=np.int32),
            )
    raise ModelError(
        "the model's tokenizer marks texts in a way that batchsent does not know",
        hint="choose a model with a BERT, RoBERTa or SentencePiece tokenizer",
    )
