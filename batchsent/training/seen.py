"""Which texts a model was fine-tuned on: 32-bit hashes of them, kept in its folder and passed on.

A figure on texts that a model has learned says little. The hashes tell a later training which of
its evaluation rows the base model has seen; the texts cannot be had from them.

Texts of a pre-training (--pretrain-on) are not among them: no label of them was learned, and rows
that are labelled later come from the same dump, so that every one of them would count as seen.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batchsent.errors import ModelError
from batchsent.model.files import read_file
from batchsent.text import printable
from batchsent.training.deduplicate import plain

FILE = "seen_texts.hashes"
SCHEMA = "batchsent.seen/1"
HASH_BYTES = 4
HASHES = 2 ** (8 * HASH_BYTES)
# The file of so many texts has 6 MB, and one unseen text in a thousand is taken for a seen one.
MOST_TEXTS = 4_000_000
# A larger file is refused unread: hashes that do not compress at all have 16 MB.
MAX_BYTES = 5 * MOST_TEXTS


@dataclass(frozen=True)
class SeenTexts:
    """The texts that a model and the models before it were fine-tuned on, as far as known."""

    hashes: NDArray[np.uint32]  # (texts,) sorted, each once
    complete: bool  # False where the first base model came without such a list

    @property
    def texts(self) -> int:
        """Number of texts."""
        return len(self.hashes)

    @property
    def false_positive_rate(self) -> float:
        """Share of unseen texts that are taken for seen ones, by chance."""
        return float(self.texts / HASHES)

    def contains(self, texts: Iterable[str]) -> NDArray[np.bool_]:
        """Tell of each text (texts,) whether it is among these, white space aside."""
        found = hash_texts(texts)
        if not self.texts:
            return np.zeros(len(found), dtype=np.bool_)
        positions = np.searchsorted(self.hashes, found)
        result: NDArray[np.bool_] = self.hashes[positions.clip(max=self.texts - 1)] == found
        return result

    def with_texts(self, texts: Sequence[str]) -> "SeenTexts":
        """Return these texts and others."""
        return SeenTexts(np.union1d(self.hashes, hash_texts(texts)), self.complete)


def say_seen(rows: int, judged: int, model: str) -> str:
    """Say that `rows` of the judged rows tell little, as `model` has learned them."""
    return (
        f"{rows:,} of {judged:,} evaluation rows are among the texts that the {model} has learned: "
        "the figures on all rows are too good"
    )


def seen_by(folder: Path | None) -> SeenTexts:
    """Return what a base model was fine-tuned on; nothing where there is no base model.

    Raises ModelError for a list that is damaged.
    """
    nothing: NDArray[np.uint32] = np.zeros(0, dtype=np.uint32)
    if folder is None:
        return SeenTexts(nothing, complete=True)
    try:
        return loads(read_file(folder / FILE, MAX_BYTES))
    except FileNotFoundError:
        return SeenTexts(nothing, complete=False)
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise ModelError(
            f"{printable(folder / FILE)} is damaged: {printable(error)}",
            hint="copy or download the model again; without this file, which texts it has seen is "
            "not known",
        ) from error


def hash_texts(texts: Iterable[str]) -> NDArray[np.uint32]:
    """Return the hash of each text (texts,), the same for copies that differ in white space."""
    digests = []
    for text in texts:
        data = plain(text).encode("utf-8", "surrogatepass")
        digests.append(hashlib.blake2b(data, digest_size=HASH_BYTES).digest())
    return np.frombuffer(b"".join(digests), dtype="<u4").astype(np.uint32)


def dumps(seen: SeenTexts) -> bytes:
    """Return the content of FILE: a line of JSON, then the compressed steps from hash to hash.

    75,000 hashes are 58,000 apart on average, so that two of the four bytes of a step tell little:
    byte by byte they compress to 160 kB, where the hashes themselves have 300.
    """
    head = {"schema": SCHEMA, "texts": seen.texts, "complete": seen.complete}
    steps = np.diff(seen.hashes, prepend=np.uint32(0)).astype("<u4")
    by_byte = steps.view(np.uint8).reshape(-1, HASH_BYTES).T
    return json.dumps(head).encode() + b"\n" + zlib.compress(by_byte.tobytes(), 9)


def loads(data: bytes) -> SeenTexts:
    """Read what `dumps` wrote.

    Raises ValueError, KeyError, TypeError or zlib.error for anything else, more than MOST_TEXTS
    hashes included. It does not decompress more than these take.
    """
    line, _, packed = data.partition(b"\n")
    head = json.loads(line)
    count = head["texts"]
    if head["schema"] != SCHEMA or not isinstance(count, int) or not 0 <= count <= MOST_TEXTS:
        raise ValueError(f"it does not begin as {SCHEMA} does")
    size = count * HASH_BYTES
    unpacked = zlib.decompressobj().decompress(packed, size + 1)
    if len(unpacked) != size:
        raise ValueError(f"it does not hold the hashes of {count:,} texts")
    by_byte = np.frombuffer(unpacked, dtype=np.uint8).reshape(HASH_BYTES, -1)
    steps = np.ascontiguousarray(by_byte.T).view("<u4").reshape(-1)
    hashes = np.cumsum(steps, dtype=np.uint64)
    if len(hashes) and hashes[-1] >= HASHES:
        raise ValueError("its hashes are out of order")
    return SeenTexts(hashes.astype(np.uint32), bool(head["complete"]))
