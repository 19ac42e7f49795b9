"""What a run writes down about itself: its plan, its outputs, its speed, how it ended."""

import dataclasses
import datetime
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from batchsent.errors import EXIT_ROWS_REJECTED, BatchsentError, GateFailed, ModelError
from batchsent.evaluation import gates
from batchsent.evaluation import summary as summaries
from batchsent.evaluation.advice import warning
from batchsent.evaluation.gold import check_judged
from batchsent.evaluation.tally import Tally
from batchsent.model.scorer import Scorer
from batchsent.run.options import BatchOptions
from batchsent.run.paths import RunPaths
from batchsent.run.pipeline import Clock
from batchsent.run.plan import RunPlan
from batchsent.text import printable


def is_intact(path: Path | None, written: dict[str, Any]) -> bool:
    """Tell whether a file still has the size and hash that a summary gives."""
    try:
        if path is None or path.stat().st_size != written["bytes"]:
            return False
        with path.open("rb") as file:
            return bool(hashlib.file_digest(file, "sha256").hexdigest() == written["sha256"])
    except OSError:
        return False


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
    clock: Clock, sections: dict[str, Any], reused: int, device: dict[str, Any]
) -> dict[str, Any]:
    """Return the summary's section on speed.

    Rows taken from parts were not scored in this sitting.
    """
    elapsed = clock.elapsed_s
    stages = {name: round(seconds, 3) for name, seconds in sorted(clock.busy_s.items())}
    cpu = {name: round(seconds, 3) for name, seconds in sorted(clock.cpu_s.items())}
    streaming = {
        name: clock.busy_s.get(name, 0.0) for name in ("read", "tokenize", "score", "write")
    }
    # Speed is that of the stream: checking and loading are told apart, since they do not grow with
    # it.
    span = max(elapsed - clock.busy_s.get("check", 0.0) - clock.busy_s.get("load", 0.0), 1e-9)
    slowest = max(streaming, key=lambda name: streaming[name])
    rows = sections["rows"]
    fresh = max(rows["read"] - reused, 0)
    share = fresh / rows["read"] if rows["read"] else 0.0
    return {
        "rows_per_s": fresh / span,
        "tokens_per_s": share * sections["text"]["tokens_read"] / span,
        "seconds": stages,
        "cpu_seconds": cpu | {"process": round(clock.process_cpu_s, 3)},
        "busy_share": {
            name: round(min(1.0, seconds / span), 3) for name, seconds in streaming.items()
        },
        "bottleneck": {
            "read": "reading the input",
            "tokenize": "the tokenizer",
            "score": "the model",
            "write": "writing the output",
        }[slowest],
        "padding_share": device.get("padding_share"),
    }


def run_facts(
    run_id: str, options: BatchOptions, started: datetime.datetime, clock: Clock
) -> dict[str, Any]:
    """Return which run this is."""
    return {
        "id": run_id,
        "command": [printable(word) for word in sys.argv],
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "elapsed_s": round(clock.elapsed_s, 3),
        "options": dataclasses.asdict(options),
    }


def dry_run_document(plan: RunPlan, paths: RunPaths, *, up_to_date: bool) -> dict[str, Any]:
    """Return what a run would do."""
    identity, checked = plan.identity, plan.checked
    return {
        "status": "dry_run",
        "up_to_date": up_to_date,
        "input": plan.source.facts() | ({"sha256": checked.sha256} if checked else {}),
        "rows": checked.rows if checked else None,
        "bad_rows": checked.bad_rows if checked else None,
        "output": paths.output,
        "summary": None if paths.summary is None else str(paths.summary),
        "new_columns": list(plan.added.names),
        "model": {
            "source": identity.source,
            "labels": list(identity.labels),
            "max_length": identity.max_length,
        },
    }


def exit_code_of(rows: dict[str, int]) -> int:
    """Return the exit code of a finished run, gates aside: 3 where rows lack a score."""
    return EXIT_ROWS_REJECTED if rows["rejected"] or rows["nonfinite"] else 0


def check_result(sections: dict[str, Any], paths: RunPaths) -> None:
    """Refuse to call a run finished that has no result. Raises ModelError or InputError.

    The parts are kept.
    """
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
    reused_rows: int,
    fail_under: Sequence[str],
) -> dict[str, Any]:
    """Return the summary of a finished run; `sections` are the tally's."""
    facts, read = scorer.facts(), plan.source.facts()
    if plan.checked:
        read |= {"bytes": plan.checked.bytes, "sha256": plan.checked.sha256}
    exit_code = exit_code_of(sections["rows"])
    if gates.failed_minimums(sections["evaluation"], fail_under):
        exit_code = GateFailed.exit_code
    how = {
        "scores": "softmax" if plan.temperature is None else "calibrated",
        "temperature": plan.temperature,
    }
    return summaries.build(
        status="complete",
        exit_code=exit_code,
        run=run
        | {"resumed_rows": reused_rows, "writing": plan.writing, "fingerprint": plan.fingerprint},
        package=summaries.versions(),
        input=read,
        outputs=outputs,
        model=facts["model"] | how,
        device=facts["device"],
        tally_sections=sections,
        performance=performance(clock, sections, reused_rows, facts["device"]),
        warnings=[
            *plan.source.warnings(),
            *plan.side_tables.warnings(),
            *device_warnings(facts["device"]),
        ],
    )


def device_warnings(device: dict[str, Any]) -> list[dict[str, str | None]]:
    """Return what a person should know of the device that was chosen."""
    said = device.get("warning")
    return [warning("device", said)] if said else []


def failure(
    error: BatchsentError, input_name: str, run: dict[str, Any], tally: Tally, clock: Clock
) -> bytes:
    """Return the summary of a run that failed: the error, and what had been counted until then."""
    sections = tally.sections()
    document = summaries.build(
        status="failed",
        exit_code=error.exit_code,
        run=run,
        package=summaries.versions(),
        input={"path": input_name},
        outputs=[],
        model={},
        device={},
        tally_sections=sections,
        performance=performance(clock, sections, 0, {}),
        error={"message": error.message, "hint": error.hint},
    )
    return summaries.dumps(document)
