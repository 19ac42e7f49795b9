"""Safe truncation points for very long texts.

A text of 10 MB costs a tokenizer seconds, though only its first few hundred tokens are read. A
prefix may be tokenized instead if it ends at a place that no token of the whole text spans, and has
more tokens than are kept. The rules below find such places, for two kinds of tokenizer.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

# Longer texts are cut before they are tokenized. No review is as long; the longest of IMDB's
# 100,000 has 14,106.
LONG_CHARS = 50_000
# How far before the end of a window a place to cut is searched.
LOOK_BACK_CHARS = 2_000

# Letters and digits that BERT's normalizer turns into one character or more of a word, never into
# white space, punctuation or nothing: ASCII, Latin, Greek, Cyrillic, Hebrew, Arabic, Thai, kana and
# Hangul. A test tries each.
WORD_CHARS = (
    "0-9A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5"
    "\u03f7-\u0481\u048a-\u052f\u05d0-\u05ea\u0620-\u064a\u0e01-\u0e30\u3041-\u3096\u30a1-\u30fa\uac00-\ud7a3"
)
# For BERT emoji are letters; accents and joiners are part of the word, or are removed.
EMOJI = "\U0001f300-\U0001faff"
MARKS_IN_WORDS = "\u0300-\u036f\u200b-\u200d\ufe00-\ufe0f"
# Characters that BERT's pre-tokenizer separates from any others: white space (no-break and other
# wide spaces too), ASCII punctuation, ideographs.
SPACES = r" \t\n\r\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
BERT_BREAK = re.compile(rf"[{SPACES}!-/:-@\[-`{{-~\u4e00-\u9fff\u3400-\u4dbf]")
# GPT-2's pre-tokenizer always splits between letters, digits and punctuation, and before white
# space that follows one of them. The apostrophe is left out: it belongs to what follows in 's, 't,
# 're.
LETTERS = WORD_CHARS.removeprefix("0-9") + "\u4e00-\u9fff"
MARKS = r"!-&(-/:-@\[-`{-~\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f"
GPT2_BREAK = re.compile(
    rf"(?<=[{LETTERS}])(?=[ \t\n\r0-9{MARKS}])"
    rf"|(?<=[0-9])(?=[ \t\n\r{LETTERS}{MARKS}])"
    rf"|(?<=[{MARKS}])(?=[ \t\n\r0-9{LETTERS}])"
)
LETTER_RUNS = re.compile(rf"[{LETTERS}]+")
# GPT-2 spells each byte as a printable character: as the Latin-1 character where that is printable,
# the others as U+0100 and up.
PRINTING = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTES = {chr(byte): byte for byte in PRINTING} | {
    chr(0x100 + n): byte for n, byte in enumerate(sorted(set(range(0x100)) - set(PRINTING)))
}
LONGEST_CHARACTER = 4  # bytes, in UTF-8
# Runs of one kind of character in which GPT-2's pre-tokenizer never splits.
ASCII_RUNS = re.compile(r"[A-Za-z]+|[0-9]+|[!-&(-/:-@\[-`{-~]+| +")


class TruncationPoints(Protocol):
    """Proposes longer and longer prefixes of a text that is longer than LONG_CHARS."""

    def candidates(self, text: str, content_tokens: int) -> Iterator[tuple[list[str], bool]]:
        """Yield (texts, whole): the tokens of the text begin as those of each of the texts do.

        That is: where all of `texts` begin with the same `content_tokens` tokens, so does the text.
        `whole` says that `texts` is the text alone, perhaps shortened without effect on its tokens.
        """


def choose_truncation(backend: Any) -> TruncationPoints | None:
    """Return the rule for a `tokenizers.Tokenizer`, or None where no rule is known to be right."""
    parts = json.loads(backend.to_str())
    # Tokens added to a vocabulary may contain spaces, and so cross any break.
    if any(not token["special"] for token in parts["added_tokens"]):
        return None
    if is_bert(parts):
        return BertTruncation(int(parts["model"]["max_input_chars_per_word"]))
    if is_gpt2(parts):
        return Gpt2Truncation(parts["model"]["vocab"])
    return None


def is_bert(parts: dict[str, Any]) -> bool:
    """Tell whether a tokenizer's JSON describes BERT's own tokenizer."""
    normalizer, splitter = parts["normalizer"] or {}, parts["pre_tokenizer"] or {}
    model = parts["model"]
    return (
        (normalizer.get("type"), splitter.get("type"), model.get("type"))
        == ("BertNormalizer", "BertPreTokenizer", "WordPiece")
        and normalizer.get("clean_text") is True
        and normalizer.get("handle_chinese_chars") is True
    )


def is_gpt2(parts: dict[str, Any]) -> bool:
    """Tell whether a tokenizer's JSON describes GPT-2's byte-level BPE, which RoBERTa uses."""
    splitter, model = parts["pre_tokenizer"] or {}, parts["model"]
    return (
        parts["normalizer"] is None
        and (splitter.get("type"), model.get("type")) == ("ByteLevel", "BPE")
        and splitter.get("use_regex", True) is True
        and not any(
            model.get(key) for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
        )
        and not model.get("ignore_merges")
    )


class BertTruncation:
    """Cuts for BERT WordPiece: after any character that the pre-tokenizer separates."""

    def __init__(self, max_word_chars: int) -> None:
        # A longer word is one unknown token, whatever its characters are: the rest is left out.
        word = f"[{WORD_CHARS}{EMOJI}]"
        enough = rf"(?:{word}[{MARKS_IN_WORDS}]*+){{{max_word_chars + 1}}}"
        self.long_word = re.compile(rf"({enough})[{WORD_CHARS}{EMOJI}{MARKS_IN_WORDS}]++")

    def candidates(self, text: str, content_tokens: int) -> Iterator[tuple[list[str], bool]]:
        """Yield longer and longer prefixes, then the whole text."""
        text = self.long_word.sub(r"\1", text)
        window = LONG_CHARS
        while window < len(text):
            for end in range(window, max(0, window - LOOK_BACK_CHARS), -1):
                if BERT_BREAK.match(text, end - 1):
                    yield [text[:end]], False
                    break
            window *= 4
        yield [text], True

    def endings(self, text: str) -> Iterator[tuple[str, bool]]:
        """Yield longer and longer (suffix, whole): the text ends with the tokens of the suffix.

        A break ends a word whatever stands around it, so that a suffix may begin after one.
        """
        text = self.long_word.sub(r"\1", text)
        window = LONG_CHARS
        while window < len(text):
            first = len(text) - window
            for start in range(first, min(len(text), first + LOOK_BACK_CHARS)):
                if BERT_BREAK.match(text, start - 1):
                    yield text[start:], False
                    break
            window *= 4
        yield text, True


class Gpt2Truncation:
    """Cuts for GPT-2's byte-level BPE: at a break, or at several places of an unbroken run.

    A prefix that ends at a boundary, where a token of the whole text ends, has the same tokens as
    the whole text up to there, since no merge crosses a boundary. There is one at every break, such
    as between a letter and a space. In an unbroken run it is not known where they are. But a token
    has `longest_token` bytes at most, so that one of any `longest_token` places in a row is a
    boundary: where the prefixes that end at all of these places begin with the same tokens, so does
    the whole text. With tokens of 3 bytes at most, and "abababab..." of any length:

        prefix of 7 bytes   aba bab a       One of the three ends at a boundary, all of them
        prefix of 8 bytes   aba bab ab      begin with aba bab: so does the whole text.
        prefix of 9 bytes   aba bab aba

    A text can be cut between characters only, and a boundary may lie within a character of several
    bytes. Then the token after it begins within that character. Unless it straddles (see
    `straddles`) it ends in the same character, and so on to the end of the character, which is
    therefore a boundary too. Here is é, two bytes, without a token that straddles:

        bytes               c3 a9 c3 a9 c3 a9
        tokens              c3-a9 c3 a9 c3-a9    the boundary within the second é is followed by
                                                 one at its end

    So in a run in which no token that straddles occurs it is enough to try the places between
    characters.
    """

    def __init__(self, vocabulary: Iterable[str]) -> None:
        # Special tokens may have other characters; they do not occur in a text.
        spelled = [token for token in vocabulary if BYTES.keys() >= set(token)]
        tokens = [bytes(map(BYTES.__getitem__, token)) for token in spelled]
        self.longest_token = max(map(len, tokens), default=1)  # bytes
        self.straddling = [token for token in tokens if straddles(token)]

    def candidates(self, text: str, content_tokens: int) -> Iterator[tuple[list[str], bool]]:
        """Yield sets of longer and longer prefixes, then the whole text."""
        # Trying every place tokenizes the window hundreds of times: begin with a small one.
        window = min(LONG_CHARS, 8 * content_tokens + 2 * self.longest_token)
        while window < len(text):
            ends = self._ends(text, window)
            if ends:
                yield [text[:end] for end in ends], False
            window *= 4
        yield [text], True

    def _ends(self, text: str, window: int) -> list[int]:
        """Return places before `window` of which one is a boundary; none where none is known."""
        start = max(0, window - LOOK_BACK_CHARS)
        # One character more than the window, since a break depends on the characters beside it.
        end = window + 1
        breaks = [found.start() for found in GPT2_BREAK.finditer(text, start, end)]
        if breaks and breaks[-1] > start:
            return breaks[-1:]
        for pattern in (ASCII_RUNS, LETTER_RUNS):
            for run in pattern.finditer(text, start, end):
                if ends := self._between_characters(text, run.start(), run.end() - 1):
                    return ends
        return []

    def _between_characters(self, text: str, first: int, last: int) -> list[int]:
        """Return places in the run text[first:last] of which one is a boundary.

        None where the run is too short, or a token that straddles occurs in it.
        """
        raw = text[first:last].encode()
        if any(token in raw for token in self.straddling):
            return []
        ends, size = [], 0  # bytes between a place and the end of the run
        for end in range(last, first, -1):
            # A token that begins at any of these places must lie within the run.
            if size >= self.longest_token:
                ends.append(end)
            size += len(text[end - 1].encode())
            if size >= 2 * self.longest_token + LONGEST_CHARACTER:
                return ends
        return []


def straddles(token: bytes) -> bool:
    """Tell whether a token has bytes of several characters, of which one is not whole.

    Of "éé" (c3 a9 c3 a9) the tokens a9 c3 and c3 a9 c3 do; c3, a9, c3 a9 and the whole do not.
    """
    try:
        token.decode()
    except UnicodeDecodeError:
        return any(byte & 0xC0 != 0x80 for byte in token[1:])
    return False
