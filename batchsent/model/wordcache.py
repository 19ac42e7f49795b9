"""BERT WordPiece with a cache of words: only new words go to the tokenizer.

BERT's pre-tokenizer sets white space and every ASCII punctuation mark apart wherever they stand, so
a text's tokens are those of the pieces between them, one behind the other. The pieces are found,
looked up and put together by numpy over the UTF-8 bytes of many texts at once: 25 MB/s on one core
over the 33 MB of IMDB's training reviews, 37 once their words are known, where the tokenizer's
encode_batch gives 3. All else, from control characters to Chinese, stays inside the pieces and is
the tokenizer's.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Pieces up to 15 bytes are keyed by their bytes and length in two 64-bit numbers: exact, no hash to
# collide.
KEY_BYTES = 15
# 6 MB of slots. Half as many lose a quarter of the speed to words that share a slot (IMDB has
# 170,000, most of them seen once); twice as many lose as much to the processor's cache.
SLOT_BITS = 18
# Longer pieces live in a dict of this many; still longer ones (text without spaces) are not kept.
LONG_PIECES = 20_000
LONG_PIECE_BYTES = 64
# Once so many ids are stored, the cache starts over.
POOL_IDS = 4_000_000
# Texts are taken together up to this size, so that numpy's intermediate arrays stay in the
# processor's cache.
BLOCK_BYTES = 400_000

SPACE, MARK, WORD = 0, 1, 2
CLASS_OF_BYTE = np.full(256, WORD, dtype=np.uint8)
CLASS_OF_BYTE[[ord(c) for c in " \t\n\r"]] = SPACE
CLASS_OF_BYTE[[c for c in range(33, 127) if not chr(c).isalnum()]] = MARK
LOWER = np.arange(256, dtype=np.uint8)
LOWER[ord("A") : ord("Z") + 1] += 32
# Masks that keep the first n bytes of a little-endian number of eight.
KEEP = np.array([(1 << (8 * n)) - 1 for n in range(9)], dtype=np.uint64)
MIX_LOW, MIX_HIGH = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


class WordCache:
    """Remembers the token ids of the pieces of texts, for one BERT WordPiece tokenizer.

    Bounded: 6 MB of slots, 16 MB of ids and 20,000 long pieces. A slot holds one piece; a new piece
    takes the place of the old one.
    """

    def __init__(
        self,
        backend: Any,
        *,
        lowercase: bool,
        slot_bits: int = SLOT_BITS,
        long_pieces: int = LONG_PIECES,
        pool_ids: int = POOL_IDS,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        """`backend` is a tokenizers.Tokenizer for which `long_text.is_bert` holds."""
        self.backend = backend
        self.lowercase = lowercase
        self.slot_bits, self.long_pieces = slot_bits, long_pieces
        self.pool_ids, self.block_bytes = pool_ids, block_bytes
        self._reset()

    def _reset(self) -> None:
        slots = 1 << self.slot_bits
        # A key is never 0: its top byte is the piece's length.
        self.low = np.zeros(slots, dtype=np.uint64)
        self.high = np.zeros(slots, dtype=np.uint64)
        self.start = np.zeros(slots, dtype=np.int32)
        self.count = np.zeros(slots, dtype=np.int32)
        self.long: dict[bytes, tuple[int, int]] = {}
        self.pool = np.zeros(1 << 16, dtype=np.int32)
        self.pooled = 0

    def contents(self, texts: list[bytes]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the ids of UTF-8 texts in one array, without special tokens, and their counts."""
        ids, counts, first = [], [], 0
        while first < len(texts):
            last, size = first, 0
            while last < len(texts) and (
                last == first or size + len(texts[last]) < self.block_bytes
            ):
                size += len(texts[last])
                last += 1
            block_ids, block_counts = self._encode_block(texts[first:last])
            ids.append(block_ids)
            counts.append(block_counts)
            first = last
        if not ids:
            return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64)
        return np.concatenate(ids), np.concatenate(counts)

    def _encode_block(self, texts: list[bytes]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        if self.pooled > self.pool_ids:
            self._reset()
        # A newline between texts keeps their pieces apart; the zeros let the last piece be read as
        # 16 bytes.
        raw = np.frombuffer(b"\n".join(texts) + b"\n" + bytes(2 * 8), dtype=np.uint8)
        buffer = LOWER[raw] if self.lowercase else raw
        begins, lengths = _pieces(buffer[:-16])
        low, high = _keys(buffer, begins, lengths)
        slot = low * MIX_LOW
        slot ^= high * MIX_HIGH
        slot *= MIX_LOW
        slot >>= np.uint64(64 - self.slot_bits)
        place = slot.astype(np.int64)
        start, count = self.start[place], self.count[place]
        known = (self.low[place] == low) & (self.high[place] == high)
        missing = np.flatnonzero(~known)
        if len(missing):
            self._insert(buffer, begins, lengths, low, high, place, missing, start, count)
        # Token k of piece i stands at pool[start[i] + k].
        ends = np.cumsum(count, dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        source = np.repeat(start - (ends - count), count)
        source += np.arange(total)
        ids = self.pool[source]
        text_ends = np.cumsum(np.array([len(text) + 1 for text in texts], dtype=np.int64))
        pieces_before = np.searchsorted(begins, text_ends)
        tokens_before = np.concatenate(([0], ends))[pieces_before]
        return ids, np.diff(tokens_before, prepend=0)

    def _insert(
        self,
        buffer: NDArray[np.uint8],
        begins: NDArray[np.int64],
        lengths: NDArray[np.int64],
        low: NDArray[np.uint64],
        high: NDArray[np.uint64],
        place: NDArray[np.int64],
        missing: NDArray[np.int64],
        start: NDArray[np.int32],
        count: NDArray[np.int32],
    ) -> None:
        """Tokenize the pieces that no slot holds, store them, fill in `start` and `count`."""
        found: dict[bytes, tuple[int, int]] = {}
        new: dict[bytes, int] = {}  # piece -> one of its places in the block
        begin_of, length_of = begins[missing].tolist(), lengths[missing].tolist()
        text = buffer.tobytes()
        pieces = [text[b : b + n] for b, n in zip(begin_of, length_of, strict=True)]
        for number, piece in zip(missing.tolist(), pieces, strict=True):
            if len(piece) > KEY_BYTES and piece in self.long:
                found[piece] = self.long[piece]
            else:
                new.setdefault(piece, number)
        ids, counts = self._tokenize([piece.decode() for piece in new])
        starts = self._store(ids) + np.cumsum(counts) - counts
        short = []
        for piece, number, at, tokens in zip(
            new, new.values(), starts.tolist(), counts.tolist(), strict=True
        ):
            found[piece] = at, tokens
            if len(piece) <= KEY_BYTES:
                short.append((number, at, tokens))
            elif len(piece) <= LONG_PIECE_BYTES and len(self.long) < self.long_pieces:
                self.long[piece] = at, tokens
        start[missing], count[missing] = np.array(
            [found[piece] for piece in pieces], dtype=np.int32
        ).T
        if short:
            number, at, tokens = np.array(short, dtype=np.int64).T
            # Of two new pieces for one slot exactly one may enter it.
            slots, chosen = np.unique(place[number], return_index=True)
            self.low[slots], self.high[slots] = low[number[chosen]], high[number[chosen]]
            self.start[slots], self.count[slots] = at[chosen], tokens[chosen]

    def _tokenize(self, pieces: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the ids of pieces, one behind the other, and how many each has."""
        encoding = self.backend.encode(pieces, is_pretokenized=True, add_special_tokens=False)
        piece_of = np.array(encoding.word_ids, dtype=np.int64)
        return np.array(encoding.ids, dtype=np.int32), np.bincount(piece_of, minlength=len(pieces))

    def _store(self, ids: NDArray[np.int32]) -> int:
        """Append ids to the pool and return where they begin."""
        begin = self.pooled
        self.pooled += len(ids)
        while self.pooled > len(self.pool):
            self.pool = np.concatenate([self.pool, np.zeros_like(self.pool)])
        self.pool[begin : self.pooled] = ids
        return begin


def _pieces(buffer: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return start and length of each piece: a punctuation mark, or a run of word bytes."""
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


def _keys(
    buffer: NDArray[np.uint8], begins: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return two numbers a piece, equal for equal pieces only (up to KEY_BYTES bytes).

    A longer piece gets a length that no slot holds.
    """
    # Eight bytes from any place on, as one number: overlapping on purpose.
    words = np.ndarray((len(buffer) - 7,), dtype="<u8", buffer=buffer, strides=(1,))
    low, high = words[begins], words[begins + 8]
    low &= KEEP[np.minimum(lengths, 8)]
    high &= KEEP[np.clip(lengths - 8, 0, 7)]
    high |= np.minimum(lengths, KEY_BYTES + 1).astype(np.uint64) << np.uint64(56)
    return low, high
