"""Packs of one size: filled up, so that a score has the same bits whatever else is in its pack."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from batchsent.chunk import PENDING
from batchsent.errors import DeviceError
from batchsent.model.attention import VarlenAttention
from batchsent.model.batches import TOKENS_OF_A_TEXT, plan_batches
from batchsent.model.dense import find_activation, join_linears
from batchsent.model.early_exit import EarlyExit
from batchsent.model.encoder import packed_on_cpu
from batchsent.model.loading import identify, load_model
from batchsent.model.packed import PackedEncoder
from batchsent.model.packs import PackSize, make_pack
from batchsent.model.scorer import ModelScorer
from batchsent.model.tokens import make_text_encoder
from batchsent.model.weights import extract_weights
from batchsent.run.device_stamp import stamp_of
from tests.character_model import FirstCharacter, score, scorer_of
from tests.encoders import (
    KINDS,
    VARLEN,
    alone,
    distinct,
    reference_varlen,
    texts_of_many_lengths,
    through,
)
from tests.models import make_model

SIZE = PackSize(192, 64)


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    """Load a tiny model of each architecture that runs packed."""
    folder = tmp_path_factory.mktemp(request.param)
    make_model(folder, request.param, labels=("a", "b", "c"))
    return load_model(identify(str(distinct(folder))), device="cpu")


@pytest.mark.parametrize("tokens", [64, 192, 1_000])
def test_filler_changes_no_score(model, tokens):
    """Every architecture scores as transformers does, in packs with and without room for more."""
    texts = texts_of_many_lengths(30)
    encoder = packed_on_cpu(model, size=PackSize(tokens, 64))
    found = through(encoder, model, texts, tokens, encoder.shape)
    np.testing.assert_allclose(found, alone(model, texts), atol=1e-5)


@pytest.mark.parametrize("tokens", [64, 1_000])
def test_filler_is_in_no_mean(tokens, tmp_path):
    """A head that reads the mean of a text's tokens reads no filler."""
    folder = make_model(tmp_path, "modernbert", labels=("a", "b", "c"), classifier_pooling="mean")
    model = load_model(identify(str(folder)), device="cpu")
    texts = texts_of_many_lengths(12)
    encoder = packed_on_cpu(model, size=PackSize(tokens, 64))
    found = through(encoder, model, texts, tokens, encoder.shape)
    np.testing.assert_allclose(found, alone(model, texts), atol=1e-5)


@pytest.mark.parametrize("model", VARLEN, indirect=True)
def test_the_kernel_for_packs_gets_the_filler_as_texts_of_their_own(model):
    """No sequence is longer than the model reads, and the pack ends with the last one."""
    attention = VarlenAttention(reference_varlen)
    weights = extract_weights(model.module)
    encoder = PackedEncoder(weights, "cpu", attention, "packed", "test", size=SIZE)
    texts = texts_of_many_lengths(12)
    found = through(encoder, model, texts, SIZE.tokens, encoder.shape)
    np.testing.assert_allclose(found, alone(model, texts), atol=1e-5)


def test_a_pack_is_filled_up():
    """Two texts of 50 and 3 tokens in 200: filler of 64, 64 and 19; room for twelve texts."""
    pack = make_pack(np.array([50, 3]), "cpu", PackSize(200, 64))
    assert list(pack.lengths) == [50, 3, 64, 64, 19]
    assert pack.starts.tolist() == [0, 50, 53, 117, 181, 200]
    assert pack.first.tolist() == [0, 50] + [0] * 10
    assert pack.places[48:56].tolist() == [48, 49, 0, 1, 2, 0, 1, 2]
    assert (pack.texts, pack.longest) == (2, 64)
    texts = pack.without_filler()
    assert (list(texts.lengths), texts.starts.tolist(), texts.longest) == ([50, 3], [0, 50, 53], 64)
    assert list(make_pack(np.array([50, 14]), "cpu", PackSize(64, 64)).lengths) == [50, 14]


@settings(max_examples=100)
@given(lengths=st.lists(st.integers(1, 50), max_size=60), tokens=st.integers(50, 300))
def test_every_text_is_whole_in_one_pack(lengths, tokens):
    """Longest first, within the size, and no more texts than a pack has rows for."""
    sizes = np.array(lengths, dtype=np.int64)
    plan = plan_batches(sizes, tokens, "constant")
    assert sorted(row for batch in plan for row in batch) == list(range(len(lengths)))
    for batch in plan:
        assert sizes[batch].sum() <= tokens
        assert len(batch) <= tokens // TOKENS_OF_A_TEXT == PackSize(tokens, 50).texts


class ByRows:
    """Products whose last bits depend on how many rows they have, as cuBLASLt's do."""

    def __init__(self):
        self.rows = set()

    def __call__(self, modules, activation):
        weight, bias = join_linears(modules)
        act = find_activation(activation) if activation else torch.nn.Identity()
        inputs = weight.shape[1]

        def multiply(states):
            self.rows.add((inputs, len(weight), len(states)))
            total = torch.zeros(len(states), len(weight))
            for number in range(inputs):  # in an order that the number of rows decides
                place = (number + len(states)) % inputs
                total += states[:, place, None] * weight[:, place]
            return act(total if bias is None else total + bias)

        return multiply


def scorer_with(model, dense, size=SIZE, budget=192, rule=None):
    """Return a scorer of a model with other products, and without a size in packs as they come."""
    encoder = packed_on_cpu(model, dense, size)
    encoder.early_exit = rule
    return ModelScorer(model, encoder, make_text_encoder(model.tokenizer, 64), budget)


def bits(scorer, texts, **options):
    return [row.tobytes() for row in score(scorer, texts, **options).probabilities]


RULES = {
    "all layers": None,
    "early exit": EarlyExit(
        1,
        0.5,
        np.random.default_rng(0).normal(scale=0.1, size=(3, 32)).astype(np.float32),
        np.zeros(3, np.float32),
    ),
}


@pytest.mark.parametrize("model", ["distilbert", "bert", "modernbert"], indirect=True)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_score_has_the_same_bits_beside_any_others(model, rule):
    """Alone, among others, in another order and finished after a stop; packs as they come give other
    last bits, so that this test can fail.
    """
    texts = list(dict.fromkeys(texts_of_many_lengths(24)))
    products = ByRows()
    scorer = scorer_with(model, products, rule=rule)
    wanted = bits(scorer, texts)
    assert bits(scorer, texts[::-1]) == wanted[::-1]
    assert bits(scorer, texts[:1]) == wanted[:1]
    assert bits(scorer, [*texts[5:8], "a great film"])[:3] == wanted[5:8]
    stops = iter([False, True])
    half = score(scorer, texts, stop=lambda: next(stops))
    assert 0 < (half.status == PENDING).sum() < len(texts)
    assert bits(scorer, texts, done=half) == wanted
    # All tokens of a pack, and a row for each text that it may have; after an exit a third.
    assert {rows for *_, rows in products.rows} == ({192, 64, 4} if rule else {192, 12})
    loose = scorer_with(model, ByRows(), size=None, rule=rule)
    assert bits(loose, texts[:1]) != bits(loose, texts)[:1]


@pytest.mark.parametrize("model", ["distilbert"], indirect=True)
def test_texts_leave_early_in_filled_packs_too(model):
    """The same ones, with the same scores to rounding."""
    texts = list(dict.fromkeys(texts_of_many_lengths(40)))
    filled, loose = (
        scorer_with(model, None, size, rule=RULES["early exit"]) for size in (SIZE, None)
    )
    found, wanted = (score(scorer, texts).probabilities for scorer in (filled, loose))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert 0 < filled.encoder.early_exits == loose.encoder.early_exits < len(texts)


@pytest.mark.parametrize("model", ["distilbert"], indirect=True)
def test_the_summary_and_the_stamp_of_kept_scores_say_the_size(model):
    """Scores of packs of another size are not mixed in; --batch-tokens names the size."""
    scorer = scorer_with(model, None, PackSize(256, 64), budget=None)
    score(scorer, ["a great film", "a bad book"])
    device = scorer.facts()["device"]
    assert device["pack_tokens"] == device["batch_tokens"] == 256
    assert device["padding_share"] > 0.9
    stamps = [
        stamp_of(scorer_with(model, None, size, 256)) for size in (PackSize(256, 64), SIZE, None)
    ]
    assert [stamp["pack_tokens"] for stamp in stamps] == [256, 192, None]
    assert len({str(sorted(stamp.items(), key=str)) for stamp in stamps}) == 3


def test_g01_a_pack_of_one_size_is_not_split():
    """Half of it would be as large: the error says what to lower."""
    encoder = FirstCharacter(memory=30, shape="constant")
    encoder.pack_tokens = 64
    scorer = scorer_of(encoder)
    with pytest.raises(DeviceError, match="no memory for a pack of 64 tokens") as caught:
        score(scorer, ["0" * 20, "1" * 20])
    assert "lower --batch-tokens" in caught.value.hint
    assert scorer.facts()["device"]["oom_backoffs"] == 0
