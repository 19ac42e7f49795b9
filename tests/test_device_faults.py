"""A device that fails in the middle of a run: the error is plain, nothing is lost, and the same
command afterwards gives the bytes of a run in which nothing happened.
"""

from contextlib import closing

import numpy as np
import pytest
import torch

from batchsent.chunk import SCORED
from batchsent.commands.batch import batch
from batchsent.errors import DeviceError, ModelError
from batchsent.model.attention import attention_by_length
from batchsent.model.checked import load_checked, record_check
from batchsent.model.device import Device
from batchsent.model.encoder import PackedEncoder, _check_against_reference
from batchsent.model.loading import LoadedModel, identify, load_model, load_module
from batchsent.model.stock import StockEncoder
from batchsent.model.weights import extract_weights
from tests.character_model import FirstCharacter, InFloat32, score, scorer_of
from tests.hash_model import Models
from tests.models import make_model

# Chunks of 20 rows, each in batches of 40 tokens: three or more a chunk.
ROWS = 60
OPTIONS = {"chunk_rows": 20, "probabilities": True}


@pytest.fixture
def dump(tmp_path):
    """Reviews of 1 to 23 characters."""
    path = tmp_path / "in.csv"
    texts = (chr(48 + n % 9) + "." * (n * 7 % 23) for n in range(ROWS))
    path.write_text("id,text\n" + "".join(f"{n},{text}\n" for n, text in enumerate(texts)))
    return path


class SizeDependent(FirstCharacter):
    """Last bits that depend on how many tokens share a pass, as those of a GPU do."""

    def probabilities(self, ids, lengths):
        found = super().probabilities(ids, lengths)
        positive = found[:, 1] * (1 + 1e-6 * len(ids))
        return torch.stack([1 - positive, positive], dim=1)


def failing_at(call, said):
    """Raise an accelerator's error at one pass of the whole run."""
    calls = iter(range(1_000))

    def raises():
        if next(calls) == call:
            raise RuntimeError(f"{said}\nCompile with TORCH_USE_CUDA_DSA")

    return raises


def run(dump, output, encoder, device="cuda:0", **settings):
    """Score the dump with an encoder in place of a model's."""
    return batch(dump, output, models=Models(scorer_of(encoder, 40, device, **settings)), **OPTIONS)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (0, "CUDA error: an illegal memory access was encountered"),
        (12, "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(...)`"),
        (20, "CUDA error: uncorrectable ECC error encountered"),
    ],
)
def test_g04_a_run_goes_on_after_an_accelerators_error(dump, tmp_path, call, said):
    """Exit 7 with the first line, whatever had been scored is kept, and the bytes are the same."""
    run(dump, tmp_path / "whole.csv", SizeDependent())
    out = tmp_path / "out.csv"
    with pytest.raises(DeviceError) as caught:
        run(dump, out, SizeDependent(raises=failing_at(call, said)))
    assert caught.value.exit_code == 7
    assert caught.value.message == f"a test failed: {said}"
    assert not out.exists()
    again = SizeDependent()
    run(dump, out, again)
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    whole = SizeDependent()
    run(dump, tmp_path / "other.csv", whole)
    assert (len(again.batches) < len(whole.batches)) == (call > 0)


def test_g01_a_run_whose_memory_runs_out_midway_ends_with_the_same_labels(dump, tmp_path):
    """Another program takes memory after some batches: scores move in their last digits only."""
    run(dump, tmp_path / "whole.csv", SizeDependent())
    encoder = SizeDependent()

    def shrink():
        if len(encoder.batches) == 4:
            encoder.memory = 25

    encoder.raises = shrink
    summary = run(dump, tmp_path / "out.csv", encoder)
    assert summary["device"]["oom_backoffs"] > 0
    assert summary["rows"]["scored"] == ROWS
    whole, found = (
        [line.split(",") for line in (tmp_path / name).read_text().splitlines()[1:]]
        for name in ("whole.csv", "out.csv")
    )
    assert [line[:3] for line in found] == [line[:3] for line in whole]
    numbers = [np.array([line[3:] for line in lines], dtype=float) for lines in (whole, found)]
    np.testing.assert_allclose(*numbers, atol=1e-4)


@pytest.mark.parametrize("after", range(6))
def test_a_chunk_in_two_sittings_has_the_bytes_of_one_where_bits_depend_on_the_pack(after):
    """Its batches are planned from the lengths alone, however often it is stopped."""
    texts = [chr(48 + n % 9) + "." * (n * 7 % 23) for n in range(50)]
    whole = score(scorer_of(SizeDependent(), 60), texts)
    asked = iter(range(100))
    part = score(scorer_of(SizeDependent(), 60), texts, stop=lambda: next(asked) >= after)
    done = score(scorer_of(SizeDependent(), 60), texts, done=part)
    assert done.probabilities.tobytes() == whole.probabilities.tobytes()


def test_k04_one_text_of_500_without_a_number_in_a_run(tmp_path):
    """float16 cannot hold it: it is scored in float32, counted, and the exit code is 0."""
    dump = tmp_path / "in.csv"
    texts = ["x.overflow" if n == 250 else f"{n % 9}.{n}" for n in range(500)]
    dump.write_text("text\n" + "".join(f"{text}\n" for text in texts))
    settings = {"precision": "float16", "open_float32": InFloat32}
    summary = run(dump, tmp_path / "out.csv", FirstCharacter(), **settings)
    assert summary["exit_code"] == 0
    assert summary["rows"]["scored"] == 500
    assert summary["device"]["nonfinite_retried"] == 1
    # A chunk before it was interrupted or not: the same bytes.
    half = FirstCharacter(raises=failing_at(9, "CUDA error: unspecified launch failure"))
    with pytest.raises(DeviceError, match="unspecified launch failure"):
        run(dump, tmp_path / "again.csv", half, **settings)
    run(dump, tmp_path / "again.csv", FirstCharacter(), **settings)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "out.csv").read_bytes()


def test_g04_a_broken_device_is_told_though_it_cannot_be_freed(monkeypatch):
    """After such an error CUDA answers every call with it: the first one is what the user reads."""

    def broken(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "empty_cache", broken)
    scorer = scorer_of(FirstCharacter(raises=broken), device="cuda:0")
    with pytest.raises(DeviceError, match="illegal memory access"), closing(scorer):
        score(scorer, ["0...", "1..."])


def test_k04_no_room_for_the_float32_model_is_a_device_error():
    """The second copy of the model may not fit beside the first: exit 7 with what to do."""

    def full():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 250.00 MiB")

    scorer = scorer_of(FirstCharacter(), 300, "cuda:0", "float16", open_float32=full)
    with pytest.raises(DeviceError, match="out of memory") as caught:
        score(scorer, ["0...", "x.overflow"])
    assert "end other programs" in caught.value.hint


def test_k04_a_text_in_float32_is_tried_again_where_memory_was_short():
    """What PyTorch holds free is given back first."""

    class Once(InFloat32):
        full_once = True

        def probabilities(self, ids, lengths):
            if self.full_once:
                self.full_once = False
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
            return super().probabilities(ids, lengths)

    scorer = scorer_of(FirstCharacter(), 300, precision="float16", open_float32=Once)
    assert (score(scorer, ["0...", "x.overflow"]).status == SCORED).all()


# --- when the model loads


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """A tiny model on the CPU that says it is on a GPU."""
    model = load_model(identify(str(make_model(tmp_path_factory.mktemp("load")))), device="cpu")
    on_gpu = Device("cuda:0", "NVIDIA H200", "float32", "a test", (9, 0), 10**11)
    return model, LoadedModel(
        model.identity, model.module, model.tokenizer, on_gpu, 64, model.config
    )


BUSY = "CUDA error: CUDA-capable device(s) is/are busy or unavailable"
FULL = "CUDA out of memory. Tried to allocate 90.00 MiB"


@pytest.mark.parametrize(
    ("said", "message"),
    [(BUSY, f"NVIDIA H200 failed: {BUSY}"), (FULL, "has no room for the model")],
)
def test_a_gpu_that_cannot_take_the_weights_is_a_device_error(loaded, monkeypatch, said, message):
    """Full, or held by another program: exit 7 with what to do."""
    _, gpu = loaded
    monkeypatch.setattr(torch.nn.Module, "to", raising(said))
    with pytest.raises(DeviceError) as caught:
        load_module(gpu.identity, gpu.device)
    assert message in caught.value.message
    assert "end" in caught.value.hint


@pytest.mark.parametrize("said", [BUSY, FULL])
def test_a_gpu_that_cannot_take_the_weights_of_a_checked_model_is_not_the_models_fault(
    loaded, monkeypatch, tmp_path, said
):
    """Without transformers, as predict loads it: exit 7 too, and not "copy the model again"."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _, gpu = loaded
    record_check(gpu)
    monkeypatch.setattr(torch.Tensor, "to", raising(said))
    with pytest.raises(DeviceError) as caught:
        load_checked(gpu.identity, gpu.device, 64)
    assert caught.value.exit_code == 7
    assert "copy" not in caught.value.hint


def raising(said):
    def to(self, *arguments, **settings):
        raise RuntimeError(f"{said}\nmore lines")

    return to


class Raises:
    """An encoder that fails."""

    shape, path, reason, warning = "equal", "a test", "a test", None
    pack_tokens = None

    def __init__(self, said, kind=RuntimeError):
        self.said, self.kind = said, kind

    def logits(self, ids, lengths):
        raise self.kind(f"{self.said}\nmore lines")


def test_no_memory_for_transformers_own_way_is_a_device_error(loaded):
    """The check's longest text does not fit: exit 7, and no other way is tried."""
    cpu, gpu = loaded
    for model in (cpu, gpu):
        full = Raises("CUDA out of memory. Tried to allocate 20.00 MiB", torch.OutOfMemoryError)
        with pytest.raises(
            DeviceError, match="with a text of 64 tokens, failed: CUDA out of memory"
        ):
            _check_against_reference(None, full, model)


def test_an_accelerators_error_at_load_is_a_device_error_and_no_fault_of_the_model(loaded):
    """The same error on a CPU is the model's: exit 6."""
    cpu, gpu = loaded
    broken = Raises("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED")
    with pytest.raises(DeviceError, match="NVIDIA H200 failed: CUDA error: CUBLAS_STATUS_EXEC"):
        _check_against_reference(None, broken, gpu)
    with pytest.raises(ModelError, match="does not run"):
        _check_against_reference(None, broken, cpu)


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: misaligned address",
        "CUDA error: device-side assert triggered",
    ],
)
def test_a_kernel_that_breaks_the_device_ends_the_load(loaded, said):
    """After such an error nothing runs in this process, transformers' way neither: it is not taken
    for a slow way that works.
    """
    _, gpu = loaded
    stock = StockEncoder(loaded[0], "equal", "a test")
    with pytest.raises(DeviceError, match=said) as caught:
        _check_against_reference(Raises(said), stock, gpu)
    assert "info" in caught.value.hint
    assert "--check" in caught.value.hint


def test_a_kernel_that_is_not_there_leaves_transformers_way(loaded):
    """A product that cuBLAS refuses does not break the device: the run is slower, and says so."""
    _, gpu = loaded
    stock = StockEncoder(loaded[0], "equal", "a test")
    said = "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmul`"
    assert "failed here" in _check_against_reference(Raises(said), stock, gpu)


def test_a_way_that_forgets_what_stands_beside_is_found_at_load(loaded):
    """A way that is right for one text a pass, and wrong for several, is not used."""
    cpu, _ = loaded
    stock = StockEncoder(cpu, "equal", "a test")
    right = PackedEncoder(extract_weights(cpu.module), "cpu", attention_by_length, "packed", "test")

    class Rolled:
        shape, pack_tokens = "packed", None

        def logits(self, ids, lengths):
            return right.logits(ids, lengths).roll(1, 0)

    assert "differs from transformers" in _check_against_reference(Rolled(), stock, cpu)
