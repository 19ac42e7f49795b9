"""Early exit: a text of which the model is sure after its first layers skips the others.

A model folder's `early_exit.json` has a small classifier of the first token's states after one of
the layers, and a threshold. Where its most probable label reaches the threshold, its probabilities
are the text's; every other text runs through all layers. The rule looks at one text alone: the
other texts of a batch change what it decides only where they change a last digit of a probability
at the threshold.

Source: Schwartz et al., "The Right Tool for the Job: Matching Model and Instance Complexities",
2020, https://arxiv.org/abs/2004.07453.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.evaluation import summary
from batchsent.model.dense import fastest_dense
from batchsent.model.files import read_own_json
from batchsent.model.parts import Dense

FILE = "early_exit.json"
SCHEMA = "batchsent.early_exit/1"
ABOUT = (
    "A text skips the layers after `layer` where `weight` and `bias`, applied to the states of its "
    "first token there, give a label a probability of `threshold` or more"
)


@dataclass(frozen=True)
class EarlyExit:
    """A classifier after `layer` layers, and how sure it must be."""

    layer: int  # layers that every text runs through
    threshold: float  # smallest probability of a label that ends there
    weight: NDArray[np.float32]  # (labels, width)
    bias: NDArray[np.float32]  # (labels,)

    @cached_property
    def _dense(self) -> dict[str, Callable[[Any], Any]]:
        return {}

    def probabilities(self, first: Any) -> Any:
        """Return (texts, labels) float32 of the first tokens' states (texts, width)."""
        import torch

        device = str(first.device)
        if device not in self._dense:
            weight = torch.from_numpy(self.weight).to(device)
            bias = torch.from_numpy(self.bias).to(device)
            make = fastest_dense(torch.float32, device)
            self._dense[device] = make([Dense(weight, bias)], None)
        return torch.softmax(self._dense[device](first.float()), dim=-1)

    def decide(self, found: Any, others: Callable[[Any], Any]) -> tuple[Any, int]:
        """Return the probabilities (texts, labels) of all texts, and how many of them exit.

        `found` (texts, labels) are those after `layer` layers. `others` gives the probabilities of
        the other texts, by their numbers, after all layers.
        """
        undecided = self.undecided(found)
        if len(undecided):
            found[undecided] = others(undecided)
        return found, len(found) - len(undecided)

    def undecided(self, probabilities: Any) -> Any:
        """Return the numbers of the texts that need the other layers; NaN decides nothing."""
        return (~(probabilities.amax(dim=1) >= self.threshold)).nonzero().flatten()


def read(folder: Path, labels: int, *, weights_sha256: str) -> EarlyExit | None:
    """Read the early exit of a model folder; None where it has none.

    Raises ModelError for a file that is damaged or belongs to other weights.
    """
    hint = "copy or download the model again, or remove the file (no text skips layers then)"

    def parse(document: Mapping[str, Any]) -> EarlyExit:
        return _parse(document, labels)

    return read_own_json(folder / FILE, SCHEMA, hint, parse, weights_sha256)


def _parse(document: Mapping[str, Any], labels: int) -> EarlyExit:
    """Return what a document says. Raises a built-in error for one that cannot be."""
    layer, threshold = document["layer"], document["threshold"]
    if type(layer) is not int or type(threshold) not in {int, float}:
        raise TypeError(f"layer {layer!r} or threshold {threshold!r} is no number")
    with np.errstate(over="ignore"):  # told below
        weight = np.array(document["weight"], dtype=np.float32)
        bias = np.array(document["bias"], dtype=np.float32)
    found = EarlyExit(layer, float(threshold), weight, bias)
    if found.weight.ndim != 2 or len(found.weight) != labels or found.bias.shape != (labels,):
        raise ValueError(f"it is not about {labels} labels")
    if not (np.isfinite(found.weight).all() and np.isfinite(found.bias).all()):
        raise ValueError("a weight or bias is not finite")
    if found.layer < 1:
        raise ValueError(f"layer {found.layer} is below 1")
    if not 1 / labels < found.threshold <= 1:
        raise ValueError(f"threshold {found.threshold} is not between {1 / labels:g} and 1")
    return found


def write(found: EarlyExit, folder: Path, weights_sha256: str) -> None:
    """Write an early exit into the folder of the model that it was made for."""
    document = {
        "schema": SCHEMA,
        "about": ABOUT,
        "weights_sha256": weights_sha256,
        "layer": found.layer,
        "threshold": found.threshold,
        "weight": [[float(f"{value:.6g}") for value in row] for row in found.weight],
        "bias": [float(f"{value:.6g}") for value in found.bias],
    }
    (folder / FILE).write_bytes(summary.dumps(document))
