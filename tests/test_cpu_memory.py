"""A run on a CPU keeps few kernels, and a long batch is run in slices with the same result."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from batchsent.model.cpu import KERNEL_CACHES, bound_kernel_caches
from batchsent.model.packed import SLICE_VALUES, FeedForward
from batchsent.model.weights import Layer

# Runs dense layers of 150 sizes, as batches of 150 numbers of tokens do, and prints how many MB of
# the process they left.
MANY_SIZES = """
import ctypes, re, torch
from batchsent.model.device import choose_device
choose_device("cpu", "float32")
weight = torch.ops.mkldnn._reorder_linear_weight(torch.randn(64, 64))
def held():
    ctypes.CDLL(None).malloc_trim(0)
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) / 1024
def run(tokens):
    torch.ops.mkldnn._linear_pointwise(torch.zeros(tokens, 64), weight, None, "none", [], "")
for tokens in range(1, 40): run(tokens)
before = held()
for tokens in range(100, 250): run(tokens)
print(held() - before)
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists() or not torch.backends.mkldnn.is_available(),
    reason="requires Linux and oneDNN",
)
def test_batches_of_many_sizes_leave_no_kernels_in_memory():
    """150 sizes would leave 80 MB; each batch of a run has another size."""
    done = subprocess.run(
        [sys.executable, "-c", MANY_SIZES], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 12


def test_the_users_environment_says_how_many_kernels_are_kept(monkeypatch):
    """A number that stands there already is left as it is."""
    used, unused = KERNEL_CACHES
    monkeypatch.setenv(used, "500")
    monkeypatch.delenv(unused, raising=False)
    bound_kernel_caches()
    assert (os.environ[used], os.environ[unused]) == ("500", "32")


def test_a_long_batch_in_slices_has_the_same_result():
    """The states of a batch that is longer than a slice are those of its parts run apart."""
    torch.manual_seed(0)
    width = 768
    linear, norm = torch.nn.Linear(width, width), torch.nn.LayerNorm(width)
    layer = Layer(linear, linear, linear, linear, norm, linear, linear, norm)

    def dense(modules, activation):
        return modules[0]

    block = FeedForward(layer, "gelu", dense)
    tokens = 2 * SLICE_VALUES // width + 100
    with torch.inference_mode():
        attended, states = torch.randn(tokens, width), torch.randn(tokens, width)
        whole = block.run(attended, states)
        apart = [
            block.run(attended[at : at + 1], states[at : at + 1]) for at in range(0, tokens, 99)
        ]
    torch.testing.assert_close(whole[::99], torch.cat(apart), rtol=1e-5, atol=1e-5)
