"""Texts to token ids, packed without padding.

The ids are those of the model's own tokenizer called with truncation=True, with two differences:
text in a review that looks like a special token ([SEP], </s>) is plain text, and of a long text
another part than the first may be read.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batchsent.errors import BatchsentError, ModelError, UsageError
from batchsent.model.long_text import LONG_CHARS, BertTruncation, choose_truncation
from batchsent.model.odd_pieces import count_odd, odd_pieces
from batchsent.model.packing import HEAD_SHARE, LONG_TEXT, SpecialTokens, Tokens, join, pack
from batchsent.model.wordcache import WordCache
from batchsent.text import first_line, printable, without_surrogates

# Characters that vocabularies lack: a rune, an alchemical symbol, a rare Cyrillic letter. A
# tokenizer must have a token for them.
RARE = "\u16a0 \U0001f732 \ua66e"


class TextEncoder(Protocol):
    """Turns texts into Tokens."""

    path: str  # how it does it, for the summary
    long_text: str  # one of LONG_TEXT
    special_tokens: SpecialTokens  # those around each text

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Return the tokens of each text."""


def make_text_encoder(tokenizer: Any, max_length: int, long_text: str | None = None) -> TextEncoder:
    """Return the fastest encoder that gives exactly the ids of a transformers tokenizer.

    `long_text` is one of LONG_TEXT; without it a text is cut on the side where the tokenizer itself
    cuts. Raises UsageError for another name, and for a `max_length` that is too short for it,
    ModelError for a tokenizer that does not work.
    """
    if long_text is None:
        long_text = "tail" if tokenizer.truncation_side == "left" else "head"
    encoder_class: type[FastEncoder] | type[SlowEncoder] = SlowEncoder
    if getattr(tokenizer, "is_fast", False):
        encoder_class = FastEncoder
    try:
        encoder = encoder_class(tokenizer, max_length, long_text)
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


def check_long_text(long_text: str, content_tokens: int) -> None:
    """Refuse an unknown way to read long texts, and one that requires more tokens.

    `content_tokens` is how many tokens of the text itself are read. Raises UsageError.
    """
    if long_text not in LONG_TEXT:
        raise UsageError(
            f"--long-text {printable(long_text)} is not a way to read a long text",
            hint=f"choose one of {', '.join(LONG_TEXT)}",
        )
    least = 1
    if long_text == "head-tail":
        least = math.ceil(1 / HEAD_SHARE)  # so that the head has a token
    if content_tokens < least:
        raise UsageError(
            f"--long-text {long_text} requires {least} tokens of a text or more; --max-length "
            f"leaves {max(0, content_tokens)}",
            hint="give a larger --max-length; special tokens count too",
        )


class FastEncoder:
    """A tokenizer of the tokenizers library, with a word cache where that gives the same ids.

    Of a text longer than long_text.LONG_CHARS only as much is tokenized as gives the same ids; its
    `truncated_tokens` is then a lower bound.
    """

    def __init__(self, tokenizer: Any, max_length: int, long_text: str) -> None:
        from tokenizers import Tokenizer

        # A copy, since other callers set truncation and padding of the one inside `tokenizer`.
        self.backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.backend.no_truncation()
        self.backend.no_padding()
        self.backend.encode_special_tokens = True
        self.special_tokens = find_special_tokens(self.backend)
        self.long_text = long_text
        # tokens of the text itself
        self.content_tokens = max_length - sum(map(len, self.special_tokens))
        self.truncation = choose_truncation(self.backend)
        self.odd_pieces = odd_pieces(tokenizer)
        self.cache: WordCache | None = None
        self.path = "tokenizers library, in parallel"
        # The cache requires of the pre-tokenizer what the rule for long texts requires.
        if isinstance(self.truncation, BertTruncation):
            normalizer = json.loads(self.backend.to_str())["normalizer"] or {}
            self.cache = WordCache(self.backend, lowercase=bool(normalizer.get("lowercase")))
            self.path = "word cache"

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Return the tokens of each text."""
        can_cut = self.truncation is not None and self.long_text == "head"
        if isinstance(self.truncation, BertTruncation):
            can_cut = self.long_text != "window"
        if can_cut and any(len(text) > LONG_CHARS for text in texts):
            contents = self._contents_with_long(texts)
        else:
            contents = self._contents(texts)
        tokens = pack(*contents, self.special_tokens, self.content_tokens, self.long_text)
        if self.odd_pieces is None:
            return tokens
        return replace(tokens, odd_pieces=count_odd(tokens, self.odd_pieces))

    def _contents(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the texts' own ids in one array, and how many each text has."""
        if self.cache is not None:
            return self.cache.encode([as_utf8(text) for text in texts])
        valid = [without_surrogates(text) for text in texts]
        encodings = self.backend.encode_batch_fast(valid, add_special_tokens=False)
        rows = [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]
        return join(rows)

    def _contents_with_long(
        self, texts: Sequence[str]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the same; of a long text only as many ids as `pack` needs."""
        ids, counts = self._contents([text if len(text) <= LONG_CHARS else "" for text in texts])
        rows = np.split(ids, np.cumsum(counts)[:-1])
        for row, text in enumerate(texts):
            if len(text) > LONG_CHARS:
                rows[row] = self._ends(without_surrogates(text))
        return join(rows)

    def _ends(self, text: str) -> NDArray[np.int32]:
        """Return ids of a long text of which `pack` keeps the same as of all of its ids.

        They are all of its ids, or more than are kept, with the same beginning and end.
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
            kept = shortest[: self.content_tokens]
            same = all(np.array_equal(row[: self.content_tokens], kept) for row in rows)
            if same and len(shortest) > self.content_tokens:
                return shortest, False
        raise AssertionError("the last candidate is the whole text")


def as_utf8(text: str) -> bytes:
    """Return a text as UTF-8; halves of surrogate pairs as in `without_surrogates`."""
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

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Return the tokens of each text."""
        rows = []
        for text in texts:
            encoding = self.tokenizer(
                without_surrogates(text), add_special_tokens=False, split_special_tokens=True
            )
            rows.append(np.array(encoding["input_ids"], dtype=np.int32))
        return pack(*join(rows), self.special_tokens, self.content_tokens, self.long_text)


def find_slow_special_tokens(tokenizer: Any) -> SpecialTokens:
    """Return the special tokens that a slow tokenizer puts before and after a text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = tokenizer("a")["input_ids"]
    for start in range(len(framed) - len(plain) + 1):
        if framed[start : start + len(plain)] == plain:
            before, after = framed[:start], framed[start + len(plain) :]
            return np.array(before, dtype=np.int32), np.array(after, dtype=np.int32)
    raise unknown_special_tokens()


def find_special_tokens(backend: Any) -> SpecialTokens:
    """Return the special tokens that a tokenizer puts before and after a text."""
    plain = backend.encode("a", add_special_tokens=False).ids
    framed = backend.encode("a")
    for start in range(len(framed.ids) - len(plain) + 1):
        inside = framed.ids[start : start + len(plain)] == plain
        if inside and all(framed.special_tokens_mask[:start]) and not any(framed.type_ids):
            before, after = framed.ids[:start], framed.ids[start + len(plain) :]
            return np.array(before, dtype=np.int32), np.array(after, dtype=np.int32)
    raise unknown_special_tokens()


def unknown_special_tokens() -> ModelError:
    """Return the error for special tokens that do not stand around the text."""
    return ModelError(
        "the special tokens of the model's tokenizer are not before and after the text",
        hint="choose a model with a BERT, RoBERTa or SentencePiece tokenizer",
    )
