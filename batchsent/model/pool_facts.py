"""What the processes of a pool say of model and device, as the summary of one run says it."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from batchsent.errors import DeviceError

COUNTED = ("oom_backoffs", "nonfinite_retried")
SHARES = ("padding_share", "busy_share")
# What the last digits of a score depend on, apart from the kind of device: it must be the same in
# every process.
DEVICE_FACTS = ("description", "capability", "path", "batch_tokens", "pack_tokens", "torch", "cuda")


@dataclass
class Share:
    """What one process has done."""

    device: str
    report: dict[str, Any] = field(default_factory=dict)  # its newest one
    rows: int = 0
    tokens: int = 0
    earlier_cpu_s: float = 0.0  # of its report when this run began

    def begin(self) -> None:
        """Count for another run; the process counts anew with the first chunk that it gets."""
        self.rows = self.tokens = 0
        self.earlier_cpu_s = self.report["cpu_s"]
        self.report = without_counts(self.report)

    def add(self, rows: int, tokens: int) -> None:
        """Count rows that have got scores, and their tokens."""
        self.rows += rows
        self.tokens += tokens

    def facts(self) -> dict[str, Any]:
        """Return the entry of this process in the summary's `device.devices`."""
        return {
            "name": self.device,
            "rows": self.rows,
            "tokens": self.tokens,
            "peak_memory_bytes": self.report["device"].get("peak_memory_bytes"),
            "cpu_s": round(self.report["cpu_s"] - self.earlier_cpu_s, 3),
        }


def merged(shares: Sequence[Share], warnings: Sequence[str]) -> dict[str, Any]:
    """Return the sections "model" and "device" of the processes of a pool.

    `warnings` are added to theirs. Raises DeviceError where they do not run the model in the same
    way.
    """
    check_same(shares)
    found = merged_facts([share.report for share in shares], [share.tokens for share in shares])
    device = found["device"]
    device["warnings"] += warnings
    device["name"] = shares[0].device
    device["devices"] = [share.facts() for share in shares]
    return found


def merged_facts(
    reports: Sequence[dict[str, Any]], tokens: Sequence[int] | None = None
) -> dict[str, Any]:
    """Return the sections "model" and "device" of several scorers of one run.

    Counts are added up, of memory and of differences the largest is taken; shares are weighted by
    the `tokens` that each has scored, where they are known.
    """
    models, devices = ([report[name] for report in reports] for name in ("model", "device"))
    model, device = _merged_models(models), deepcopy(devices[0])
    if model.get("cascade"):
        model["cascade"] = _merged_models([found["cascade"] for found in models])
    theirs = [said for found in devices for said in found.get("warnings", [])]
    device["warnings"] = list(dict.fromkeys(theirs))
    for name, combine in COMBINED.items():
        values = [found[name] for found in devices if found.get(name) is not None]
        device[name] = combine(values) if values else None
    for name in SHARES:
        device[name] = _mean_share([found.get(name) for found in devices], tokens)
    return {"model": model, "device": device}


# Of several scorers: how a figure of a section of "model" is made of theirs. All others are equal.
SECTIONS: dict[str, dict[str, Callable[[list[Any]], Any]]] = {
    "agreement": {"texts": sum, "label_flips": sum, "largest_difference": max},
    "canaries": {"label_flips": max, "largest_difference": max},  # of the same texts
    "early_exit": {"texts": sum, "exited": sum},
    "sample": {"texts": sum, "same_label": sum},
}
COMBINED: dict[str, Callable[[list[int]], int]] = {
    "fitting_tokens": min,
    "oom_backoffs": sum,
    "nonfinite_retried": sum,
    "peak_memory_bytes": max,
}


def check_same(shares: Sequence[Share]) -> None:
    """Raise DeviceError where two processes do not run the model in the same way."""
    first = shares[0]
    for share in shares[1:]:
        for name in DEVICE_FACTS:
            ours, theirs = (one.report["device"].get(name) for one in (first, share))
            if ours != theirs:
                raise DeviceError(
                    f"{first.device} and {share.device} do not run the model in the same way "
                    f"({name}: {ours}, {theirs}), so the same text may get other last digits",
                    hint="use equal GPUs, such as --device cuda:0",
                )


def _merged_models(models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the section "model" of several scorers, or what it says of the model of a cascade."""
    found = deepcopy(models[0])
    for name, combined in SECTIONS.items():
        sections = [model[name] for model in models if model.get(name) is not None]
        if not sections:
            continue
        found[name] = dict(sections[0])
        for figure, combine in combined.items():
            found[name][figure] = combine([section[figure] for section in sections])
    return found


def without_counts(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report as it is before anything of a run was scored."""
    found = deepcopy(report)
    model, device = found["model"], found["device"]
    for one in (model, model.get("cascade") or {}):
        for name in ("early_exit", "sample"):
            if one.get(name) is not None:
                one[name] |= dict.fromkeys(SECTIONS[name], 0)
    for name in COUNTED:
        if name in device:
            device[name] = 0
    for name in SHARES:
        if name in device:
            device[name] = None
    return found


def _mean_share(values: Sequence[float | None], tokens: Sequence[int] | None) -> float | None:
    """Return the mean of a share over the scorers that tell it, weighted by their tokens."""
    weights = tokens if tokens is not None and any(tokens) else [1] * len(values)
    told = [
        (value, weight) for value, weight in zip(values, weights, strict=True) if value is not None
    ]
    total = sum(weight for _, weight in told)
    if not total:
        return told[0][0] if told else None
    return float(sum(value * weight for value, weight in told) / total)
