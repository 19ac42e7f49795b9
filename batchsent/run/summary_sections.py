"""The sections of the summary that a run knows: its plan, its outputs, its speed, its end."""

import dataclasses
import datetime
import sys
from collections.abc import Sequence
from typing import Any

from batchsent.errors import EXIT_ROWS_REJECTED, BatchsentError, GateFailed, ModelError
from batchsent.evaluation import gates
from batchsent.evaluation import summary as summaries
from batchsent.evaluation.advice import warning
from batchsent.evaluation.bins import share
from batchsent.evaluation.gold import check_judged
from batchsent.evaluation.tally import Tally
from batchsent.model.submission import Scorer
from batchsent.run.bottleneck import STAGES, bottleneck
from batchsent.run.options import BatchOptions
from batchsent.run.paths import RunPaths
from batchsent.run.pipeline import Clock
from batchsent.run.plan import RunPlan
from batchsent.text import printable
from batchsent.versions import SCORING, versions


def described(path: str, file: Any, role: str, rows: int) -> dict[str, Any]:
    """Return an entry of the summary's outputs."""
    return {
        "role": role,
        "path": printable(path),
        "bytes": file.size,
        "sha256": file.sha256,
        "rows": rows,
    }


def performance(
    clock: Clock, sections: dict[str, Any], known: int, device: dict[str, Any]
) -> dict[str, Any]:
    """Return the summary's section on speed.

    The `known` rows, taken from parts and from outputs to reuse, do not count.
    """
    busy = clock.busy_s
    # The speed is that of the stages in STAGES: checking and loading take as long for few rows.
    span = max(clock.elapsed_s - busy.get("check", 0.0) - busy.get("load", 0.0), 1e-9)
    streaming = {name: busy.get(name, 0.0) for name in STAGES}
    rows_read = sections["rows"]["read"]
    fresh = max(rows_read - known, 0)
    fresh_tokens = 0.0
    if rows_read:
        fresh_tokens = fresh / rows_read * sections["text"]["tokens_read"]
    return {
        "rows_per_s": fresh / span,
        "tokens_per_s": fresh_tokens / span,
        "seconds": _rounded(busy),
        "cpu_seconds": _rounded(clock.cpu_s) | _processes_cpu_s(clock, device),
        "busy_share": {
            name: round(min(1.0, seconds / span), 3) for name, seconds in streaming.items()
        },
        "device_busy_share": device.get("busy_share"),
        "bottleneck": bottleneck(streaming, device.get("busy_share")),
        "padding_share": device.get("padding_share"),
    }


def _processes_cpu_s(clock: Clock, device: dict[str, Any]) -> dict[str, float]:
    """Return processor seconds of this process, and of those that it spawned, if any."""
    found = {"process": round(clock.process_cpu_s, 3)}
    if spawned := device.get("devices"):
        found["spawned"] = round(sum(one["cpu_s"] for one in spawned), 3)
    return found


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in sorted(seconds.items())}


def run_facts(
    run_id: str, options: BatchOptions, started: datetime.datetime, clock: Clock
) -> dict[str, Any]:
    """Return the summary's section on the run itself: id, command, times, options."""
    return {
        "id": run_id,
        "command": [printable(word) for word in sys.argv],
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "elapsed_s": round(clock.elapsed_s, 3),
        "options": dataclasses.asdict(options),
    }


def dry_run_document(plan: RunPlan, paths: RunPaths, *, up_to_date: bool) -> dict[str, Any]:
    """Return the document of a dry run: what the run would do."""
    identity, checked = plan.identity, plan.checked
    read = plan.source.facts()
    rows = bad_rows = None  # of a pipe
    # Only the texts of both could tell how many rows, and a dry run does not hash them.
    reuse = {"outputs": list(plan.reuse), "reused_rows": "not checked"} if plan.reuse else None
    if checked:
        read |= {"sha256": checked.sha256, "bytes": checked.bytes}
        rows, bad_rows = checked.rows, checked.bad_rows
    return {
        "status": "dry_run",
        "up_to_date": up_to_date,
        "input": read,
        "rows": rows,
        "bad_rows": bad_rows,
        "output": paths.output,
        "summary": None if paths.summary is None else paths.place.file(paths.summary).name,
        "reuse": reuse,
        "new_columns": list(plan.added.names),
        "model": {
            "source": identity.source,
            "labels": list(identity.labels),
            "max_length": identity.max_length,
        },
    }


def exit_code_of(rows: dict[str, int]) -> int:
    """Return the exit code of a finished run without gates: 3 where rows lack a score, else 0."""
    if rows["rejected"] or rows["nonfinite"]:
        return EXIT_ROWS_REJECTED
    return 0


def check_result(sections: dict[str, Any], paths: RunPaths) -> None:
    """Refuse a run without any result. Raises ModelError or InputError; the parts are kept."""
    rows, evaluation = sections["rows"], sections["evaluation"]
    name = printable(paths.input)
    if rows["nonfinite"] and not rows["scored"]:
        raise ModelError(
            f"{name}: the model gave no finite number for any of its {rows['nonfinite']:,} texts",
            hint="the weights are damaged or overflow: try --precision float32, or another model",
        )
    if rows["scored"]:
        check_judged(evaluation, name)


def success(
    plan: RunPlan,
    run: dict[str, Any],
    sections: dict[str, Any],
    outputs: list[dict[str, Any]],
    scorer: Scorer,
    clock: Clock,
    *,
    resumed_rows: int,
    known_rows: int,
    reuse: dict[str, Any] | None,
    cascade_rows: tuple[int, int],
    fail_under: Sequence[str],
) -> dict[str, Any]:
    """Return the summary of a finished run; `sections` are the tally's.

    `cascade_rows` are how many rows each of the two models of a cascade scored.
    """
    facts, read = scorer.facts(), plan.source.facts()
    if plan.checked:
        read |= {"bytes": plan.checked.bytes, "sha256": plan.checked.sha256}
    exit_code = exit_code_of(sections["rows"])
    if gates.failed_minimums(sections["evaluation"], fail_under, sections["predictions"]):
        exit_code = GateFailed.exit_code
    if cascade := facts["model"].get("cascade"):
        decided, escalated = cascade_rows
        counts = {
            "decided_rows": decided,
            "escalated_rows": escalated,
            "escalated_share": share(escalated, decided + escalated),
            "temperature": plan.fast_temperature,
        }
        facts["model"] = facts["model"] | {"cascade": cascade | counts}
    calibration = {
        "scores": "softmax" if plan.temperature is None else "calibrated",
        "temperature": plan.temperature,
    }
    run_section = run | {
        "resumed_rows": resumed_rows,
        "reuse": reuse,
        "writing": plan.writing,
        "fingerprint": plan.fingerprint,
    }
    return summaries.build(
        status="complete",
        exit_code=exit_code,
        run=run_section,
        package=versions(SCORING),
        input=read,
        outputs=outputs,
        model=facts["model"] | calibration,
        device=facts["device"],
        tally_sections=sections,
        performance=performance(clock, sections, known_rows, facts["device"]),
        warnings=[
            *plan.source.warnings(),
            *plan.side_tables.warnings(),
            *device_warnings(facts["device"]),
        ],
    )


def device_warnings(device: dict[str, Any]) -> list[dict[str, str | None]]:
    """Return the warnings about the device, such as a GPU that is not used."""
    return [warning("device", said) for said in device.get("warnings", [])]


def failure(
    error: BatchsentError, input_name: str, run: dict[str, Any], tally: Tally, clock: Clock
) -> bytes:
    """Return the summary of a run that failed: the error, and the counts until then."""
    sections = tally.sections()
    document = summaries.build(
        status="failed",
        exit_code=error.exit_code,
        run=run,
        package=versions(SCORING),
        input={"path": input_name},
        outputs=[],
        model={},
        device={},
        tally_sections=sections,
        performance=performance(clock, sections, 0, {}),
        error={"message": error.message, "hint": error.hint},
    )
    return summaries.dumps(document)
