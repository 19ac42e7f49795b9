"""Where sentences begin and end: a table of ugly texts, and what holds for every text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsent.sentences import sentence_spans

UGLY = {
    "nothing": ("", []),
    "spaces alone": (" \n\t", []),
    "punctuation alone is one sentence": (" !!! ...\n*** ", ["!!! ...\n***"]),
    "emoji alone": ("👍🏽👍🏽", ["👍🏽👍🏽"]),
    "no punctuation at all": ("loved it so much", ["loved it so much"]),
    "small letters only": ("great film. loved it. meh", ["great film.", "loved it.", "meh"]),
    "titles": (
        "Mr. Bean met Dr. Who and Mrs. Hall. St. Ives vs. Rome.",
        ["Mr. Bean met Dr. Who and Mrs. Hall.", "St. Ives vs. Rome."],
    ),
    "abbreviations": (
        "Some actors, e.g. Brando, i.e. The best, cost more. Fine.",
        ["Some actors, e.g. Brando, i.e. The best, cost more.", "Fine."],
    ),
    "etc inside and at the end": (
        "The acting, plot, etc. was good. Songs etc. Never again.",
        ["The acting, plot, etc. was good.", "Songs etc.", "Never again."],
    ),
    "initials": (
        "J. K. Rowling and D.W. Griffith in the U.S. Army. I saw the U.S. It was at 5 p.m. today.",
        [
            "J. K. Rowling and D.W. Griffith in the U.S. Army.",
            "I saw the U.S.",
            "It was at 5 p.m. today.",
        ],
    ),
    "No. before a number, and no": (
        "No. 5 is alive. Was it good? No. I left.",
        ["No. 5 is alive.", "Was it good?", "No.", "I left."],
    ),
    "numbers": (
        "It costs 3.50, or $1.000.000. I give it 7. Ok, 7.5.",
        ["It costs 3.50, or $1.000.000.", "I give it 7.", "Ok, 7.5."],
    ),
    "numbers of a list": (
        "1. The plot. 2. The cast.\n3. The end",
        ["1. The plot.", "2. The cast.", "3. The end"],
    ),
    "ellipses": (
        "Well... it was fun... Really… not bad… Next . . . but slow. Right?",
        ["Well... it was fun...", "Really… not bad…", "Next . . . but slow.", "Right?"],
    ),
    "many stops": ("What?! No!!! Never ! ! ! Ok", ["What?!", "No!!!", "Never ! ! !", "Ok"]),
    "quotes and brackets after the stop": (
        '"Stop!" he said. "No." She left. (Really!) Good. “Fin.” ‘So.’ End',
        ['"Stop!" he said.', '"No."', "She left.", "(Really!)", "Good.", "“Fin.”", "‘So.’", "End"],
    ),
    "a bracket that goes on": ("A (really!) good film.", ["A (really!) good film."]),
    "HTML breaks": (
        "One.<br />Two<br><BR/>three.<br /><br />Four<p>Five</p>",
        ["One.", "Two", "three.", "Four", "Five"],
    ),
    "a line of stars is no sentence": ("Good.<br />*****<br />Bad.", ["Good.", "Bad."]),
    "other tags are text": (
        "A <b>bold</b> film. <i>Fine</i>",
        ["A <b>bold</b> film.", "<i>Fine</i>"],
    ),
    "lines": (
        "Pros: all\nCons: none\n- loud\r\n\r\nin the end",
        ["Pros: all", "Cons: none", "- loud", "in the end"],
    ),
    "hard-wrapped lines": ("a line that\ngoes on here", ["a line that\ngoes on here"]),
    "emoji end a sentence before a capital": (
        "Loved it 😀 Would buy ❤️ it 👍🏽 Yes! 😀 next",
        ["Loved it 😀", "Would buy ❤️ it 👍🏽", "Yes! 😀", "next"],
    ),
    "smileys": ("Nice :-) Buy it. :) I love it <3", ["Nice :-)", "Buy it. :)", "I love it <3"]),
    "no space after the stop": (
        "It is great.The plot too!I loved it",
        ["It is great.", "The plot too!", "I loved it"],
    ),
    "addresses": (
        "See www.Example.com, http://a.b/x?Y=1 and me@Mail.Example.org. Bye",
        ["See www.Example.com, http://a.b/x?Y=1 and me@Mail.Example.org.", "Bye"],
    ),
    "Chinese and Japanese": (
        "素晴らしい。でも長い！「はい。」終わり",
        ["素晴らしい。", "でも長い！", "「はい。」", "終わり"],
    ),
    "Spanish": ("¿Qué? ¡Bien! Adiós.", ["¿Qué?", "¡Bien!", "Adiós."]),
    "German": (
        "Nr. 5 ist z.B. Gold usw. wert. Ja. »Gut.« Nein",
        ["Nr. 5 ist z.B. Gold usw. wert.", "Ja.", "»Gut.«", "Nein"],
    ),
    "Hindi": ("अच्छी फिल्म। बहुत लंबी।", ["अच्छी फिल्म।", "बहुत लंबी।"]),
    "Arabic": ("هل هو جيد؟ نعم.", ["هل هو جيد؟", "نعم."]),
}

# Texts of the pieces that the rules look at, so that hypothesis meets their combinations.
WORDS = ["Mr", "e.g", "U.S", "5", "a", "The", "word", "_", "*", "\u200b", "\ud800"]
ENDS = [
    " ",
    "\n",
    "\r\n",
    ".",
    "...",
    "…",
    "!",
    "?",
    '"',
    ")",
    "(",
    "<br />",
    "<",
    "。",
    "😀",
    ":-)",
]
PIECES = st.lists(st.sampled_from(WORDS + ENDS), max_size=40).map("".join)


@pytest.mark.parametrize("name", UGLY)
def test_sentences_of_ugly_texts(name):
    """A text falls into the sentences that a reader would see."""
    text, expected = UGLY[name]
    assert [text[start:end] for start, end in sentence_spans(text)] == expected


@given(st.one_of(st.text(), PIECES))
def test_every_word_of_a_text_is_in_one_sentence(text):
    """Sentences rise, do not overlap, begin and end with what is no space, and leave out neither
    letters nor digits.
    """
    spans = sentence_spans(text)
    left_out = list(text)
    last = 0
    for start, end in spans:
        assert last <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        left_out[start:end] = " " * (end - start)
        last = end
    between = re.sub(r"<(?:br|/?p|/?div|/?li)\s*/?>", " ", "".join(left_out), flags=re.IGNORECASE)
    assert not re.search(r"[^\W_]", between)
    assert bool(spans) == bool(text.strip())


@given(PIECES)
def test_a_sentence_by_itself_holds_its_words(text):
    """What is cut out of a text is never empty: it can be scored."""
    assert all(sentence_spans(text[start:end]) for start, end in sentence_spans(text))


@pytest.mark.parametrize(
    ("piece", "sentences"),
    [
        *[(piece, 1) for piece in ("a ", "Mr. ", "U.S. ", "<", "😀 ", '."', "。")],
        *[(piece, 100_000) for piece in ("Ok. ", "Ok<br />", "a\n\n")],
        (" ", 0),
        ("1. ", 50_000),
    ],
)
def test_a_text_of_any_length_is_read_once(piece, sentences):
    """A hundred thousand of anything: a rule that looks back or ahead each time would not end."""
    assert len(sentence_spans(piece * 100_000)) == sentences
