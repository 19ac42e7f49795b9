"""The texts of rows: a list of Python strings, or an Arrow array that stays as it was read.

What is asked of all texts of a chunk (their lengths, a hash, which are alike) is computed over the
array's buffers, without Python's lock and without a string a row: 2 us a review in place of 6.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Union, cast, overload

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import is_blank

if TYPE_CHECKING:
    import pyarrow as pa

Texts = Sequence[str | None]
# Whether a first byte is ASCII and no white space: such a text is not blank.
VISIBLE = np.array([byte < 128 and not chr(byte).isspace() for byte in range(256)])


class ArrowTexts(Sequence[str | None]):
    """Texts in an Arrow array; they become Python strings when they are asked for.

    Pickled they are a list, for processes that do not import pyarrow.
    """

    def __init__(self, array: "pa.Array") -> None:
        """`array` (rows,) is a string or large_string that was found to be valid UTF-8."""
        self._array = array

    @cached_property
    def _strings(self) -> list[str | None]:
        return list(self._array.to_pylist())

    def __len__(self) -> int:
        return len(self._array)

    @overload
    def __getitem__(self, rows: int) -> str | None: ...
    @overload
    def __getitem__(self, rows: slice) -> "ArrowTexts": ...
    def __getitem__(self, rows: int | slice) -> Union[str, "ArrowTexts", None]:
        if isinstance(rows, slice):
            return ArrowTexts(self._array[rows])
        return cast(str | None, self._array[rows].as_py())

    def __iter__(self) -> Iterator[str | None]:
        return iter(self._strings)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        valid = None
        if self._array.null_count:
            valid = self._array.is_valid().to_numpy(zero_copy_only=False)
        offsets, data = self._buffers()
        return decode, (bytes(data), np.diff(offsets), valid)

    @cached_property
    def characters(self) -> NDArray[np.int64]:
        """(rows,) length of each text; -1 for None."""
        from pyarrow import compute

        lengths = compute.utf8_length(self._array).fill_null(-1)
        return np.asarray(lengths).astype(np.int64)

    def update(self, found: Any) -> None:
        """Add the UTF-8 of all texts, one after the other, to a hash."""
        found.update(self._buffers()[1])

    def distinct(self) -> tuple[NDArray[np.int64], "ArrowTexts"]:
        """Return what `distinct_texts` returns."""
        import pyarrow as pa

        encoded = self._array.dictionary_encode()
        text_of = np.asarray(encoded.indices.fill_null(-1)).astype(np.int64)
        texts = ArrowTexts(encoded.dictionary)
        blank = texts._blank()
        if not blank.any():
            return text_of, texts
        # Four rows, "a", "", None and "b":
        #     text_of   0 1 -1 2
        #     blank     0 1  0        of the three texts
        #     number    0 -1 1 -1     new numbers, and that of None at the end
        #     result    0 -1 -1 1
        number = np.append(np.where(blank, -1, np.cumsum(~blank) - 1), -1)
        return number[text_of], ArrowTexts(encoded.dictionary.filter(pa.array(~blank)))

    def _blank(self) -> NDArray[np.bool_]:
        """(rows,) whether `is_blank` holds; no row is None."""
        offsets, data = self._buffers()
        blank: NDArray[np.bool_] = np.diff(offsets) == 0
        with_text = np.flatnonzero(~blank)
        first = np.frombuffer(data, np.uint8)[offsets[with_text]]
        for row in with_text[~VISIBLE[first]].tolist():
            blank[row] = is_blank(self[row])
        return blank

    def _buffers(self) -> tuple[NDArray[Any], memoryview]:
        """Return offsets (rows + 1,) into the UTF-8 of all texts, and that; None is empty in it."""
        array = self._array.fill_null("") if self._array.null_count else self._array
        _, offset_buffer, data = array.buffers()
        if not len(array) or data is None:
            return np.zeros(len(array) + 1, np.int64), memoryview(b"")
        kind = np.int64 if str(array.type).startswith("large") else np.int32
        offsets = np.frombuffer(offset_buffer, kind)[array.offset : array.offset + len(array) + 1]
        return offsets - offsets[0], memoryview(data)[int(offsets[0]) : int(offsets[-1])]


def decode(data: bytes, lengths: NDArray[Any], valid: NDArray[np.bool_] | None) -> Texts:
    """Return the texts of ArrowTexts as a list; rows that are not `valid` are None."""
    ends = np.cumsum(lengths, dtype=np.int64)
    places = zip((ends - lengths).tolist(), ends.tolist(), strict=True)
    texts: list[str | None] = [data[begin:end].decode() for begin, end in places]
    if valid is not None:
        for row in np.flatnonzero(~valid).tolist():
            texts[row] = None
    return texts


def characters(texts: Texts) -> NDArray[np.int64]:
    """Return the length of each text (rows,); -1 for None."""
    if isinstance(texts, ArrowTexts):
        return texts.characters
    return np.array([-1 if text is None else len(text) for text in texts], np.int64)


def digest(texts: Texts) -> str:
    """Return the SHA-256 of some texts in their order: the same texts get the same scores."""
    found = sha256(characters(texts).tobytes())
    if isinstance(texts, ArrowTexts):
        texts.update(found)
    else:
        found.update("".join(filter(None, texts)).encode("utf-8", "surrogatepass"))
    return found.hexdigest()


def distinct_texts(texts: Texts) -> tuple[NDArray[np.int64], Sequence[str]]:
    """Return (rows,) the number of each row's text, -1 for blank rows, and the texts, each once.

    They are in the order of their first rows.
    """
    if isinstance(texts, ArrowTexts):
        text_of, without_copies = texts.distinct()
        return text_of, cast(Sequence[str], without_copies)
    numbers: dict[str, int] = {}
    text_of = np.full(len(texts), -1, dtype=np.int64)
    for row, text in enumerate(texts):
        if text is not None and not is_blank(text):
            text_of[row] = numbers.setdefault(text, len(numbers))
    return text_of, list(numbers)
