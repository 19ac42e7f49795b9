"""What batchsent would do here and why: versions, device, model, a check; a file's receipt."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from os import PathLike, fspath
from typing import Any

from batchsent.errors import InputError, Interrupted, UsageError
from batchsent.filenames import exists, is_regular
from batchsent.files.signals import Signals
from batchsent.formats import ReadOptions, open_source, receipt
from batchsent.model.canaries import open_scorer
from batchsent.model.check_ways import Checker, check_ways
from batchsent.model.device import choose_device
from batchsent.model.devices import choose_devices
from batchsent.model.loading import identify
from batchsent.model.options import ModelOptions, check_model_options
from batchsent.options import build, option
from batchsent.reporting import Reporter
from batchsent.text import printable
from batchsent.versions import SCORING, versions


@dataclass(frozen=True)
class InfoOptions(ModelOptions):
    """What to ask about."""

    revision: str | None = option(
        None, "Commit, tag or branch of a Hub model.", group="Model and device"
    )
    check: bool = option(
        False,
        "Run the model in every way that this machine could, compare and time them. For a new "
        "machine, and for reports of faults.",
        group="Common",
    )


def info(
    model: str | PathLike[str] | None = None, *, reporter: Reporter | None = None, **options: Any
) -> dict[str, Any]:
    """Return versions, the device that would be used, and the facts of a model if one is named.

    A model is loaded, so that the way it would run is what a scoring run takes. With `check` it is
    run in every way that this machine could, the embedded one if none is named; its `failure` says
    why the way that a run takes cannot be trusted. Of a scored file in place of a model the receipt
    is returned. Options are those of InfoOptions. Raises ModelError, DeviceError, UsageError or
    InputError.
    """
    settings = build(InfoOptions, options)
    named = None if model is None else fspath(model)
    if named is not None and is_regular(named):
        if settings.check:
            raise UsageError(f"--check requires a model; {printable(named)} is a file")
        return {"receipt": read_receipt(named)}
    found: dict[str, Any] = {"versions": versions(SCORING)}
    if settings.check:
        return found | check(named, settings, reporter or Reporter())
    several = choose_devices(settings.device, settings.precision).names
    settings = replace(settings, device=several[0])
    if named is None:
        device = choose_device(settings.device, settings.precision)
        chosen = {"precision": device.precision, "precision_reason": device.reason}
        warnings = [] if device.warning is None else [device.warning]
        of_device = device.facts() | {"warnings": warnings} | chosen
        return found | {"device": of_device | used_by_batch(several)}
    identity = identify(named, settings.revision)
    scorer = open_scorer(identity, settings)
    try:
        facts = scorer.facts()
        text = identity.text_columns
        if text is not None:
            facts["model"] |= {"text_columns": list(text.names)}
        if text is not None and not text.single:
            facts["model"] |= {"text_joint": text.joint}
        facts["device"] |= used_by_batch(several)
        return found | facts
    finally:
        scorer.close()


def used_by_batch(devices: Sequence[str]) -> dict[str, list[str]]:
    """Return the devices that `batch` would use, a process on each, where they are several."""
    return {"used_by_batch": list(devices)} if len(devices) > 1 else {}


def check(model: str | None, settings: InfoOptions, reporter: Reporter) -> dict[str, Any]:
    """Return the sections "machine", "model" and "check": every way to run a model, measured.

    Signals end the processes that measure. Raises what `info` raises, and Interrupted.
    """
    identity = identify(model, settings.revision)
    options = {field.name: getattr(settings, field.name) for field in fields(ModelOptions)}
    # Torch, which a device is looked for with, is imported by the processes that measure.
    check_model_options(identity, replace(settings, device="auto", precision="auto"))
    try:
        with Signals():
            return check_ways(Checker(identity, ModelOptions(**options)), reporter)
    except Interrupted as error:
        error.hint = None  # there is nothing to resume
        raise


def read_receipt(path: str) -> dict[str, Any]:
    """Return the receipt of a scored file: its model, its options and the digest of its input.

    Raises UsageError for a file without one, InputError for one that cannot be read.
    """
    name = printable(path)
    with closing(open_source(path, ReadOptions(), needs_text=False)) as source:
        keeps_one = source.format in receipt.FORMATS_WITH
        try:
            found = receipt.read(source.schema)
        except ValueError as error:
            raise InputError(f"the receipt of {name} is damaged: {printable(error)}") from error
    if found is None:
        summary = f"{path}.summary.json"
        hint = f"its summary says what made it: {printable(summary)}" if exists(summary) else None
        why = "none was written" if keeps_one else "only Parquet and Arrow outputs have one"
        raise UsageError(f"{name} has no receipt: {why}", hint=hint)
    return found
