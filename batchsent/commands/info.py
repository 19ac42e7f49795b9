"""What batchsent would do here and why: versions, device, precision, model."""

from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

from batchsent.model.canaries import open_scorer
from batchsent.model.device import choose_device
from batchsent.model.loading import identify
from batchsent.model.options import ModelOptions
from batchsent.options import build, option
from batchsent.versions import SCORING, versions


@dataclass(frozen=True)
class InfoOptions(ModelOptions):
    """What to ask about."""

    revision: str | None = option(
        None, "Commit, tag or branch of a Hub model.", group="Model and device"
    )


def info(model: str | PathLike[str] | None = None, **options: Any) -> dict[str, Any]:
    """Return versions, the device that would be used, and the facts of a model if one is named.

    A model is loaded, so that the way it would run is what a scoring run takes. Options are those
    of InfoOptions. Raises ModelError, DeviceError or UsageError.
    """
    settings = build(InfoOptions, options)
    found: dict[str, Any] = {"versions": versions(SCORING)}
    if model is None:
        device = choose_device(settings.device, settings.precision)
        chosen = {"precision": device.precision, "precision_reason": device.reason}
        warnings = [] if device.warning is None else [device.warning]
        return found | {"device": device.facts() | {"warnings": warnings} | chosen}
    scorer = open_scorer(identify(fspath(model), settings.revision), settings)
    try:
        return found | scorer.facts()
    finally:
        scorer.close()
