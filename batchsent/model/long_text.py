"""Safe truncation points for very long texts.

A text of 10 MB costs a tokenizer seconds, though only its first few hundred tokens are read. A
prefix of it may be tokenized in its place where two things hold: it ends at a place that no token
of the whole text can span, and it yields more tokens than are kept. The rules below say where such
places are, by what the tokenizer is made of.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

# Longer texts are cut before they are tokenized. No review is as long; the longest of IMDB's
# 100,000 has 14,106.
LONG_CHARS = 50_000
# How far back from the end of a window a place to cut is looked for.
LOOK_BACK_CHARS = 2_000

# Letters and digits that BERT's normalizer turns into one character or more of a word, never into
# white space, punctuation or nothing: ASCII, Latin, Greek, Cyrillic, Hebrew, Arabic, Thai, kana and
# Hangul. A test tries each.
WORD_CHARS = (
    "0-9A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5"
    "\u03f7-\u0481\u048a-\u052f\u05d0-\u05ea\u0620-\u064a\u0e01-\u0e30\u3041-\u3096\u30a1-\u30fa\uac00-\ud7a3"
)
# To BERT emoji are letters, and accents and joiners are part of the word or nothing at all.
EMOJI = "\U0001f300-\U0001faff"
MARKS_IN_WORDS = "\u0300-\u036f\u200b-\u200d\ufe00-\ufe0f"
# What BERT's pre-tokenizer sets apart wherever it stands: white space, ASCII punctuation,
# ideographs.
# No-break and other wide spaces are white space to it too.
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
# GPT-2 writes bytes as characters that print: those that do as themselves, the others from U+0100
# on.
PRINTING = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTES = {chr(byte): byte for byte in PRINTING} | {
    chr(0x100 + n): byte for n, byte in enumerate(sorted(set(range(0x100)) - set(PRINTING)))
}
LONGEST_CHARACTER = 4  # bytes, in UTF-8
GPT2_RUNS = re.compile(r"[A-Za-z]+|[0-9]+|[!-&(-/:-@\[-`{-~]+| +")


class TruncationPoints(Protocol):
    """Proposes ever longer prefixes of a text that is longer than LONG_CHARS."""

    def candidates(self, text: str, content_tokens: int) -> Iterator[tuple[list[str], bool]]:
        """Yield (texts, whole): the tokens of the text begin as those of each of the texts do.

        Precisely: where all of `texts` begin with the same `content_tokens` tokens, so does the
        text. `whole` says that there is one text and its tokens are all of them.
        """


def choose_truncation(backend: Any) -> "TruncationPoints | None":
    """Return the rule for a `tokenizers.Tokenizer`, or None where no rule is known to be right."""
    parts = json.loads(backend.to_str())
    # A token of the vocabulary's owner may contain spaces and reach over every boundary; a cut
    # keeps the start.
    if any(not token["special"] for token in parts["added_tokens"]):
        return None
    if is_bert(parts):
        return BertTruncation(int(parts["model"]["max_input_chars_per_word"]))
    if is_gpt2(parts):
        return Gpt2Truncation(parts["model"]["vocab"])
    return None


def is_bert(parts: dict[str, Any]) -> bool:
    """Tell whether a tokenizer's JSON describes BERT's own tokenizer."""
    normalizer, splitter, model = (
        parts["normalizer"] or {},
        parts["pre_tokenizer"] or {},
        parts["model"],
    )
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
    """Cuts for BERT WordPiece: behind anything that the pre-tokenizer sets apart."""

    def __init__(self, max_word_chars: int) -> None:
        # A longer word is one unknown token whatever is in it, so only its length matters, and only
        # up to here.
        word = f"[{WORD_CHARS}{EMOJI}]"
        enough = rf"(?:{word}[{MARKS_IN_WORDS}]*+){{{max_word_chars + 1}}}"
        self.long_word = re.compile(rf"({enough})[{WORD_CHARS}{EMOJI}{MARKS_IN_WORDS}]++")

    def candidates(self, text: str, content_tokens: int) -> Iterator[tuple[list[str], bool]]:
        """Yield ever longer prefixes, then the whole text."""
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
        """Yield ever longer (suffix, whole): the tokens of the text end as those of the suffix do.

        A break ends a word whatever stands around it, so it is a place to cut from behind as well.
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
    """Cuts for GPT-2's byte-level BPE, between or within classes of characters.

    Within one class of characters there is no boundary that is always one. But wherever the whole
    text has one, its tokens up to there are those of the prefix that ends there, since no merge
    crosses it; and it has one within any stretch as long as the longest token. So where the
    prefixes that end at each place of such a stretch agree on their first tokens, the whole text
    has these too.

    A text can only be cut between characters, and a boundary may lie within one that has several
    bytes. It does so only where a token straddles: has the end of one character in it and the
    beginning of another, and not both of them whole. Where the vocabulary has no such token that
    occurs in the text, the first place between characters behind any boundary is one as well.
    """

    def __init__(self, vocabulary: Iterable[str]) -> None:
        tokens = [
            bytes(BYTES[c] for c in token) for token in vocabulary if BYTES.keys() >= set(token)
        ]
        self.longest_token = max(map(len, tokens), default=1)  # bytes
        self.straddling = [token for token in tokens if straddles(token)]

    def candidates(self, text: str, content_tokens: int) -> Iterator[tuple[list[str], bool]]:
        """Yield sets of ever longer prefixes, then the whole text."""
        # Trying every place tokenizes the window hundreds of times: begin with a small one.
        window = min(LONG_CHARS, 8 * content_tokens + 2 * self.longest_token)
        while window < len(text):
            ends = self._ends(text, window)
            if ends:
                yield [text[:end] for end in ends], False
            window *= 4
        yield [text], True

    def _ends(self, text: str, window: int) -> list[int]:
        start = max(0, window - LOOK_BACK_CHARS)
        # One character more than the window: a break is told by what stands on both of its sides.
        breaks = [
            found.start()
            for found in GPT2_BREAK.finditer(text, start, window + 1)
            if found.start() > start
        ]
        if breaks:
            return breaks[-1:]
        for run in GPT2_RUNS.finditer(text, start, window + 1):
            if run.end() - run.start() > self.longest_token + 1:
                last = run.end() - 1
                return list(range(last - self.longest_token, last))
        for run in LETTER_RUNS.finditer(text, start, window + 1):
            if ends := self._between_characters(text, run.start(), run.end() - 1):
                return ends
        return []

    def _between_characters(self, text: str, first: int, last: int) -> list[int]:
        """Return places in a run of letters of which one is a boundary.

        None where that cannot be told.
        """
        raw = text[first:last].encode()
        if any(token in raw for token in self.straddling):
            return []
        ends, size = [], 0
        for end in range(last, first, -1):
            # A token that begins at any of these places must lie within the run whole.
            if size >= self.longest_token:
                ends.append(end)
            size += len(text[end - 1].encode())
            if size >= 2 * self.longest_token + LONGEST_CHARACTER:
                return ends
        return []


def straddles(token: bytes) -> bool:
    """Tell whether a token has the end of one character and the start of another in it."""
    try:
        token.decode()
    except UnicodeDecodeError:
        return any(byte & 0xC0 != 0x80 for byte in token[1:])
    return False
