"""The device stamp: what the last digits of a score depend on, apart from text and model."""

from typing import Any

from batchsent.errors import DeviceError
from batchsent.model.pool_facts import DEVICE_FACTS
from batchsent.model.submission import Scorer
from batchsent.text import printable


def stamp_of(scorer: Scorer) -> dict[str, Any]:
    """Return the stamp of the scores that a model computes; equal stamps mean equal bytes."""
    return stamp_of_facts(scorer.facts())


def stamp_of_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the stamp of the scores of a model, by its sections "model" and "device"."""
    stamp = {name: facts["device"].get(name) for name in ("name", *DEVICE_FACTS)}
    # Equal GPUs give equal bytes, whichever of them scores a chunk.
    stamp["name"] = str(stamp["name"]).partition(":")[0]
    return stamp | {"precision": facts["model"].get("precision")}


def check_gpu_still_there(kept: dict[str, Any], stamp: dict[str, Any]) -> None:
    """Raise DeviceError where an earlier run scored on a GPU and there is none now."""
    if not str(kept.get("cuda") or "") or str(stamp.get("name")) != "cpu":
        return
    raise DeviceError(
        f"the earlier run scored on {in_words(kept)}, and there is no GPU now",
        hint="run the same command where the GPU is there, or add --restart to score everything "
        "here",
    )


def in_words(stamp: dict[str, Any]) -> str:
    """Return device and precision of a stamp as words in a sentence."""
    device = stamp.get("description") or stamp.get("name") or "an unknown device"
    return f"{printable(device)} ({printable(stamp.get('precision') or 'unknown precision')})"
