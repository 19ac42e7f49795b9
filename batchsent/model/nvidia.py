"""NVIDIA GPUs: whether one is there, why it is not used, and which build of PyTorch serves it.

`torch` is a parameter of the functions here, so that the caller decides when it is imported.
"""

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The first driver series of each major version of CUDA (NVIDIA's table of minor version
# compatibility).
CUDA_OF_DRIVER = ((580, 13), (525, 12), (450, 11))
# The last wheels for GPUs before Turing, by PyTorch's matrix of releases; version 2.15 drops them.
OLD_BUILD = (
    'pip install --force-reinstall "torch<2.15" --index-url https://download.pytorch.org/whl/cu126'
)
NEW_BUILD = "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130"
OLD_BUILD_SERVES = (5, 0)  # and up to 9.0
NEW_BUILD_SERVES = (7, 5)
# Values of CUDA_VISIBLE_DEVICES with which a person, or a queue, takes the GPUs away.
HIDDEN = {"", "-1", "NoDevFiles"}
LARGEST_VERSION_FILE = 4_096


@dataclass(frozen=True)
class DriverFiles:
    """The files in which Linux shows NVIDIA's driver."""

    version: Path = Path("/proc/driver/nvidia/version")
    control: Path = Path("/dev/nvidiactl")

    def read_version(self) -> str | None:
        """Return the driver's version, "unknown" where only its device file is there, else None."""
        try:
            with self.version.open("rb") as file:
                said = file.read(LARGEST_VERSION_FILE).decode("ascii", "replace")
        except OSError:
            if self.control.exists():
                return "unknown"
            return None
        found = re.search(r"Kernel Module.*?\s(\d{2,4}(?:\.\d+)+)\s", said)
        return found[1] if found else "unknown"


def cuda_is_available(torch: Any) -> tuple[bool, str]:
    """Tell whether PyTorch has a GPU, and its warning, such as of a driver that is too old."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = bool(torch.cuda.is_available())
    text = "\n".join(str(warning.message) for warning in caught).strip()
    return available, text.partition("\n")[0].strip()


def explain_unused_gpu(torch: Any, said: str, files: DriverFiles) -> str | None:
    """Return why a GPU is not used, and what to install; None where there is no GPU.

    `said` is PyTorch's own warning, or empty. A GPU that was hidden on purpose does not count.
    """
    driver = files.read_version()
    if driver is None or os.environ.get("CUDA_VISIBLE_DEVICES") in HIDDEN:
        return None
    here = f"this machine has an NVIDIA driver ({driver}), but the CPU is used"
    major = cuda_of_driver(driver)
    if torch.version.cuda is None:
        why = f"PyTorch {torch.__version__} is built without CUDA"
        return f"{here}: {why}; {_advise_build(major)}"
    needed = int(torch.version.cuda.partition(".")[0])
    if major is not None and major < needed:
        driver_said = f"needs a driver for CUDA {needed}, this one serves CUDA {major}"
        why = f"PyTorch {torch.__version__} {driver_said}"
        return f"{here}: {why}; update the driver, or {_advise_build(major)}"
    if not files.control.exists():
        start = "start the container with its GPUs (docker run --gpus all)"
        return f"{here}: there is no {files.control}; {start}"
    return f"{here}: {said or 'PyTorch finds no GPU'}; nvidia-smi says more"


def cuda_of_driver(driver: str) -> int | None:
    """Return the newest major version of CUDA that a driver serves; None where unknown."""
    series = driver.partition(".")[0]
    if not series.isdigit():
        return None
    for first, cuda in CUDA_OF_DRIVER:
        if int(series) >= first:
            return cuda
    return 10


def _advise_build(cuda: int | None) -> str:
    if cuda is not None and cuda < 12:
        return "update the driver to 525 or newer, then " + OLD_BUILD
    if cuda == 12:
        return OLD_BUILD
    return NEW_BUILD


def explain_unserved_gpu(
    torch: Any, name: str, capability: tuple[int, int]
) -> tuple[str, str] | None:
    """Return why this build of PyTorch does not serve a GPU, and a hint; None where it does."""
    builds = torch.cuda.get_arch_list()
    if not builds or any(_serves(build, capability) for build in builds):
        return None
    wanted = ".".join(map(str, capability))
    message = (
        f"PyTorch {torch.__version__} has no kernels for {name} (compute capability {wanted}); "
        f"it has {', '.join(builds)}"
    )
    if capability >= NEW_BUILD_SERVES:
        hint = f"install a build that serves it: {NEW_BUILD}"
    elif capability >= OLD_BUILD_SERVES:
        hint = f"the build for CUDA 12.6 serves it: {OLD_BUILD}"
    else:
        hint = "no current build of PyTorch serves it: use --device cpu"
    return message, hint


def _serves(build: str, capability: tuple[int, int]) -> bool:
    """Tell whether code for one architecture (sm_86, sm_90a, compute_120) runs on a GPU."""
    found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", build)
    if found is None:
        return False
    kind, major, minor, variant = found[1], int(found[2]), int(found[3]), found[4]
    if variant == "a":  # of this very capability only
        return (major, minor) == capability
    if kind == "compute":  # compiled further on the spot, for any later GPU
        return (major, minor) <= capability
    return major == capability[0] and minor <= capability[1]
