"""Choose the fastest right way to run a model: token ids of a batch to label probabilities.

The forward pass without padding is checked against transformers' own when the model loads; where
they disagree, or it fails, the model runs as transformers runs it, and the summary says so. A model
that was checked here before (checked.py) comes without transformers' module, and is not checked
again.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batchsent.errors import BatchsentError, DeviceError, ModelError, UsageError
from batchsent.model import early_exit
from batchsent.model.attention import (
    VarlenAttention,
    attention_by_length,
    has_varlen,
)
from batchsent.model.batches import Shape, plan_batches
from batchsent.model.budget import default_budget
from batchsent.model.dense import MakeDense, dense_of, why_not
from batchsent.model.device import Device, breaks_device, device_error, lacks_memory
from batchsent.model.files import sha256_of_all
from batchsent.model.loading import LoadedModel, ModelIdentity, load_module
from batchsent.model.packed import PackedEncoder
from batchsent.model.packs import PackSize
from batchsent.model.parts import EncoderWeights, NotPacked
from batchsent.model.stock import StockEncoder
from batchsent.model.weight_files import weight_files
from batchsent.model.weights import extract_weights
from batchsent.precisions import PRECISIONS
from batchsent.text import first_line, printable

# A model that was never trained gives all texts nearly the same logits: its differences are held
# against this.
LEAST_SPREAD = 0.1
# Tokens of a pack on a GPU. Their states stay in the cache of an H200 (50 MB), and the largest
# product is 11.6 rounds of its 132 processors. A prediction: not measured yet.
PACK_TOKENS = 16_384
# The check's texts, beside one as long as the model reads: unequal lengths, so that a text that
# sees its neighbour is caught; few, since each pass reads all weights.
CHECK_LENGTHS = (17, 9, 9, 2)

# The forward pass without padding takes modules apart and calls parts of torch that are not
# documented yet: any failure means that it cannot be used here.
FAILURES = (
    RuntimeError,
    NotImplementedError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    MemoryError,
)
# For an error that would come again with the same command.
BROKEN_HINT = (
    "batchsent info MODEL --check finds out what works here; --device cpu does without the GPU"
)


class Encoder(Protocol):
    """One way to run a model."""

    shape: Shape  # how batches must be made for it
    pack_tokens: int | None  # tokens of every pass, filler included; None where they differ
    path: str  # its name in the summary
    reason: str  # why this one, for people
    warning: str | None  # why it is slower than it should be
    early_exit: early_exit.EarlyExit | None  # the rule by which texts skip layers
    early_exits: int  # texts and windows so far that skipped layers

    def probabilities(self, ids: NDArray[np.int32], lengths: NDArray[np.int64]) -> Any:
        """Return a (texts, labels) float32 tensor on the device.

        `ids` holds the texts' tokens one after the other, `lengths` how many belong to each. On an
        accelerator the result may still be being computed.
        """


class CheckedEncoder(Encoder, Protocol):
    """An encoder whose logits can be held against another's."""

    def logits(self, ids: NDArray[np.int32], lengths: NDArray[np.int64]) -> Any:
        """Return (texts, labels) float32 on the device: what softmax makes probabilities of."""


def make_encoder(model: LoadedModel, batch_tokens: int | None = None) -> Encoder:
    """Return the fastest way to run a model on its device that gives the same as transformers does.

    `batch_tokens` is the size of the packs where they have one size [default: PACK_TOKENS]. Raises
    ModelError for a model that does not run or gives no finite numbers, DeviceError where there is
    no room for the texts that this is found out with.
    """
    device = model.device
    _check_early_exit(model)
    if model.module is None:
        return _packed(model, batch_tokens)
    if PRECISIONS[device.precision].opt_in:
        return _by_name(model, batch_tokens)
    stock = stock_encoder(model)
    packed, failure = None, None
    try:
        obstacle = _why_not_packed(model)
        if obstacle is None:
            packed = _packed(model, batch_tokens)
    except FAILURES as error:
        obstacle = failure = _describe_failure(model, error)
    if packed is None:
        _reference(stock, model)
    else:
        obstacle = failure = _check_against_reference(packed, stock, model)
        if obstacle is None:
            return packed
    if failure is not None:
        stock.warning = f"scoring is slow, the model does not run packed: {failure}"
    stock.reason += f"; not packed: {obstacle}"
    return stock


def _check_early_exit(model: LoadedModel) -> None:
    """Raise ModelError where a model has an early exit that does not fit it."""
    rule = model.identity.early_exit
    if rule is None:
        return
    wanted = rule.weight.shape[1]
    try:
        weights = _weights(model)
        if weights.width == wanted and rule.layer < len(weights.layers):
            return
        wrong = f"it stands after layer {rule.layer:,}, the model has {len(weights.layers)}"
        if weights.width != wanted:
            wrong = f"it is about states of {wanted:,} numbers, those of the model have "
            wrong += f"{weights.width:,}"
    except NotPacked:
        wrong = f"{printable(model.identity.architecture)} is not one of the architectures with it"
    raise ModelError(
        f"{printable(model.identity.path / early_exit.FILE)} does not fit the model: {wrong}",
        hint="copy or download the model again, or remove the file",
    )


def packed_encoder(model: LoadedModel, batch_tokens: int | None = None) -> PackedEncoder:
    """Return the forward pass without padding, unchecked.

    Raises UsageError where the model or the device has none.
    """
    obstacle = _why_not_packed(model)
    if obstacle is not None:
        raise UsageError(f"not packed: {obstacle}")
    return _packed(model, batch_tokens)


def stock_encoder(model: LoadedModel) -> StockEncoder:
    """Return the model as transformers runs it, without padding where that is faster."""
    if model.device.kind == "cpu":
        return StockEncoder(model, "equal", "texts of equal length together, so without padding")
    return StockEncoder(model, "padded", "texts of near-equal length together")


def float32_encoder(
    identity: ModelIdentity, tokenizer: Any, device: Device, max_length: int
) -> Encoder:
    """Load a model once more, in float32, for texts that half precision gives no finite number for.

    Raises ModelError where the folder no longer holds the same weights, or float32 gives no finite
    number either, DeviceError where there is no room for it.
    """
    if sha256_of_all(weight_files(identity.path)) != identity.weights_sha256:
        raise ModelError(
            f"{printable(identity.path)} changed since the run began",
            hint="score again with the model as it is now",
        )
    exact = replace(device, precision="float32", reason="for what half precision cannot hold")
    module = load_module(identity, exact)
    return make_encoder(LoadedModel(identity, module, tokenizer, exact, max_length, module.config))


def reference_encoder(model: LoadedModel, open_float32: Callable[[], Encoder]) -> Encoder | None:
    """Return what a run compares its first texts with: float32, for formats taken by name."""
    precision = PRECISIONS[model.device.precision]
    if not precision.opt_in:
        return None
    return open_float32() if precision.is_half else packed_on_cpu(model)  # of the same weights


def _by_name(model: LoadedModel, batch_tokens: int | None) -> PackedEncoder:
    """Return the encoder of a format that is taken by name only.

    Raises UsageError for a model that cannot run so, since it was asked for by name.
    """
    name = model.device.precision
    obstacle = _why_not_packed(model)
    if obstacle is None:
        packed = _packed(model, batch_tokens)
        exact = stock_encoder(model) if PRECISIONS[name].is_half else packed_on_cpu(model)
        obstacle = _check_against_reference(packed, exact, model)
        if obstacle is None:
            return packed
    other = "float32" if model.device.kind == "cpu" else "float16"
    raise UsageError(
        f"this model does not run in {name}: {obstacle}", hint=f"use --precision {other}"
    )


def packed_on_cpu(
    model: LoadedModel, dense: MakeDense | None = None, size: PackSize | None = None
) -> PackedEncoder:
    """Return the packed encoder for a CPU, with dense layers made by `dense`, or exact ones.

    Packs have a `size` in tests only: on a CPU no row of a product depends on the other rows.
    """
    weights = _weights(model)
    reason = "no padding, last layer for the first token only"
    return PackedEncoder(
        weights,
        "cpu",
        attention_by_length,
        "packed",
        reason,
        dense,
        model.identity.early_exit,
        size,
    )


def _weights(model: LoadedModel) -> EncoderWeights:
    return model.weights or extract_weights(model.module)


def _packed(model: LoadedModel, batch_tokens: int | None = None) -> PackedEncoder:
    precision = PRECISIONS[model.device.precision]
    if model.device.kind == "cpu":
        packed = packed_on_cpu(model, dense_of(precision))
        packed.path, packed.reason = precision.path, f"{precision.reason}{packed.reason}"
        return packed
    weights = _weights(model)
    size = pack_size(model, batch_tokens)
    reason = f"no padding, last layer for the first token only ({model.device.description})"
    return PackedEncoder(
        weights,
        model.device.name,
        VarlenAttention(),
        f"{precision.path}, varlen attention",
        f"{precision.reason}{reason}; packs filled up to {size.tokens:,} tokens, so that no "
        "neighbour counts",
        dense_of(precision),
        early_exit=model.identity.early_exit,
        size=size,
    )


def pack_size(model: LoadedModel, batch_tokens: int | None = None) -> PackSize:
    """Return the size of the packs on a GPU; a text of any length fits into one."""
    tokens = batch_tokens or min(PACK_TOKENS, default_budget(model))
    return PackSize(max(tokens, model.max_length), model.max_length)


def _why_not_packed(model: LoadedModel) -> str | None:
    """Say why a model cannot run packed, or None."""
    device = model.device
    try:
        weights = extract_weights(model.module)
    except NotPacked as reason:
        return str(reason)
    if device.kind == "cpu":
        return None
    if device.kind != "cuda":
        return f"{device.kind} has no attention over packed texts"
    if device.capability is None or device.capability < (8, 0):
        return "the GPU's compute capability is below 8.0"
    precision = PRECISIONS[device.precision]
    if not precision.is_half:
        return "attention over packed texts needs float16 or bfloat16"
    if not has_varlen():
        return "this version of PyTorch has no attention over packed texts"
    if any(layer.positions.bias is not None for layer in weights.layers):
        return "attention over packed texts cannot add a bias for the distance of tokens"
    return why_not(precision, weights)


def _check_against_reference(
    packed: CheckedEncoder, stock: CheckedEncoder, model: LoadedModel
) -> str | None:
    """Run both ways over a few made-up texts and say how they differ, or None.

    Raises what `_reference` raises, and DeviceError where the forward pass without padding has no
    room for the texts.
    """
    ids, lengths = check_texts(model)
    wanted = _reference(stock, model)
    found = np.empty_like(wanted)
    texts = np.split(ids, np.cumsum(lengths)[:-1])
    try:
        for rows in plan_batches(lengths, packed.pack_tokens or len(ids), packed.shape):
            together = np.concatenate([texts[row] for row in rows])
            found[rows] = packed.logits(together, lengths[rows]).cpu().numpy()
    except FAILURES as error:
        return _describe_failure(model, error)
    finite = np.isfinite(wanted).all(axis=1)
    if not finite.any():
        return f"its numbers do not fit into {model.device.precision} (--precision float32 does)"
    worst = share_of_spread(found[finite], wanted[finite])
    if not worst <= PRECISIONS[model.device.precision].tolerance:
        return f"it differs from transformers by {worst:.1g} of the logits' spread here"
    return None


def check_texts(model: LoadedModel) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return ids, one text after the other, and lengths of made-up texts.

    The longest is as long as the model reads.
    """
    random = np.random.default_rng(0)
    lengths = np.minimum(
        np.array([*CHECK_LENGTHS, model.max_length], dtype=np.int64), model.max_length
    )
    # Ids from the middle of the vocabulary: special tokens stand at its ends.
    words = int(model.config.vocab_size)
    return random.integers(words // 4, words - words // 4, int(lengths.sum())).astype(
        np.int32
    ), lengths


def _reference(stock: CheckedEncoder, model: LoadedModel) -> NDArray[np.float32]:
    """Return the logits (texts, labels) of the check's texts, each run beside its equals in length.

    In half precision some may not be finite, where float32 gives finite ones. Raises ModelError for
    a model that does not run or is not finite, DeviceError where there is no room for it.
    """
    ids, lengths = check_texts(model)
    texts = np.split(ids, np.cumsum(lengths)[:-1])
    name = printable(model.identity.source)
    try:
        logits = np.full((len(texts), len(model.identity.labels)), np.nan, dtype=np.float32)
        for rows in plan_batches(lengths, int(lengths.sum()), "equal"):
            together = np.concatenate([texts[row] for row in rows])
            logits[rows] = stock.logits(together, lengths[rows]).cpu().numpy()
    except BatchsentError:
        raise  # a signal that came in the middle
    # What can go wrong in a foreign forward pass has no common class.
    except Exception as error:
        if lacks_memory(error):
            raise _no_room(model, error) from error
        if model.device.kind != "cpu" and isinstance(error, RuntimeError):
            raise device_error(model.device.description, error) from error
        raise ModelError(
            f"{name} does not run: {type(error).__name__}: {first_line(error)}",
            hint="copy or download the model again, or fine-tune it again with this version of "
            "transformers",
        ) from error
    broken = int((~np.isfinite(logits)).any(axis=1).sum())
    if not broken:
        return logits
    if PRECISIONS[model.device.precision].is_half:
        float32_encoder(model.identity, model.tokenizer, model.device, model.max_length)
        return logits
    raise ModelError(
        f"{name} gives no finite number for {broken} of {len(texts)} test texts (NaN or infinity)",
        hint="its weights are damaged or its training diverged: use another copy, or train it "
        "again with a lower learning rate",
    )


def _describe_failure(model: LoadedModel, error: Exception) -> str:
    """Return why the forward pass without padding is not used, by an error's first line.

    Raises DeviceError for a lack of memory, and for an error after which nothing runs on the device
    in this process.
    """
    if lacks_memory(error):
        raise _no_room(model, error) from error
    if breaks_device(error):
        raise device_error(model.device.description, error, BROKEN_HINT) from error
    return f"it failed here ({type(error).__name__}: {first_line(error)})"


def _no_room(model: LoadedModel, error: BaseException) -> DeviceError:
    return device_error(
        f"{model.device.description}, with a text of {model.max_length} tokens,", error
    )


def share_of_spread(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Return the largest difference of centred logits as a share of the spread of the wanted ones.

    Both are (texts, labels), one text or more.
    """
    exact = centred(wanted)
    return float(np.abs(centred(found) - exact).max() / max(exact.std(), LEAST_SPREAD))


def centred(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return logits (texts, labels) less the mean of each text, which softmax does not see."""
    exact = logits.astype(np.float64)
    exact -= exact.mean(axis=1, keepdims=True)
    return exact
