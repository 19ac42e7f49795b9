"""What a run writes down about itself: its outputs, its speed, and how it failed."""

import hashlib
from pathlib import Path
from typing import Any

from batchsent.errors import BatchsentError, printable
from batchsent.evaluation import summary as summaries
from batchsent.evaluation.tally import Tally
from batchsent.run.pipeline import Clock


def named(output: Path, ending: str) -> Path:
    """Return the path of a file that belongs to an output."""
    return output.with_name(output.name + ending)


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
    return {"role": role, "path": printable(path), "bytes": file.size, "sha256": file.sha256, "rows": rows}


def performance(clock: Clock, sections: dict[str, Any], reused: int, device: dict[str, Any]) -> dict[str, Any]:
    """Return the summary's section on speed; rows taken from parts were not scored in this sitting."""
    elapsed = clock.elapsed_s
    stages = {name: round(seconds, 3) for name, seconds in sorted(clock.busy_s.items())}
    streaming = {name: clock.busy_s.get(name, 0.0) for name in ("read", "tokenize", "score", "write")}
    # Speed is that of the stream: checking and loading are told apart, since they do not grow with it.
    span = max(elapsed - clock.busy_s.get("check", 0.0) - clock.busy_s.get("load", 0.0), 1e-9)
    slowest = max(streaming, key=lambda name: streaming[name])
    rows = sections["rows"]
    fresh = max(rows["read"] - reused, 0)
    share = fresh / rows["read"] if rows["read"] else 0.0
    return {
        "rows_per_s": fresh / span,
        "tokens_per_s": share * sections["text"]["tokens_read"] / span,
        "seconds": stages,
        "busy_share": {name: round(min(1.0, seconds / span), 3) for name, seconds in streaming.items()},
        "bottleneck": {
            "read": "reading the input",
            "tokenize": "the tokenizer",
            "score": "the model",
            "write": "writing the output",
        }[slowest],
        "padding_share": device.get("padding_share"),
    }


def failure(error: BatchsentError, input_name: str, run: dict[str, Any], tally: Tally, clock: Clock) -> bytes:
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
