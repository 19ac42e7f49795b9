"""Scores taken from earlier outputs: of every row whose text stands in one, by the same model.

An output is taken where its summary names the same model, options and versions, and the same
device: what a resumed run asks of its own parts. Reused rows have the numbers of that output to the
last bit. The other rows are scored in batches of their own, so their last digits may be others than
those of a run without --reuse, where other texts shared their batches.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import Scores
from batchsent.errors import UsageError
from batchsent.formats import ReadOptions
from batchsent.formats.known_texts import KnownTexts
from batchsent.formats.scored_output import ScoredOutput
from batchsent.model.calibration import calibrated
from batchsent.options import flag_of
from batchsent.run.device_stamp import stamp_of_facts
from batchsent.run.options import BatchOptions
from batchsent.run.parts import differences
from batchsent.run.plan import RunPlan, with_later_options
from batchsent.text import printable

LEAVE_OUT = "leave out --reuse to score every row"


def open_outputs(paths: Sequence[str], plan: RunPlan, options: BatchOptions) -> KnownTexts:
    """Hold the summaries of earlier outputs against what a run is about to do.

    Raises InputError for an output that is not there or has no usable summary, UsageError for one
    of another model or other options, or without the columns that this run needs.
    """
    hint = f"give the output as its run wrote it, or {LEAVE_OUT}"
    outputs = [ScoredOutput.of(path, hint) for path in paths]
    for output in outputs:
        _check_same_scores(output, plan)
        _check_columns(output, plan, options)
    return KnownTexts(outputs)


def check_device(known: KnownTexts, stamp: dict[str, Any]) -> None:
    """Raise UsageError for an output whose scores another device or precision has computed."""
    for output in known.outputs:
        document = output.summary.document
        recorded = stamp_of_facts(document)
        different = differences(recorded, {name: stamp.get(name) for name in recorded})
        if different:
            raise UsageError(
                f"{output.name} was scored elsewhere, where the same text may get other last "
                f"digits: {'; '.join(different.values())}",
                hint=f"score on that device, or {LEAVE_OUT}",
                differs=list(different),
            )


def other_texts(known: KnownTexts, section: dict[str, Any], plan: RunPlan) -> list[str]:
    """Say of each output without a score for this run that its texts were those of other columns.

    `section` is what `known` says of its rows.
    """
    now = plan.source.text_columns
    said = []
    for output, counts in zip(known.outputs, section["outputs"], strict=True):
        named = output.summary.document["input"]["columns"]["text"]
        before = tuple(named) if isinstance(named, list) else (named,)
        gave_nothing = section["new_rows"] and not counts["reused_rows"]
        if now is not None and gave_nothing and before != now.names:
            shown = [printable(" + ".join(map(str, names))) for names in (before, now.names)]
            said.append(
                f"no row is reused of {output.name}: its texts are {shown[0]}, here they are "
                f"{shown[1]}"
            )
    return said


def calibrated_unless_reused(
    scores: Scores, temperature: float, fast: float | None = None
) -> Scores:
    """Return calibrated scores, as `calibrated` does; those reused are calibrated already."""
    found = calibrated(scores, temperature, fast)
    if scores.reused is None:
        return found
    kept: NDArray[np.bool_] = scores.reused[:, None]
    return dataclasses.replace(
        found, probabilities=np.where(kept, scores.probabilities, found.probabilities)
    )


def _check_same_scores(output: ScoredOutput, plan: RunPlan) -> None:
    """Raise UsageError where another model, option or version has scored an output."""
    reading = {"input", *(flag_of(field) for field in dataclasses.fields(ReadOptions))}
    wanted = {name: value for name, value in plan.fingerprint.items() if name not in reading}
    recorded = output.summary.document["run"].get("fingerprint")
    if not isinstance(recorded, dict):
        raise output.summary.damaged("it does not say what decided its scores")
    different = differences(with_later_options(recorded, wanted), wanted)
    temperature = output.summary.document["model"].get("temperature")
    if temperature != plan.temperature:
        words = [
            "raw" if found is None else f"{found:g}" for found in (temperature, plan.temperature)
        ]
        different["--calibrated"] = f"the calibration temperature was {words[0]}, now {words[1]}"
    if different:
        raise UsageError(
            f"{output.name} has other scores than this run would give: "
            f"{'; '.join(different.values())}",
            hint=f"use the model and the options of the run that wrote it, or {LEAVE_OUT}",
            differs=list(different),
        )


def _check_columns(output: ScoredOutput, plan: RunPlan, options: BatchOptions) -> None:
    """Raise UsageError where an output lacks numbers that this run writes or counts."""
    if output.labels != plan.identity.labels:
        raise output.summary.damaged("its labels are not those of its model")
    if options.details and plan.identity.cascade is not None and not output.tells_tokens:
        raise UsageError(
            f"{output.name} does not say how many tokens were read, which --details with --cascade "
            "needs",
            hint=f"give an output that was written with --details, or {LEAVE_OUT}",
        )
    if output.options.probabilities:
        return
    needs = []
    if options.probabilities:
        needs.append("--probabilities")
    two = len(output.labels) == 2
    if options.writes_polarity and not (two and output.options.writes_polarity):
        needs.append("--polarity" if options.polarity else "--neutral-band")
    if not two:
        if plan.gold is not None:
            needs.append("--gold" if options.gold else "--gold-stars")
        if plan.reliability.temperature is not None and plan.temperature is None:
            needs.append("the expected accuracy")
    if needs:
        raise UsageError(
            f"{output.name} has no column for the probability of each label, which "
            f"{' and '.join(needs)} need{'s' if len(needs) == 1 else ''}",
            hint=f"give an output that was written with --probabilities, or {LEAVE_OUT}",
        )
