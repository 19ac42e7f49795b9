"""Which device a model gets, why, and what is said where a GPU is there but cannot be used."""

import io
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from batchsent.errors import DeviceError, UsageError
from batchsent.model.device import Device, check_device, choose_device, device_errors
from batchsent.model.int8 import has_int8
from batchsent.model.loading import identify, load_model
from batchsent.model.nvidia import (
    DriverFiles,
    cuda_of_driver,
    explain_unserved_gpu,
    explain_unused_gpu,
)
from batchsent.terminal.tables import show_facts

CLOSED = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Tue Mar  5 22:23:56 UTC 2024\n"
    "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n"
)
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs-builder@U16-I3)\n"
NO_CUDA = SimpleNamespace(__version__="2.13.0+cpu", version=SimpleNamespace(cuda=None))
CUDA_13 = SimpleNamespace(__version__="2.13.0+cu130", version=SimpleNamespace(cuda="13.0"))
CUDA_12 = SimpleNamespace(__version__="2.13.0+cu126", version=SimpleNamespace(cuda="12.6"))
OF_CUDA_13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
OF_CUDA_12 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]


@pytest.fixture(autouse=True)
def nothing_hidden(monkeypatch):
    """No GPU is hidden from these tests by the machine they run on."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def driver(folder, version="550.54.15", form=CLOSED, *, control=True):
    """Make the files that NVIDIA's driver shows."""
    (folder / "version").write_text(form.format(version))
    if control:
        (folder / "nvidiactl").touch()
    return DriverFiles(folder / "version", folder / "nvidiactl")


# --- a GPU that is there and not used


@pytest.mark.parametrize(
    ("form", "version"), [(CLOSED, "550.54.15"), (OPEN, "580.65.06"), (CLOSED, "470.82")]
)
def test_the_drivers_version_is_read_in_both_of_its_forms(tmp_path, form, version):
    """NVIDIA's closed and open kernel modules write their version in other words."""
    assert driver(tmp_path, version, form).read_version() == version


def test_a_driver_may_show_itself_by_its_device_file_alone(tmp_path):
    """Without the version file the control device tells of a driver; without both there is none."""
    files = DriverFiles(tmp_path / "version", tmp_path / "nvidiactl")
    assert files.read_version() is None
    files.control.touch()
    assert files.read_version() == "unknown"


@pytest.mark.skipif(torch.version.cuda is not None, reason="needs a PyTorch without CUDA")
def test_k12_auto_warns_of_a_gpu_that_this_build_of_pytorch_cannot_use(tmp_path):
    """K12: a driver and a PyTorch without CUDA: the CPU, a warning with the reason and the cure."""
    chosen = choose_device("auto", "auto", driver(tmp_path, "580.65.06"))
    assert chosen.name == "cpu"
    assert "NVIDIA driver (580.65.06), but the CPU is used" in chosen.warning
    assert "is built without CUDA" in chosen.warning
    assert "download.pytorch.org/whl/cu130" in chosen.warning
    assert choose_device("cpu", "auto", driver(tmp_path)).warning is None
    assert (
        choose_device("auto", "auto", DriverFiles(tmp_path / "none", tmp_path / "none")).warning
        is None
    )


@pytest.mark.skipif(torch.version.cuda is not None, reason="needs a PyTorch without CUDA")
def test_k12_a_precision_for_gpus_is_refused_with_the_reason(tmp_path):
    """K12: float16 on a machine whose GPU is not used is refused with the reason why it is not."""
    with pytest.raises(UsageError, match="float16 is slow") as caught:
        choose_device("auto", "float16", driver(tmp_path))
    assert "is built without CUDA" in caught.value.hint


@pytest.mark.parametrize(
    ("build", "version", "wanted"),
    [
        (NO_CUDA, "550.54.15", ["built without CUDA", "whl/cu126"]),
        (NO_CUDA, "470.82.01", ["update the driver to 525", "whl/cu126"]),
        (
            CUDA_13,
            "550.54.15",
            ["needs a driver for CUDA 13, this one serves CUDA 12", "whl/cu126"],
        ),
        (
            CUDA_12,
            "470.82.01",
            ["needs a driver for CUDA 12, this one serves CUDA 11", "525 or newer"],
        ),
        (CUDA_13, "580.65.06", ["CUDA unknown error", "nvidia-smi"]),
    ],
)
def test_k12_the_warning_names_what_to_install(tmp_path, build, version, wanted):
    """K12: a build without CUDA, or an old driver, is told the build that serves this driver."""
    said = explain_unused_gpu(
        build, "CUDA initialization: CUDA unknown error", driver(tmp_path, version)
    )
    assert "the CPU is used" in said
    assert all(words in said for words in wanted), said


def test_k12_a_container_without_its_gpu_is_told_so(tmp_path):
    """K12: the host's driver is seen in /proc, but the container was started without GPUs."""
    said = explain_unused_gpu(CUDA_13, "", driver(tmp_path, "580.65.06", control=False))
    assert "--gpus all" in said


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_gpu_that_was_hidden_on_purpose_gives_no_warning(tmp_path, monkeypatch, hidden):
    """CUDA_VISIBLE_DEVICES= is a person's own choice."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert explain_unused_gpu(NO_CUDA, "", driver(tmp_path)) is None


@pytest.mark.parametrize(
    ("version", "cuda"),
    [("590.1", 13), ("580.65.06", 13), ("575.57", 12), ("525.60.13", 12), ("520.1", 11)],
)
def test_drivers_and_their_cuda(version, cuda):
    """NVIDIA's drivers serve the CUDA of their series and all before."""
    assert cuda_of_driver(version) == cuda
    assert cuda_of_driver("unknown") is None


def test_info_prints_the_warning():
    """`batchsent info` shows why the GPU is not used, and nothing where there is nothing to say."""
    device = Device("cpu", "CPU", "float32", "auto: CPU")
    for warnings, wanted in ((["an NVIDIA driver, but the CPU is used"], True), ([], False)):
        out = io.StringIO()
        show_facts({"device": device.facts() | {"warnings": warnings}}, out)
        assert ("the CPU is used" in out.getvalue()) == wanted
        assert ("warnings" in out.getvalue()) == wanted


# --- a GPU that this build has no kernels for


def serving(builds):
    cuda = SimpleNamespace(get_arch_list=lambda: builds)
    return SimpleNamespace(__version__="2.13.0", cuda=cuda)


@pytest.mark.parametrize(
    ("builds", "capability", "wanted"),
    [
        (OF_CUDA_13, (6, 0), "whl/cu126"),
        (OF_CUDA_13, (7, 0), "whl/cu126"),
        (OF_CUDA_13, (3, 5), "--device cpu"),
        (OF_CUDA_12, (12, 0), "whl/cu130"),
        (["sm_90a"], (9, 1), "whl/cu130"),
    ],
)
def test_a_gpu_without_kernels_is_told_which_build_has_them(builds, capability, wanted):
    """A P100 and the wheel for CUDA 13: what is there is named, and the build that serves it."""
    message, hint = explain_unserved_gpu(serving(builds), "Tesla P100", capability)
    assert "has no kernels for Tesla P100" in message
    assert builds[0] in message
    assert wanted in hint


@pytest.mark.parametrize(
    ("builds", "capability"),
    [
        (OF_CUDA_13, (8, 9)),  # sm_86 runs on every later 8.x
        (OF_CUDA_13, (9, 0)),
        (OF_CUDA_13, (12, 1)),
        (["compute_80"], (12, 0)),  # compiled on the spot
        (["sm_90a"], (9, 0)),
        ([], (7, 0)),  # a build that does not say
    ],
)
def test_a_gpu_with_kernels_is_fine(builds, capability):
    """Code of an earlier minor version runs, and so does code that is compiled when it loads."""
    assert explain_unserved_gpu(serving(builds), "a GPU", capability) is None


# --- what CUDA says when a model is loaded


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        (
            "CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCompile with "
            "TORCH_USE_CUDA_DSA",
            "holds it",
        ),
        (
            "CUDA error: no kernel image is available for execution on the device\nmore",
            "build of PyTorch",
        ),
        (
            "CUDA driver version is insufficient for CUDA runtime version",
            "update the NVIDIA driver",
        ),
        (
            "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`\nmore",
            "end other programs",
        ),
        ("CUDA out of memory. Tried to allocate 20.00 MiB", "end other programs"),
        ("CUDA error: unspecified launch failure", "run the same command again"),
    ],
)
def test_what_cuda_says_at_load_is_a_device_error(said, hint):
    """A busy device, no kernel image, an old driver: exit 7 with the first line, never "a bug"."""
    with pytest.raises(DeviceError) as caught, device_errors("NVIDIA H200", "cuda"):
        raise RuntimeError(said)
    assert caught.value.exit_code == 7
    assert caught.value.message == f"NVIDIA H200 failed: {said.splitlines()[0]}"
    assert hint in caught.value.hint


def test_on_a_cpu_only_a_lack_of_memory_is_the_devices_fault():
    """A mistake of ours stays one; memory that ran out is told as that."""
    with pytest.raises(RuntimeError, match="shapes"), device_errors("CPU", "cpu"):
        raise RuntimeError("shapes cannot be multiplied")
    with pytest.raises(DeviceError, match="can't allocate memory"), device_errors("CPU", "cpu"):
        raise RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        )
    with pytest.raises(DeviceError, match="MemoryError"), device_errors("CPU", "cpu"):
        raise MemoryError


# --- what the bits depend on


def test_a_devices_facts_are_what_the_bits_depend_on():
    """Capability, PyTorch and CUDA stand in the summary; a CPU has neither capability nor CUDA."""
    gpu = Device(
        "cuda:0",
        "NVIDIA H200",
        "float16",
        "auto",
        (9, 0),
        1 << 37,
        torch="2.13.0+cu130",
        cuda="13.0",
    )
    facts = gpu.facts()
    assert (facts["capability"], facts["torch"], facts["cuda"]) == ("9.0", "2.13.0+cu130", "13.0")
    facts = choose_device("cpu", "auto").facts()
    assert (facts["capability"], facts["torch"], facts["cuda"]) == (None, torch.__version__, None)


def test_checking_a_device_imports_torch_only_where_it_must():
    """The defaults, and a CPU in float32 or bfloat16, are checked in no time."""
    code = textwrap.dedent("""
        import sys
        from batchsent.errors import UsageError
        from batchsent.model.device import check_device
        for device, precision in (("auto", "auto"), ("auto", "float32"), ("cpu", "auto"), ("cpu", "float32"),
                                  ("cpu", "bfloat16"), ("cpu", "float16"), ("gpu", "auto"), ("cpu", "half")):
            try:
                check_device(device, precision)
            except UsageError:
                pass
        assert "torch" not in sys.modules, "heavy import"
    """)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


@pytest.mark.parametrize(
    ("device", "precision"),
    [
        ("gpu", "auto"),
        ("cuda:x", "auto"),
        ("auto", "half"),
        ("cpu", "float16"),
        ("cuda", "int8"),
        ("mps", "auto"),
    ],
)
def test_checking_and_choosing_refuse_the_same(device, precision):
    """What is refused before the input is read is what loading would refuse, in the same words."""
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has an Apple GPU")
    said = []
    for ask in (check_device, choose_device):
        with pytest.raises((UsageError, DeviceError)) as caught:
            ask(device, precision)
        said.append((type(caught.value), caught.value.message, caught.value.hint))
    assert said[0] == said[1]


def test_g05_cuda_without_a_gpu_is_a_device_error(tiny_model):
    """--device cuda on a machine without one says why and what to use."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match="cuda") as caught:
        load_model(identify(str(tiny_model)), device="cuda")
    assert "--device cpu" in caught.value.hint


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:", "cuda:-1", "cpu:0", "", "cuda:²"])
def test_a_device_that_means_nothing_is_a_usage_error(tiny_model, device):
    """A typo in --device lists the choices."""
    with pytest.raises(UsageError, match="is not a device"):
        load_model(identify(str(tiny_model)), device=device)


def test_precision_on_a_cpu(tiny_model):
    """Auto is float32 with its reason, and what is faster; float16 and unknown names are refused."""
    model = load_model(identify(str(tiny_model)), device="cpu")
    faster = "; --precision int8 is faster" if has_int8() else ""
    assert (model.device.precision, model.device.reason) == ("float32", f"auto: CPU{faster}")
    with pytest.raises(UsageError, match="float16 is slow"):
        load_model(identify(str(tiny_model)), device="cpu", precision="float16")
    with pytest.raises(UsageError, match="'half' is not a precision"):
        load_model(identify(str(tiny_model)), device="cpu", precision="half")
