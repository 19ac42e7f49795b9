"""BERT WordPiece with a cache of words: only new words go to the tokenizer.

BERT's pre-tokenizer splits at white space and at every ASCII punctuation mark, wherever they stand.
So the tokens of a text are those of its words and marks, in their order. numpy finds the words,
looks them up and joins their tokens over the UTF-8 bytes of many texts at once: 25 MB/s on one core
over the 33 MB of IMDB's training reviews, 37 once their words are known, where the tokenizer's
encode_batch gives 3. A word here is anything between two splits, control characters and Chinese
included: the tokenizer decides what its tokens are.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.model.wordpiece import WordPiece, is_plain

# The key of a word of up to 15 bytes is its bytes and its length, in two 64-bit numbers: no two
# words have the same key.
KEY_BYTES = 15
# 262,144 slots, 6 MB. Half as many are a quarter slower, because more words share a slot (IMDB has
# 170,000 words, most of them seen once). Twice as many are as much slower, because they do not fit
# into the processor's cache.
SLOT_BITS = 18
# Longer words are kept in a dict of this size; those of more than 64 bytes (text without spaces)
# are not kept.
LONG_WORDS = 20_000
LONG_WORD_BYTES = 64
# Once this many ids are stored, the cache is emptied.
POOL_IDS = 4_000_000
# Bytes of text that are encoded together: few enough that numpy's intermediate arrays stay in the
# processor's cache.
BLOCK_BYTES = 400_000

SPACE, MARK, WORD = 0, 1, 2
CLASS_OF_BYTE = np.full(256, WORD, dtype=np.uint8)
CLASS_OF_BYTE[[ord(c) for c in " \t\n\r"]] = SPACE
CLASS_OF_BYTE[[c for c in range(33, 127) if not chr(c).isalnum()]] = MARK
LOWER = np.arange(256, dtype=np.uint8)
LOWER[ord("A") : ord("Z") + 1] += 32
# Masks that keep the first n bytes of a little-endian number of eight.
LOW_BYTES = np.array([(1 << (8 * n)) - 1 for n in range(9)], dtype=np.uint64)
MIX_LOW, MIX_HIGH = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


class WordCache:
    """Keeps the token ids of words, for one BERT WordPiece tokenizer.

    Bounded: 12 MB of slots, 16 MB of ids and 20,000 long words. A slot holds two words; a new word
    replaces the older one. The older ones lie apart, since few words are looked up there.
    """

    def __init__(
        self,
        backend: Any,
        *,
        lowercase: bool,
        slot_bits: int = SLOT_BITS,
        long_words: int = LONG_WORDS,
        pool_ids: int = POOL_IDS,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        """`backend` is a tokenizers.Tokenizer for which `long_text.is_bert` holds."""
        self.backend, self.word_piece = backend, WordPiece(backend)
        self.lowercase = lowercase
        self.slot_bits, self.long_words = slot_bits, long_words
        self.pool_ids, self.block_bytes = pool_ids, block_bytes
        self._reset()

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the words that are known: another process learns its own."""
        return {
            name: value
            for name, value in vars(self).items()
            if name not in {"low", "high", "start", "count", "before", "long", "pool", "pooled"}
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reset()

    def _reset(self) -> None:
        slots = 1 << self.slot_bits
        # A key is never 0: its top byte is the length of the word.
        self.low = np.zeros(slots, dtype=np.uint64)
        self.high = np.zeros(slots, dtype=np.uint64)
        self.start = np.zeros(slots, dtype=np.int32)
        self.count = np.zeros(slots, dtype=np.int32)
        # The word that was in a slot before the one that is there now.
        self.before = [np.zeros_like(kept) for kept in self._slots()]
        self.long: dict[bytes, tuple[int, int]] = {}
        self.pool = np.zeros(1 << 16, dtype=np.int32)
        self.pooled = 0

    def _slots(self) -> list[NDArray[Any]]:
        """Return what is kept of the word in each slot: its key, start and count."""
        return [self.low, self.high, self.start, self.count]

    def encode(self, texts: list[bytes]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the ids of UTF-8 texts in one array, without special tokens, and their counts."""
        if not texts:
            return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64)
        encoded = [self._encode_block(block) for block in in_blocks(texts, self.block_bytes)]
        ids, counts = zip(*encoded, strict=True)
        return np.concatenate(ids), np.concatenate(counts)

    def _encode_block(self, texts: list[bytes]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the ids of a few texts in one array, and how many each text has."""
        if self.pooled > self.pool_ids:
            self._reset()
        # A line feed separates the words of two texts. The zeros at the end let the last word be
        # read as 16 bytes.
        raw = np.frombuffer(b"\n".join(texts) + b"\n" + bytes(2 * 8), dtype=np.uint8)
        buffer = LOWER[raw] if self.lowercase else raw
        begins, lengths = find_words(buffer[:-16])
        words = Words(buffer, begins, lengths, *keys_of(buffer, begins, lengths))
        start, count = self._look_up(words)
        # Two texts, "a b." and "b", with 7 for a, 8 9 for b and 5 for the mark:
        #     pool            7 8 9 5
        #     start           0 1 3 1        of the words a, b, . and b
        #     count           1 2 1 2
        #     ends            1 3 4 6        ids up to the end of each word
        #     source          0 1 2 3 1 2    where each id is in the pool
        #     words_before    3 4            words up to the end of each text
        #     ids_before      4 6            so the texts have 4 and 2 ids
        ends = np.cumsum(count, dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        source = np.repeat(start - (ends - count), count)
        source += np.arange(total)
        text_ends = np.cumsum(np.array([len(text) + 1 for text in texts], dtype=np.int64))
        words_before = np.searchsorted(begins, text_ends)
        ids_before = np.concatenate(([0], ends))[words_before]
        return self.pool[source], np.diff(ids_before, prepend=0)

    def _look_up(self, words: "Words") -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return where the ids of each word begin in the pool, and how many it has."""
        slot = words.low * MIX_LOW
        slot ^= words.high * MIX_HIGH
        slot *= MIX_LOW
        slot >>= np.uint64(64 - self.slot_bits)
        slots = slot.astype(np.int64)
        start, count = self.start[slots], self.count[slots]
        known = (self.low[slots] == words.low) & (self.high[slots] == words.high)
        missing = np.flatnonzero(~known)
        if len(missing):
            # With one word in a slot more than half of the words of IMDB that were tokenized had
            # been known and replaced: 57 microseconds a review, 47 with two.
            low, high, start_before, count_before = (kept[slots[missing]] for kept in self.before)
            known = (low == words.low[missing]) & (high == words.high[missing])
            found = missing[known]
            start[found], count[found] = start_before[known], count_before[known]
            missing = missing[~known]
        if len(missing):
            start[missing], count[missing] = self._learn(words, slots, missing)
        return start, count

    def _learn(
        self, words: "Words", slots: NDArray[np.int64], missing: NDArray[np.int64]
    ) -> NDArray[np.int32]:
        """Return start and count of words that are in no slot; new ones are tokenized."""
        text_of = words.text_of(missing)
        found: dict[bytes, tuple[int, int]] = {}  # word -> start and count
        new: dict[bytes, int] = {}  # word -> its number among `words`, where it occurs first
        for number, word in zip(missing.tolist(), text_of, strict=True):
            if len(word) > KEY_BYTES and word in self.long:
                found[word] = self.long[word]
            else:
                new.setdefault(word, number)
        ids, counts = self._tokenize([word.decode() for word in new])
        starts = self._store(ids) + np.cumsum(counts) - counts
        found.update(zip(new, zip(starts.tolist(), counts.tolist(), strict=True), strict=True))
        self._keep_long(new, found)
        numbers = np.array(list(new.values()), dtype=np.int64)
        short = words.lengths[numbers] <= KEY_BYTES
        self._keep_short(words, slots, numbers[short], starts[short], counts[short])
        return np.array([found[word] for word in text_of], dtype=np.int32).T

    def _keep_long(self, new: Iterable[bytes], found: dict[bytes, tuple[int, int]]) -> None:
        """Keep the new words that are too long for a slot, while there is room for them."""
        for word in new:
            if KEY_BYTES < len(word) <= LONG_WORD_BYTES and len(self.long) < self.long_words:
                self.long[word] = found[word]

    def _keep_short(
        self,
        words: "Words",
        slots: NDArray[np.int64],
        numbers: NDArray[np.int64],
        starts: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> None:
        """Keep new words in their slots: their numbers among `words`, start and count of each."""
        # Of two new words for one slot exactly one may enter it, with all of its four values.
        taken, chosen = np.unique(slots[numbers], return_index=True)
        for before, kept in zip(self.before, self._slots(), strict=True):
            before[taken] = kept[taken]
        self.low[taken] = words.low[numbers[chosen]]
        self.high[taken] = words.high[numbers[chosen]]
        self.start[taken] = starts[chosen]
        self.count[taken] = counts[chosen]

    def _tokenize(self, words: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the ids of words in one array, and how many each word has."""
        found = [self.word_piece.ids(word) if is_plain(word) else [] for word in words]
        others = [number for number, word in enumerate(words) if not is_plain(word)]
        # Not `encode`, which holds the interpreter's lock: 190 ms for 20,000 words, against 14 ms.
        (encoding,) = self.backend.encode_batch(
            [[words[number] for number in others]],
            is_pretokenized=True,
            add_special_tokens=False,
        )
        for other, piece in zip(encoding.word_ids, encoding.ids, strict=True):
            found[others[other]].append(piece)
        counts = np.fromiter(map(len, found), np.int64, len(found))
        return np.fromiter(chain.from_iterable(found), np.int32, counts.sum()), counts

    def _store(self, ids: NDArray[np.int32]) -> int:
        """Append ids to the pool and return where they begin."""
        begin = self.pooled
        self.pooled += len(ids)
        while self.pooled > len(self.pool):
            self.pool = np.concatenate([self.pool, np.zeros_like(self.pool)])
        self.pool[begin : self.pooled] = ids
        return begin


@dataclass(frozen=True)
class Words:
    """The words of a few texts, in their order."""

    buffer: NDArray[np.uint8]  # UTF-8 of the texts, lowercase where the tokenizer is
    begins: NDArray[np.int64]  # (words,) first byte of each
    lengths: NDArray[np.int64]  # (words,) in bytes
    low: NDArray[np.uint64]  # (words,) first half of the key
    high: NDArray[np.uint64]  # (words,) second half of the key

    def text_of(self, numbers: NDArray[np.int64]) -> list[bytes]:
        """Return the bytes of some of the words."""
        text = self.buffer.tobytes()
        begins, lengths = self.begins[numbers].tolist(), self.lengths[numbers].tolist()
        return [text[b : b + n] for b, n in zip(begins, lengths, strict=True)]


def in_blocks(texts: list[bytes], block_bytes: int) -> Iterator[list[bytes]]:
    """Yield the texts in blocks of less than `block_bytes`; a longer text is a block of its own."""
    block: list[bytes] = []
    size = 0
    for text in texts:
        if block and size + len(text) >= block_bytes:
            yield block
            block, size = [], 0
        block.append(text)
        size += len(text)
    if block:
        yield block


def find_words(buffer: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return first byte and length of each word: a punctuation mark, or a run of other bytes."""
    # Of "ab. c":
    #     word       1 1 0 0 1
    #     begin      1 0 0 0 1    first byte of a run
    #     end        0 1 0 0 1    last byte of a run
    #     mark       0 0 1 0 0    both begins and ends a word
    #     begins     0 2 4
    #     lengths    2 1 1
    kind = CLASS_OF_BYTE[buffer]
    mark, word = kind == MARK, kind == WORD
    begin, end = word.copy(), word.copy()
    begin[1:] &= ~word[:-1]
    end[:-1] &= ~word[1:]
    begins = np.flatnonzero(begin | mark)
    lengths = np.flatnonzero(end | mark)
    lengths -= begins
    lengths += 1
    return begins, lengths


def keys_of(
    buffer: NDArray[np.uint8], begins: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return two numbers for each word, equal for equal words only (up to KEY_BYTES bytes).

    A longer word gets a length that no slot has.
    """
    # Eight bytes from every place on, as one number: they overlap. Of "good", before more text:
    #     low    g o o d 0 0 0 0     the next bytes are cleared
    #     high   0 0 0 0 0 0 0 4     the last byte is the length
    numbers = np.ndarray((len(buffer) - 7,), dtype="<u8", buffer=buffer, strides=(1,))
    low, high = numbers[begins], numbers[begins + 8]
    low &= LOW_BYTES[np.minimum(lengths, 8)]
    high &= LOW_BYTES[np.clip(lengths - 8, 0, 7)]
    high |= np.minimum(lengths, KEY_BYTES + 1).astype(np.uint64) << np.uint64(56)
    return low, high
