"""Where the sentences of a text begin and end, by rules that a reader can check.

Rules of our own and no library: the best known ones want data from the network (wtpsplit, Punkt of
NLTK) or are no longer kept (pysbd), they do not know `<br />`, and a later version of a library
would change the sentences of a dump.
"""

import re
from collections.abc import Iterator

# 😀, ✨, flags and their like, with the marks that join or colour them; and :-) and <3.
EMOJI = "[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\u231a\u231b\u23e9-\u23fa]"
EMOTICON = r"(?:[:;=]['’]?-?[()DP/|]+|<3)(?!\w)"
FACE = rf"(?:{EMOJI}[\ufe0f\u200d\u20e3]*|{EMOTICON})"

STOPS = ".!?…‽⁇⁈⁉؟۔।॥"  # an end only before a space
CJK_STOPS = "。！？｡"  # of scripts without spaces
CLOSERS = "\"'”’“»«›)\\]}」』】）〉》"
HTML_BREAK = r"(?i:<(?:br|/?p|/?div|/?li)\s{0,4}/?>)"

# No alternative can begin inside the match of another, so that every character is read once.
CANDIDATE = re.compile(
    rf"""
    (?P<html> {HTML_BREAK} )
    | (?P<line> [\r\n\v\f\x85\u2028\u2029]\s* )
    | (?P<cjk> [{CJK_STOPS}]+ [{CLOSERS}]* )
    | (?P<stop> [{STOPS}]+ (?:[ ][{STOPS}]+)* ) (?P<closers> [{CLOSERS}]* )
      (?P<faces> (?:[ ]?{FACE})* )
    | (?P<face> {FACE} (?:[ ]?{FACE})* )
    """,
    re.VERBOSE,
)
WORD_OR_EMOJI = re.compile(rf"[^\W_]|{EMOJI}")
NEXT_WORD = re.compile(r"\s*[\"'“‘„«»‹(\[{¿¡*_-]{0,8}(\w{0,16})")

LONGEST_ABBREVIATION = 12  # characters that are looked at before a full stop
# The rest of a name, or of the sentence, follows.
NEVER_LAST = re.compile(
    r"""
    [Mm](?:r|rs|s|x|me|lle) | Messrs | [Dd]r | [Pp]rof | Hr | Sra | Sta? | Ste | Mt | Ft
    | Gen | Col | Capt | Lt | Cpl | Sgt | Maj | Cmdr | Rev | Hon | Sen | Rep | Gov | Pres | Supt
    | [Vv]s | [Ee]\.?g | [Ii]\.?e | cf | viz | al | bzw | ca | z\.B | d\.h
    """,
    re.VERBOSE,
)
# "No. 5": not the last word before a number.
NUMBERED = re.compile(r"no|nr|vol|pp?|pg|fig|ch|ep|op|art|sec|vers|v", re.IGNORECASE)
# The last word of a sentence where an upper-case letter follows.
SOMETIMES_LAST = re.compile(
    r"""
    etc | inc | ltd | co | corp | bros | dept | est | approx | min | max | jr | sr | univ | ave
    | blvd | rd | feat | orig | incl | excl | usw
    """,
    re.VERBOSE | re.IGNORECASE,
)
INITIALS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]|[A-Z]")  # U.S, a.m, J
# Initials are the last word before one of these: "the U.S. Army", but "the U.S. It was".
STARTERS = re.compile(
    r"""
    A | After | All | Also | An | And | As | At | But | For | He | Her | His | How | However
    | I | If | In | Is | It | Its | Just | My | No | Not | Now | Of | On | Or | Our | She |
    So | Some | That | The | Their | Then | There | These | They | This | Those | To | We |
    Well | What | When | Where | Which | While | Who | Why | With | Yet | You | Your
    """,
    re.VERBOSE,
)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return the sentences of a text as (start, end) in characters: `text[start:end]` is one.

    They rise and do not overlap, begin and end with a character that is no space, and hold every
    letter, digit and emoji of the text. A text of punctuation alone is one sentence, a text of
    spaces alone has none. The time grows with the length of the text, whatever it holds.

    A sentence ends

    - at a stop (`.`, `!`, `?`, `…`, several of them) with the quotes and brackets that it closes
      and the emoji after it, where a space follows or the text ends; at `。` and its like without
      a space too; and where the space was forgotten ("great.The plot");
    - not at a full stop after an abbreviation ("Mr.", "e.g."), initials ("J. K.", "the U.S. Army")
      or the number of a list ("1. The plot");
    - not before a small letter, where `…`, a closing quote or a bracket stands between;
    - at an HTML break (`<br />`, `<p>`), at an empty line, and at the end of a line, unless the
      next line begins with a small letter;
    - after emoji, where an upper-case letter follows.

    HTML breaks between sentences, and lines of punctuation alone, belong to none.

    >>> text = "Mr. Bean was fun... mostly!<br />I gave it 7.5 :-) Buy it"
    >>> [text[start:end] for start, end in sentence_spans(text)]
    ['Mr. Bean was fun... mostly!', 'I gave it 7.5 :-)', 'Buy it']
    """
    spans = []
    for start, end in _pieces(text):
        piece = text[start:end]
        start += len(piece) - len(piece.lstrip())
        end = start + len(piece.strip())
        if start < end and WORD_OR_EMOJI.search(text, start, end):
            spans.append((start, end))
    if not spans and text.strip():
        start = len(text) - len(text.lstrip())
        spans.append((start, start + len(text.strip())))
    return spans


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Yield what stands between the ends of sentences, with the spaces around it."""
    start = 0
    for found in CANDIDATE.finditer(text):
        if found["html"] is not None:
            yield start, found.start()
            start = found.end()
        elif _ends_sentence(text, start, found):
            yield start, found.end()
            start = found.end()
    yield start, len(text)


def _ends_sentence(text: str, start: int, found: re.Match[str]) -> bool:
    """Return whether the sentence from `start` ends where a candidate was found."""
    if found["cjk"] is not None:
        return True
    if found["line"] is not None:
        lines = max(found["line"].count("\n"), found["line"].count("\r"))
        return lines > 1 or not _next_word(text, found.end())[:1].islower()
    word = _next_word(text, found.end())
    if found["face"] is not None:
        return word[:1].isupper()
    after = text[found.end() : found.end() + 1]
    if after and not after.isspace() and after != "<" and not found["faces"]:
        return _space_was_forgotten(text, found)
    stop = found["stop"]
    ellipsis = stop != "." and set(stop) <= {".", "…", " "}
    if word[:1].islower() and (found["closers"] or ellipsis):
        return False
    if stop == "." and not found["closers"] and not found["faces"]:
        return not _abbreviates(text, start, found.start(), word)
    return True


def _next_word(text: str, at: int) -> str:
    """Return the beginning of the first word after a place, '' where something else follows."""
    found = NEXT_WORD.match(text, at)
    return found[1] if found else ""


def _space_was_forgotten(text: str, found: re.Match[str]) -> bool:
    """Return whether a stop without a space after it ends a sentence, as in "great.The plot".

    Two letters stand before it, and a word with a capital after it, and it is no address.
    """
    before = text[max(found.start() - LONGEST_ABBREVIATION, 0) : found.start()].split(" ")[-1]
    after = _next_word(text, found.end())
    if "www" in before or "/" in before or "@" in before:
        return False
    if not (before[-2:].isalpha() and len(before) > 1 and before[-1].islower()):
        return False
    return bool(STARTERS.fullmatch(after)) or (after[:1].isupper() and not after.isupper())


def _abbreviates(text: str, start: int, stop: int, next_word: str) -> bool:
    """Return whether the full stop at `stop` belongs to the word before it."""
    before = text[max(start, stop - LONGEST_ABBREVIATION) : stop].split()
    word = before[-1].lstrip("\"'“‘„«»‹([{") if before else ""
    if NEVER_LAST.fullmatch(word):
        return True
    if NUMBERED.fullmatch(word):
        return next_word[:1].isdigit()
    if word.isdigit():  # the number of a list
        return stop - start <= LONGEST_ABBREVIATION and text[start:stop].strip() == word
    if SOMETIMES_LAST.fullmatch(word):
        return next_word[:1].islower() or next_word[:1].isdigit()
    return bool(INITIALS.fullmatch(word)) and not STARTERS.fullmatch(next_word)
