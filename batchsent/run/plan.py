"""What is known of a run before its model is loaded: input and model, compared with the options."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from batchsent.errors import ModelError, UsageError
from batchsent.evaluation.gates import EXPECTED, needs_temperature
from batchsent.evaluation.gold import GoldRule
from batchsent.evaluation.polarity import Sides, check_band, sides_of
from batchsent.formats import ReadOptions, Source, receipt
from batchsent.formats.opening import check_new_columns, check_sink, columns_to_decode
from batchsent.formats.outputs import added_schema
from batchsent.model import calibration
from batchsent.model.loading import ModelIdentity
from batchsent.model.reliability import Reliability, reliability_of
from batchsent.options import names_affecting
from batchsent.run.checks import Checked, check_input
from batchsent.run.models import Models
from batchsent.run.options import BatchOptions, FrameOptions
from batchsent.run.paths import RunPaths
from batchsent.run.pipeline import Clock
from batchsent.run.rejects import check_budget
from batchsent.run.side_tables import SideTables
from batchsent.text import printable
from batchsent.versions import SCORING, versions


@dataclass(frozen=True)
class RunPlan:
    """One input, one model, and how the one is scored by the other."""

    source: Source
    identity: ModelIdentity
    added: pa.Schema
    gold: GoldRule | None
    temperature: float | None  # what the scores are calibrated by; None for the raw softmax
    fast_temperature: float | None  # the same of the fast model of a cascade
    reliability: Reliability  # what is known of the scores without gold labels
    sides: Sides | None  # where polarity is written or sentences are judged
    side_tables: SideTables
    checked: Checked | None  # None for a pipe and for an object of a store
    # what decides the scores, by the names a person knows the things by
    fingerprint: dict[str, Any]
    writing: dict[str, Any]  # the options that decide how the scores are written down
    reuse: tuple[str, ...]  # the earlier outputs whose scores may be taken

    @property
    def input_is_known(self) -> bool:
        """Whether the fingerprint tells the input from every other: not for a pipe."""
        return self.checked is not None or self.source.version is not None


def check_model(
    models: Models, options: BatchOptions
) -> tuple[GoldRule | None, float | None, Sides | None]:
    """Hold the model against the options, without loading it or reading any input.

    Returns the rule by which a gold column is read, the calibration temperature, and the numbers of
    the positive and the negative label; None for each that is not asked for.
    Raises UsageError, ModelError or DeviceError: what is wrong here is wrong for every input.
    """
    models.check()
    identity = models.identity()
    judged = options.gold or options.gold_stars
    gold = GoldRule.parse(identity.labels, options.gold_map, options.stars) if judged else None
    temperature = check_columns(identity, options)
    sides = None
    if options.sentences or options.writes_polarity:
        sides = sides_of(identity.labels, options.polarity_labels)
    elif options.report_examples:
        with contextlib.suppress(UsageError):  # without them the page has fewer kinds of examples
            sides = sides_of(identity.labels, options.polarity_labels)
    check_expected_accuracy(identity, options)
    return gold, temperature, sides


def check_columns(identity: ModelIdentity, options: FrameOptions) -> float | None:
    """Hold the new columns against the model, without loading it; return the temperature, if asked.

    Raises UsageError or ModelError.
    """
    if options.sentences or options.writes_polarity:
        sides_of(identity.labels, options.polarity_labels)
    check_band(options.neutral_band, identity.labels)
    fast_temperature(identity, options)
    return temperature_of(identity) if options.calibrated else None


def fast_temperature(identity: ModelIdentity, options: FrameOptions) -> float | None:
    """Return what the scores of a cascade's fast model are calibrated by. Raises ModelError."""
    if identity.cascade is None or not options.calibrated:
        return None
    return temperature_of(identity.cascade.identity)


@contextlib.contextmanager
def proposing_prefix(models: Models, options: BatchOptions) -> Iterator[None]:
    """Complete the hint of an error in the block that says how an input should be read.

    Read like that it may have a column that the run adds, which --prefix would mend.
    """
    try:
        yield
    except UsageError as error:
        columns = error.details.get("columns", ())
        if not set(columns).isdisjoint(added_schema(models.identity().labels, options).names):
            error.hint = f"{error.hint} --prefix pred_"
        raise


def prepare(
    source: Source, models: Models, options: BatchOptions, paths: RunPaths, clock: Clock
) -> RunPlan:
    """Hold input, model and options against each other.

    Raises BatchsentError for what does not fit.
    """
    gold, temperature, sides = check_model(models, options)
    identity = models.identity()
    paths.check_apart_from(identity.path)
    if identity.cascade is not None:
        paths.check_apart_from(identity.cascade.identity.path)
    added = added_schema(identity.labels, options)
    check_new_columns(source.first, added.names)
    check_sink(paths.written_to, source, added, options.output_format)
    reliability = reliability_of(identity, options)
    rates = reliability.counts(identity.labels).rates_for_groups
    side_tables = SideTables(source, identity.labels, gold, options, paths.tables, rates, sides)
    with clock.busy("check"):
        decoded = columns_to_decode(paths.written_to, source, options.output_format)
        checked = check_input(paths.inputs, source, decoded)
    if checked:
        check_budget(
            options.max_bad_rows,
            checked.bad_rows,
            checked.bad_rows + (checked.rows or 0),
            source.name,
        )
    values = dataclasses.asdict(options)
    deciding = fingerprint(source, identity, checked, values)
    writing = {name: values[name] for name in names_affecting(BatchOptions, "writing")}
    if not options.no_receipt:
        added = receipt.with_receipt(added, receipt.make(identity.labels, deciding, writing))
    return RunPlan(
        source=source,
        identity=identity,
        added=added,
        gold=gold,
        temperature=temperature,
        fast_temperature=fast_temperature(identity, options),
        reliability=reliability,
        sides=sides,
        side_tables=side_tables,
        checked=checked,
        fingerprint=deciding,
        writing=writing,
        reuse=options.reuse,
    )


def check_expected_accuracy(identity: ModelIdentity, options: BatchOptions) -> None:
    """Refuse a minimum of the expected accuracy for a model without one. Raises ModelError."""
    if not needs_temperature(options.fail_under):
        return
    known = reliability_of(identity, options)
    if known.temperature is None:
        raise ModelError(
            f"--fail-under {EXPECTED} requires calibrated scores: {known.why_no_temperature}",
            hint=f"leave out {EXPECTED}, or make the model with batchsent finetune, measured on "
            "more rows (--eval FILE)",
        )


def temperature_of(identity: ModelIdentity) -> float:
    """Return what the model's scores are calibrated by. Raises ModelError."""
    found = calibration.read(identity.path, weights_sha256=identity.weights_sha256)
    if found is None:
        raise ModelError(
            f"{printable(identity.source)} has no {calibration.FILE}",
            hint="leave out --calibrated, or use a model made by batchsent finetune",
        )
    return found.temperature


def fingerprint(
    source: Source, identity: ModelIdentity, checked: Checked | None, options: dict[str, Any]
) -> dict[str, Any]:
    """Return what decides the scores, by the names a person knows the things by."""
    reading = [field.name for field in dataclasses.fields(ReadOptions)]
    if checked and not checked.bad_rows:
        reading.remove("bad_rows")  # without bad rows it does not matter what becomes of them
    if source.text_columns is None or source.text_columns.single:
        reading.remove("text_joint")
    deciding = dict.fromkeys([*reading, *names_affecting(BatchOptions, "scores")])
    # Which GPUs, and how many, is nothing to the scores; what they are is in the device stamp.
    options = options | {"device": str(options["device"]).partition(":")[0]}
    fast = {}
    if identity.cascade is not None:
        found = identity.cascade.identity
        options["cascade_below"] = identity.cascade.below  # also where it was not named
        fast = {
            "weights of the fast model": found.weights_sha256,
            "tokenizer of the fast model": found.tokenizer_sha256,
            "configuration of the fast model": found.config_sha256,
        }
    return {
        "input": checked.sha256 if checked else source.version or source.name,
        "model weights": identity.weights_sha256,
        "tokenizer": identity.tokenizer_sha256,
        "model configuration": identity.config_sha256,
        **fast,
        **{f"--{name.replace('_', '-')}": as_in_json(options[name]) for name in deciding},
        "versions": ", ".join(f"{name} {found}" for name, found in versions(SCORING).items()),
    }


def as_in_json(value: Any) -> Any:
    """Return the value of an option as it comes back from a file."""
    return list(value) if isinstance(value, tuple) else value


def with_later_options(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a summary has recorded, with the default of each option that is younger than it.

    `wanted` has the names of the options today, with or without dashes.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(BatchOptions)}
    found = dict(recorded)
    for name in wanted:
        option = name.removeprefix("--").replace("-", "_")
        if name not in found and option in defaults:
            found[name] = defaults[option]
    return found
