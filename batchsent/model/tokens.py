"""Texts to token ids, packed without padding; knows nothing of models or batches.

The ids are those of the model's own tokenizer called with truncation=True, with two differences:
text in a review that looks like a special token ([SEP], </s>) is plain text, and another part of a
long text can be asked for.
"""

import json
import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batchsent.errors import BatchsentError, ModelError, UsageError
from batchsent.model.long_text import LONG_CHARS, BertTruncation, choose_truncation
from batchsent.model.wordcache import WordCache
from batchsent.text import first_line, printable, without_surrogates

# What is read of a text that is longer than the model reads.
LONG_TEXT = ("head", "tail", "head-tail", "window")
# The share of the head in head-tail: 128 of 512 tokens, as in Sun et al., "How to Fine-Tune BERT
# for Text Classification?" (2019), section 5.3.1.
HEAD_SHARE = 0.25
# A rune, an alchemist's sign, a Cyrillic letter of one manuscript: a vocabulary lacks them, and
# needs a token for that.
RARE = "\u16a0 \U0001f732 \ua66e"


@dataclass(frozen=True)
class Tokens:
    """Token ids of several texts in one array, each text as one piece or several windows."""

    ids: NDArray[np.int32]  # (total,) special tokens included
    offsets: NDArray[np.int64]  # (pieces + 1,) piece i has ids[offsets[i]:offsets[i + 1]]
    # (texts,) tokens of a text that stand in none of its pieces
    truncated_tokens: NDArray[np.int32]
    # (texts,) tokens read of a text, each once, and a frame of special tokens
    n_tokens: NDArray[np.int32]
    text_of: NDArray[np.int64]  # (pieces,) number of the text, rising

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(pieces,) tokens of each piece."""
        return np.diff(self.offsets)

    def take(self, pieces: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the ids of some pieces, one behind the other in the order asked for."""
        return np.concatenate(
            [self.ids[self.offsets[piece] : self.offsets[piece + 1]] for piece in pieces]
        )


class TextEncoder(Protocol):
    """Anything that turns texts into Tokens."""

    path: str  # how it does it, for the summary
    long_text: str  # one of LONG_TEXT

    def encode(self, texts: list[str]) -> Tokens:
        """Return the tokens of each text."""


def make_text_encoder(tokenizer: Any, max_length: int, long_text: str | None = None) -> TextEncoder:
    """Return the fastest encoder that gives exactly the ids of a transformers tokenizer.

    `long_text` is one of LONG_TEXT; without it a text is cut on the side where the tokenizer itself
    cuts. Raises UsageError for a name that is none of them, and for a `max_length` that is too
    short for it, ModelError for a tokenizer that does not work.
    """
    if long_text is None:
        long_text = "tail" if tokenizer.truncation_side == "left" else "head"
    fast = getattr(tokenizer, "is_fast", False)
    try:
        encoder = (FastEncoder if fast else SlowEncoder)(tokenizer, max_length, long_text)
        encoder.encode([RARE])
    except BatchsentError:
        raise
    # The tokenizers library raises plain exceptions.
    except Exception as error:
        raise ModelError(
            f"the model's tokenizer does not work: {first_line(error)}",
            hint="save the tokenizer into the folder again",
        ) from error
    check_long_text(long_text, encoder.content_tokens)
    return encoder


def check_long_text(long_text: str, room: int) -> None:
    """Refuse a way to read long texts that is none, or needs more tokens than there are.

    `content_tokens` is how many tokens of the text itself are read. Raises UsageError.
    """
    if long_text not in LONG_TEXT:
        raise UsageError(
            f"--long-text {printable(long_text)} is not a way to read a long text",
            hint=f"choose one of {', '.join(LONG_TEXT)}",
        )
    # A head of less than one token would leave the tail alone.
    least = math.ceil(1 / HEAD_SHARE) if long_text == "head-tail" else 1
    if room < least:
        raise UsageError(
            f"--long-text {long_text} requires {least} tokens of a text or more; --max-length "
            f"leaves {max(0, room)}",
            hint="give a larger --max-length; special tokens count too",
        )


class FastEncoder:
    """A tokenizer of the tokenizers library, behind a word cache where that is exact.

    Of a text longer than long_text.LONG_CHARS only as much is tokenized as provably gives the same
    ids; its `truncated_tokens` is then a lower bound.
    """

    def __init__(self, tokenizer: Any, max_length: int, long_text: str) -> None:
        from tokenizers import Tokenizer

        # A copy of our own: the one inside `tokenizer` is truncated and padded as its other callers
        # like.
        self.backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.backend.no_truncation()
        self.backend.no_padding()
        self.backend.encode_special_tokens = True
        self.special_tokens = find_special_tokens(self.backend)
        self.long_text = long_text
        # tokens of the text itself
        self.content_tokens = max_length - sum(map(len, self.special_tokens))
        self.truncation = choose_truncation(self.backend)
        # The rule for long texts and the cache rest on the same facts about BERT's pre-tokenizer.
        lowercase = json.loads(self.backend.to_str())["normalizer"] or {}
        self.cache = (
            WordCache(self.backend, lowercase=bool(lowercase.get("lowercase")))
            if isinstance(self.truncation, BertTruncation)
            else None
        )
        self.path = "word cache" if self.cache else "tokenizers library, in parallel"

    def encode(self, texts: list[str]) -> Tokens:
        """Return the tokens of each text."""
        can_cut = self.truncation is not None and self.long_text == "head"
        if isinstance(self.truncation, BertTruncation):
            can_cut = self.long_text != "window"
        if can_cut and any(len(text) > LONG_CHARS for text in texts):
            return self._encode_with_long(texts)
        return pack(
            *self._contents(texts), self.special_tokens, self.content_tokens, self.long_text
        )

    def _contents(self, texts: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the texts' own ids, one behind the other, and how many each has."""
        if self.cache is not None:
            return self.cache.contents([as_utf8(text) for text in texts])
        encodings = self.backend.encode_batch_fast(
            [without_surrogates(t) for t in texts], add_special_tokens=False
        )
        rows = [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]
        counts = np.array([len(row) for row in rows], dtype=np.int64)
        return np.concatenate(rows) if rows else np.empty(0, dtype=np.int32), counts

    def _encode_with_long(self, texts: list[str]) -> Tokens:
        ids, counts = self._contents([text if len(text) <= LONG_CHARS else "" for text in texts])
        rows = np.split(ids, np.cumsum(counts)[:-1])
        for row, text in enumerate(texts):
            if len(text) > LONG_CHARS:
                rows[row] = self._ends(without_surrogates(text))
        counts = np.array([len(row) for row in rows], dtype=np.int64)
        return pack(
            np.concatenate(rows), counts, self.special_tokens, self.content_tokens, self.long_text
        )

    def _ends(self, text: str) -> NDArray[np.int32]:
        """Return ids of a long text that begin and end as all of its ids do.

        They are all of its ids, or more than are kept: `pack` takes as many of either end as it
        needs.
        """
        beginning, whole = self._beginning(text)
        if whole or self.long_text == "head":
            return beginning
        assert isinstance(self.truncation, BertTruncation)
        for suffix, is_whole in self.truncation.endings(text):
            ending, _ = self._contents([suffix])
            if is_whole:
                return ending
            if len(ending) >= self.content_tokens:
                break
        kept = self.content_tokens
        return np.concatenate([beginning[:kept], ending[-kept:]])

    def _beginning(self, text: str) -> tuple[NDArray[np.int32], bool]:
        """Return the first ids of a long text, more than are kept, and whether they are all."""
        assert self.truncation is not None
        for texts, whole in self.truncation.candidates(text, self.content_tokens):
            ids, counts = self._contents(texts)
            rows = np.split(ids, np.cumsum(counts)[:-1])
            if whole:
                return ids, True
            shortest = min(rows, key=len)
            same = all(
                np.array_equal(row[: self.content_tokens], shortest[: self.content_tokens])
                for row in rows
            )
            if same and len(shortest) > self.content_tokens:
                return shortest, False
        raise AssertionError("the last candidate is the whole text")


def pack(
    ids: NDArray[np.int32],
    counts: NDArray[np.int64],
    special_tokens: "SpecialTokens",
    content_tokens: int,
    long_text: str,
) -> Tokens:
    """Cut each text's ids to the length, or into windows, and add special tokens.

    `ids` are the texts' own, one behind the other, `counts` (texts,) how many each has.
    """
    texts = np.arange(len(counts))
    if long_text == "window" and counts.size and counts.max() > content_tokens:
        source, kept, text_of = windows(counts, content_tokens)
        ids = ids[source]
    else:
        kept, text_of = np.minimum(counts, content_tokens), texts
        if len(ids) > kept.sum():
            ends = np.cumsum(counts)
            place = np.arange(len(ids)) - np.repeat(ends - counts, counts)
            from_end = np.repeat(counts, counts) - 1 - place
            head = {
                "head": content_tokens,
                "tail": 0,
                "head-tail": int(content_tokens * HEAD_SHARE),
            }[long_text]
            # A text that fits is whole either way: what is no head lies within the tail.
            ids = ids[(place < head) | (from_end < content_tokens - head)]
    before, after = special_tokens
    offsets = np.zeros(len(kept) + 1, dtype=np.int64)
    np.cumsum(kept + len(before) + len(after), out=offsets[1:])
    packed = np.empty(int(offsets[-1]), dtype=np.int32)
    own = np.ones(len(packed), dtype=bool)
    for first, special in ((offsets[:-1], before), (offsets[1:] - len(after), after)):
        for place_in, token in enumerate(special):
            packed[first + place_in] = token
            own[first + place_in] = False
    packed[own] = ids
    read = counts if long_text == "window" else kept
    framed = read + len(before) + len(after)
    return Tokens(
        packed, offsets, (counts - read).astype(np.int32), framed.astype(np.int32), text_of
    )


def windows(
    counts: NDArray[np.int64], content_tokens: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cut texts into the fewest windows that overlap by a quarter or more.

    The windows of a text are of one length and evenly spread from its first token to its last.
    Returns the places of the windows' ids among the texts' ids, how many each window has, and each
    window's text.
    """
    step = max(1, content_tokens - content_tokens // 4)
    # 1 + ceil((counts - content_tokens) / step)
    number = 1 + np.maximum(0, -((content_tokens - counts) // step))
    text_of = np.repeat(np.arange(len(counts)), number)
    length = np.minimum(counts, content_tokens)[text_of]
    rank = np.arange(len(text_of)) - np.repeat(np.cumsum(number) - number, number)
    slack = (counts - np.minimum(counts, content_tokens))[text_of]
    start = (np.cumsum(counts) - counts)[text_of] + slack * rank // np.maximum(1, number - 1)[
        text_of
    ]
    ends = np.cumsum(length)
    source = np.repeat(start - (ends - length), length) + np.arange(int(ends[-1]))
    return source, length, text_of


def as_utf8(text: str) -> bytes:
    """Return a text as UTF-8, whatever is in it."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return without_surrogates(text).encode()


class SlowEncoder:
    """A tokenizer written in Python, for models that have no other."""

    path = "Python tokenizer"

    def __init__(self, tokenizer: Any, max_length: int, long_text: str) -> None:
        self.tokenizer = tokenizer
        self.long_text = long_text
        self.special_tokens = find_slow_special_tokens(tokenizer)
        self.content_tokens = max_length - sum(map(len, self.special_tokens))

    def encode(self, texts: list[str]) -> Tokens:
        """Return the tokens of each text."""
        rows = [
            self.tokenizer(
                without_surrogates(text), add_special_tokens=False, split_special_tokens=True
            )["input_ids"]
            for text in texts
        ]
        counts = np.array([len(row) for row in rows], dtype=np.int64)
        ids = np.concatenate([np.empty(0), *rows]).astype(np.int32)
        return pack(ids, counts, self.special_tokens, self.content_tokens, self.long_text)


# Special tokens before a text, and behind it.
SpecialTokens = tuple[NDArray[np.int32], NDArray[np.int32]]


def find_slow_special_tokens(tokenizer: Any) -> SpecialTokens:
    """Return the special tokens that a slow tokenizer puts before and after a text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = tokenizer("a")["input_ids"]
    for start in range(len(framed) - len(plain) + 1):
        if framed[start : start + len(plain)] == plain:
            return np.array(framed[:start], np.int32), np.array(
                framed[start + len(plain) :], np.int32
            )
    raise unknown_special_tokens()


def find_special_tokens(backend: Any) -> SpecialTokens:
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
    raise unknown_special_tokens()


def unknown_special_tokens() -> ModelError:
    """Return the error for special tokens that do not stand around the text."""
    return ModelError(
        "the special tokens of the model's tokenizer do not stand before and after the text",
        hint="choose a model with a BERT, RoBERTa or SentencePiece tokenizer",
    )
