"""The forward pass without padding gives what transformers gives, for each text as if it were
alone.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from batchsent.errors import DeviceError, ModelError, UsageError
from batchsent.model.attention import VarlenAttention, attention_by_length
from batchsent.model.batches import plan_batches
from batchsent.model.checked import load_checked, record_check
from batchsent.model.device import Device
from batchsent.model.encoder import (
    CHECK_LENGTHS,
    _check_against_reference,
    check_texts,
    make_encoder,
    packed_encoder,
)
from batchsent.model.int8 import int8_dense, require_int8
from batchsent.model.loading import identify, load_model
from batchsent.model.packed import PackedEncoder
from batchsent.model.stock import StockEncoder
from batchsent.model.tokens import make_text_encoder
from batchsent.model.weights import assemble_weights, extract_weights
from tests.encoders import (
    BIASED,
    KINDS,
    VARLEN,
    alone,
    distinct,
    reference_varlen,
    texts_of_many_lengths,
    through,
)
from tests.models import change_weights, make_model


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    """Load a tiny model of each architecture that runs packed."""
    folder = tmp_path_factory.mktemp(request.param)
    make_model(folder, request.param, labels=("a", "b", "c"))
    return load_model(identify(str(distinct(folder))), device="cpu")


@pytest.fixture(scope="module")
def texts():
    return texts_of_many_lengths()


@pytest.fixture(scope="module")
def wanted(model, texts):
    """Ask transformers about each text by itself."""
    return alone(model, texts)


@pytest.mark.parametrize("budget", [1, 64, 500, 100_000])
def test_packed_equals_transformers_to_five_digits(model, texts, wanted, budget):
    """Texts of many lengths, from one a pack to all in one, score as each does alone."""
    encoder = make_encoder(model)
    assert encoder.path == "packed"
    np.testing.assert_allclose(through(encoder, model, texts, budget, "packed"), wanted, atol=1e-5)


@pytest.mark.parametrize("model", VARLEN, indirect=True)
def test_the_varlen_way_gives_its_kernel_what_it_asks_for(model, texts, wanted):
    """The packing for CUDA's kernel, with that kernel written out, scores as transformers does."""
    encoder = PackedEncoder(
        extract_weights(model.module), "cpu", VarlenAttention(reference_varlen), "packed", "test"
    )
    np.testing.assert_allclose(through(encoder, model, texts, 700, "packed"), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "budget"), [("equal", 200), ("padded", 300), ("padded", 100_000)]
)
def test_the_stock_way_equals_transformers(model, texts, wanted, shape, budget):
    """Equal lengths without padding, and padded batches with a mask, score as each text does alone."""
    encoder = StockEncoder(model, shape, "test")
    np.testing.assert_allclose(through(encoder, model, texts, budget, shape), wanted, atol=1e-5)


def test_a_score_does_not_depend_on_the_neighbours(model):
    """On a CPU a text's score has the same bits alone, beside some texts and beside others."""
    encoder = make_encoder(model)
    text = "the plot was boring"
    wanted = through(encoder, model, [text], 1, "packed")[0]
    for seed in range(4):
        texts = [text, *texts_of_many_lengths(12, seed)]
        for budget in (100, 100_000):
            found = through(encoder, model, texts, budget, "packed")[0]
            assert found.tobytes() == wanted.tobytes()


def test_a_model_read_from_its_files_alone_scores_the_same_bits(model, texts):
    """Without transformers, once its check is recorded; with another name in the files not at all."""
    encoder = make_encoder(model)
    record_check(model)
    again = load_checked(model.identity, model.device, model.max_length)
    found, wanted = (
        through(encoder, model, texts, 500, "packed") for encoder in (make_encoder(again), encoder)
    )
    assert found.tobytes() == wanted.tobytes()
    kind, config = type(model.module).__name__, model.module.config
    tensors = dict(model.module.state_dict())
    tensors["classifier.other"] = tensors.pop(next(name for name in tensors if "layer" in name))
    with pytest.raises(KeyError):
        assemble_weights(kind, config, tensors)


def leaking(queries, keys, values, pack, positions, *, first_only):
    """Let every text see its neighbours, as SDPA does when it is given a pack."""
    q, k, v = (part.transpose(0, 1) for part in (queries, keys, values))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(0, 1)


def failing(queries, keys, values, pack, positions, *, first_only):
    raise NotImplementedError("no kernel for this GPU")


@pytest.mark.parametrize(
    ("attention", "said"), [(leaking, "differs from transformers"), (failing, "failed here")]
)
def test_a_packed_way_that_is_wrong_is_not_used(model, attention, said):
    """Texts that see each other, or a kernel that is not there, are found when the model loads."""
    packed = PackedEncoder(extract_weights(model.module), "cpu", attention, "packed", "test")
    assert said in _check_against_reference(packed, StockEncoder(model, "equal", "test"), model)


def test_the_check_at_load_accepts_the_right_way(model):
    """The same check passes the real thing, and its texts have unequal lengths."""
    packed = PackedEncoder(
        extract_weights(model.module), "cpu", attention_by_length, "packed", "test"
    )
    assert _check_against_reference(packed, StockEncoder(model, "equal", "test"), model) is None
    assert len(set(CHECK_LENGTHS)) > 2


def wrong_beyond(tokens):
    """Attention that forgets the first token of texts longer than this."""

    def attend(queries, keys, values, pack, positions, *, first_only):
        if pack.longest > tokens:
            values = values.clone()
            values[pack.starts[:-1].long()] = 0
        return attention_by_length(queries, keys, values, pack, positions, first_only=first_only)

    return attend


def test_the_check_at_load_reaches_the_models_limit(model):
    """A forward pass that is right for short texts only is found when the model loads."""
    stock = StockEncoder(model, "equal", "test")
    for tokens, found in ((60, True), (64, False)):
        parts = extract_weights(model.module)
        packed = PackedEncoder(parts, "cpu", wrong_beyond(tokens), "packed", "test")
        assert (_check_against_reference(packed, stock, model) is not None) == found
    ids, lengths = check_texts(model)
    assert lengths.max() == 64
    assert lengths.sum() == len(ids)


class Says:
    """An encoder whose first and last logit are this far apart for every text."""

    shape, pack_tokens = "packed", None

    def __init__(self, distance):
        self.distance = distance

    def logits(self, ids, lengths):
        signs = torch.tensor([1.0 if n % 2 else -1.0 for n in lengths])
        return torch.stack([signs, 0 * signs, -signs], dim=1) * self.distance / 2


def test_the_check_at_load_compares_logits(model):
    """Probabilities of 1 hide what their logits show; a share of the logits' spread is allowed."""
    assert torch.equal(*(torch.softmax(Says(n).logits(None, [3, 2]), dim=1) for n in (250, 300)))
    said = _check_against_reference(Says(250), Says(300), model)
    assert "differs from transformers by 0.2 of the logits' spread" in said
    assert _check_against_reference(Says(300.01), Says(300), model) is None
    # Logits of a model that was never trained: the differences count for themselves.
    assert _check_against_reference(Says(0.00101), Says(0.001), model) is None


def no_memory(queries, keys, values, pack, positions, *, first_only):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


def test_no_memory_for_the_check_is_a_device_error(model):
    """What has no room for one long text has none for scoring: no other way is tried in silence."""
    packed = PackedEncoder(extract_weights(model.module), "cpu", no_memory, "packed", "test")
    with pytest.raises(DeviceError, match="with a text of 64 tokens, failed: CUDA out of memory"):
        _check_against_reference(packed, StockEncoder(model, "equal", "test"), model)


def test_a_packed_way_that_fails_is_a_warning_with_its_first_line(tmp_path):
    """A model that only transformers can run scores right, and says why it is slow."""
    model = load_model(identify(str(make_model(tmp_path / "model", "bert"))), device="cpu")
    # A dense layer that the packed forward pass cannot put together with its neighbours.
    attention = model.module.bert.encoder.layer[0].attention.self
    attention.key.bias = None
    encoder = make_encoder(model)
    assert encoder.path == "transformers, equal lengths"
    assert encoder.warning.startswith(
        "scoring is slow, the model does not run packed: it failed here (TypeError: "
    )
    assert "\n" not in encoder.warning
    whole = load_model(model.identity, device="cpu")
    assert make_encoder(whole).warning is None


# --- models that are not finite


def load_spoilt(folder, value, precision="float32"):
    """Put a number into every row of the first dense layer and load the model."""
    names = {"distilbert": "distilbert.transformer.layer.0.ffn.lin1.weight"}
    name = names.get(folder.name, "roformer.encoder.layer.0.intermediate.dense.weight")
    change_weights(folder, name, lambda weight: weight[:, 0].fill_(value))
    return load_model(identify(str(folder)), device="cpu", precision=precision)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_k04_a_model_of_nan_is_refused_when_it_loads(tmp_path, value, precision):
    """K04: no finite number for the texts of the check: exit 6, in every format."""
    folder = make_model(tmp_path / "distilbert")
    try:
        model = load_spoilt(folder, value, precision)
    except UsageError as reason:
        pytest.skip(str(reason))
    with pytest.raises(ModelError, match="gives no finite number for 5 of 5 test texts") as caught:
        make_encoder(model)
    assert caught.value.exit_code == 6


def test_k04_a_model_of_nan_is_refused_as_transformers_runs_it(tmp_path):
    """K04: an architecture that is not taken apart is checked like the others."""
    folder = make_model(tmp_path / "roformer", "roformer")
    with pytest.raises(ModelError, match="gives no finite number"):
        make_encoder(load_spoilt(folder, float("nan")))


def test_a_model_that_does_not_run_is_an_error_of_the_model(tmp_path):
    """A forward pass that fails is told when the model loads, not later as "a bug"."""
    model = load_model(identify(str(make_model(tmp_path / "model"))), device="cpu")
    model.module.distilbert.embeddings.LayerNorm = torch.nn.LayerNorm(31)
    with pytest.raises(ModelError, match="does not run: "):
        make_encoder(model)


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu", "gelu_pytorch_tanh"])
def test_other_activations_run_packed_too(tmp_path, activation):
    """The activation is the model's own, fused or not."""
    folder = make_model(tmp_path / "model", "bert", labels=("a", "b", "c"), hidden_act=activation)
    model = load_model(identify(str(folder)), device="cpu")
    encoder = make_encoder(model)
    texts = texts_of_many_lengths(12)
    assert encoder.path == "packed"
    np.testing.assert_allclose(
        through(encoder, model, texts, 700, "packed"), alone(model, texts), atol=1e-5
    )


# Settings that change what an architecture computes, beside those of tests/models.py.
SETTINGS = [
    ("distilbert", {"n_layers": 1}),
    ("electra", {"embedding_size": 32}),
    ("albert", {"inner_group_num": 2, "hidden_act": "gelu_new"}),
    ("modernbert", {"num_hidden_layers": 2}),  # whose last block has a window
    ("modernbert", {"num_hidden_layers": 2, "classifier_pooling": "mean"}),
    ("modernbert", {"attention_bias": True, "mlp_bias": True, "norm_bias": True}),
    ("deberta", {"share_att_key": False, "position_biased_input": True, "type_vocab_size": 2}),
    ("deberta", {"pos_att_type": ["c2p"], "position_buckets": -1, "norm_rel_ebd": "none"}),
    ("deberta", {"pos_att_type": ["p2c"], "share_att_key": False, "max_relative_positions": 40}),
    ("deberta", {"relative_attention": False, "position_biased_input": True}),
]


@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
def test_settings_of_an_architecture_are_seen(tmp_path, kind, settings):
    """Packed, each scores as transformers does, and is read from its files alone too."""
    folder = distinct(make_model(tmp_path / "model", kind, labels=("a", "b", "c"), **settings))
    model = load_model(identify(str(folder)), device="cpu")
    texts = texts_of_many_lengths(12)
    encoder = make_encoder(model)
    assert encoder.path == "packed", encoder.reason
    found = through(encoder, model, texts, 700, "packed")
    np.testing.assert_allclose(found, alone(model, texts), atol=1e-5)


# What cannot run packed, and why.
NOT_PACKED = [
    ("roformer", {}, "RoFormerForSequenceClassification is not one of the architectures"),
    ("deberta", {"conv_kernel_size": 3}, "its first block has a convolution over neighbouring"),
    ("deberta", {"embedding_size": 16}, "its embeddings are widened before they are normalized"),
    (
        "modernbert",
        {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}},
        "its rotary positions are of the type linear",
    ),
]


@pytest.mark.parametrize(("kind", "settings", "why"), NOT_PACKED)
def test_what_cannot_run_packed_runs_as_transformers_has_it(tmp_path, kind, settings, why):
    """It scores right, and the reason is said."""
    folder = make_model(tmp_path / "model", kind, labels=("a", "b", "c"), **settings)
    model = load_model(identify(str(folder)), device="cpu")
    encoder = make_encoder(model)
    assert encoder.path == "transformers, equal lengths"
    assert f"; not packed: {why}" in encoder.reason
    assert encoder.warning is None
    texts = texts_of_many_lengths(12)
    np.testing.assert_allclose(
        through(encoder, model, texts, 300, "equal"), alone(model, texts), atol=1e-5
    )


@pytest.mark.parametrize("model", BIASED, indirect=True)
def test_a_bias_for_distances_is_not_packed_on_a_gpu(model):
    """The kernel for packs has no place for it: such a model runs there as transformers has it."""
    gpu = Device("cuda:0", "NVIDIA H200", "float16", "a test", (9, 0), 10**11)
    with pytest.raises(UsageError, match="cannot add a bias for the distance of tokens"):
        packed_encoder(replace(model, device=gpu))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_float16_on_a_gpu_agrees_with_float32_on_the_cpu(tmp_path, kind):
    """On CUDA the packed pass is taken from compute capability 8.0 on, and stays within 0.02 of
    float32.
    """
    folder = make_model(tmp_path / kind, kind, labels=("a", "b", "c"))
    texts = texts_of_many_lengths(200)
    exact = alone(load_model(identify(str(folder)), device="cpu"), texts)
    model = load_model(identify(str(folder)), device="cuda")
    encoder = make_encoder(model)
    if torch.cuda.get_device_capability() >= (8, 0):
        assert encoder.path == "packed, varlen attention", encoder.reason
    tokens = make_text_encoder(model.tokenizer, 64).encode(texts)
    results = np.full((len(texts), 3), np.nan, dtype=np.float32)
    for rows in plan_batches(tokens.lengths, 2_000, encoder.shape):
        results[rows] = encoder.probabilities(tokens.take(rows), tokens.lengths[rows]).cpu().numpy()
    np.testing.assert_allclose(results, exact, atol=0.02)


# --- int8


@pytest.fixture(scope="module")
def int8_possible():
    """Skip where the CPU has no 8-bit kernels."""
    try:
        require_int8()
    except UsageError as reason:
        pytest.skip(str(reason))


def test_int8_is_what_its_description_says(int8_possible):
    """A dense layer in int8 equals the same rounding written out in float."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(96, 160)
    states = torch.randn(50, 96) * torch.logspace(-2, 2, 50)[:, None]
    states[7] = 0
    with torch.inference_mode():
        weight_scale = linear.weight.abs().amax(1, keepdim=True) / 127
        scale = states.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
        products = (states / scale).round() @ (linear.weight / weight_scale).round().T
        wanted = products * scale * weight_scale.T + linear.bias
        got = int8_dense([linear], None)(states)
        activated = int8_dense([linear], "gelu")(states)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(activated, torch.nn.functional.gelu(wanted), rtol=1e-4, atol=1e-4)


def test_int8_stays_near_float32_and_apart_from_neighbours(int8_possible, tmp_path):
    """Probabilities move little, labels keep, and a score does not depend on the texts beside it."""
    folder = make_model(
        tmp_path / "model", "bert", labels=("a", "b", "c"), hidden_size=64, intermediate_size=128
    )
    model = load_model(identify(str(folder)), precision="int8")
    encoder = make_encoder(model)
    assert encoder.path == "packed, int8"
    texts = texts_of_many_lengths()
    wanted = alone(model, texts)
    together = through(encoder, model, texts, 100_000, "packed")
    apart = through(encoder, model, texts, 1, "packed")
    assert np.abs(together - wanted).max() < 0.1
    clear = np.sort(wanted, axis=1)[:, -1] - np.sort(wanted, axis=1)[:, -2] > 0.1
    assert (together.argmax(1) == wanted.argmax(1))[clear].all()
    np.testing.assert_allclose(together, apart, atol=2e-3)


def test_int8_of_an_architecture_that_is_not_taken_apart_is_refused(int8_possible, tmp_path):
    """Asked for by name, int8 is refused rather than replaced."""
    folder = make_model(tmp_path / "model", "roformer")
    model = load_model(identify(str(folder)), precision="int8")
    with pytest.raises(UsageError, match="does not run in int8"):
        make_encoder(model)


def test_int8_on_a_gpu_is_refused(tmp_path):
    """On a GPU there is float16; int8 is for CPUs."""
    folder = make_model(tmp_path / "model")
    with pytest.raises(UsageError, match=r"int8 requires a CPU\n"):
        load_model(identify(str(folder)), device="cuda", precision="int8")
