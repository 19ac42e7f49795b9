"""Check every way in which this machine could run a model, each in a process of its own.

A way that crashes, hangs or runs out of memory is a row of the result, not the end of the check.
The result is made for reports of faults: it holds no path and no name of the user.
"""

import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import IO, Any

import batchsent.errors
from batchsent.errors import BatchsentError, ModelError, UsageError
from batchsent.model.loading import ModelIdentity
from batchsent.model.machine import machine_facts, usable_cores
from batchsent.model.options import ModelOptions
from batchsent.model.spawned import end, environment, last_line, name_of_signal
from batchsent.model.ways import REFERENCE, Way
from batchsent.model.weight_files import read_header, weight_files
from batchsent.precisions import PRECISIONS
from batchsent.reporting import Reporter
from batchsent.text import elapsed, printable

CHILD = (sys.executable, "-P", "-m", "batchsent.model.measuring")
# A way that takes longer than both is ended: this, and so many times what was expected of it. On
# two cores with twelve busy processes a way of the embedded model takes 150 s in place of 13.
LEAST_LIMIT_S, LIMIT_FACTOR = 300.0, 10.0
MOST_ANSWER_BYTES = 64 << 20
MESSAGE_CHARACTERS = 300
# The time of a way before the first was measured: what a process needs to import and load, and
# then some 30,000 tokens (of texts up to 512 tokens) at so many operations a second and core.
START_S, TOKENS, OPERATIONS_PER_S = 8.0, 30_000, 60e9
POSSIBLE, FAILED, IMPOSSIBLE = "ok", "failed", "not possible"


@dataclass(frozen=True)
class Answer:
    """What a child found, or why there is nothing."""

    found: dict[str, Any] | None
    why: str = ""
    error: BatchsentError | None = None  # where the child's failure was one that the user can fix


class Checker:
    """Asks children about one model."""

    def __init__(
        self,
        identity: ModelIdentity,
        options: ModelOptions,
        command: Sequence[str] = CHILD,
        limit_s: float | None = None,
    ) -> None:
        """`command` starts a child; a child may take `limit_s`, or what is usual for the model."""
        self.identity = identity
        self.options = options
        self.command = command
        self.expected_s = expected_seconds(identity)
        self.limit_s = limit_s or max(LEAST_LIMIT_S, LIMIT_FACTOR * self.expected_s)

    def find_ways(self) -> Answer:
        """Ask which ways there are."""
        return self._ask({"action": "ways", "options": asdict(self.options)})

    def measure(self, way: Way, wanted: list[list[float]] | None) -> Answer:
        """Ask what is measured of a way; `wanted` are the reference's logits."""
        options = replace(self.options, device=way.device, precision=way.precision)
        job = {"model": str(self.identity.path), "path": way.path, "wanted": wanted}
        return self._ask({"action": "measure", "options": asdict(options), **job})

    def _ask(self, job: dict[str, Any]) -> Answer:
        content = json.dumps({**job, "limit_s": self.limit_s}).encode()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=out, stderr=err, env=environment()
            )
            try:
                process.communicate(content, timeout=self.limit_s)
            except subprocess.TimeoutExpired:
                return Answer(None, f"did not end within {elapsed(self.limit_s)}")
            finally:
                end(process)
            return self._read(process.returncode, out, err)

    def _read(self, code: int, out: IO[bytes], err: IO[bytes]) -> Answer:
        """Return the answer of a child that has ended."""
        if code < 0:
            return Answer(None, f"was ended by {name_of_signal(-code)}")
        out.seek(0)
        try:
            said = json.loads(out.read(MOST_ANSWER_BYTES))
            if "found" in said:
                return Answer(said["found"])
            message = self._without_paths(said["message"])
            kind = getattr(batchsent.errors, said["error"], None) if said["error"] else None
            error = kind(said["message"], hint=said["hint"]) if kind else None
            return Answer(None, message, error)
        except (ValueError, KeyError, TypeError):
            last = last_line(err)
            said = f": {last}" if last else ""
            return Answer(None, self._without_paths(f"ended with exit code {code}{said}"))

    def _without_paths(self, text: str) -> str:
        """Return a message without the folders in it: they may name the user."""
        folders = {str(self.identity.path): "MODEL", self.identity.source: "MODEL"}
        folders |= {str(Path.home()): "~", str(Path.cwd()): "."}
        for folder, name in folders.items():
            if os.sep in folder.strip(os.sep):
                text = text.replace(folder, name)
        text = re.sub(r"""(?<![\w.~])/(?:[^\s/'"]+/)+""", "", text)
        return printable(text)[:MESSAGE_CHARACTERS]


def check_ways(checker: Checker, reporter: Reporter) -> dict[str, Any]:
    """Return the sections "machine", "model" and "check" of the result.

    `check.failure` says why the way that a run would choose cannot be trusted; None where it can.
    Raises UsageError or DeviceError for options that a run would refuse, ModelError for a model
    that does not load at all.
    """
    started = time.monotonic()
    found = checker.find_ways()
    if found.error is not None:
        raise found.error
    ways = found.found or {"default": None, "devices": [], "ways": [], "refused": []}
    rows = list(measured_rows(checker, plan_ways(ways), reporter))
    default = next((row for row in rows if row["default"]), None)
    failure = f"the search for devices {found.why}"
    if default is not None:
        failure = default["why"]
        # It may be that transformers' way on the CPU is what a run chooses.
        ways_once = {tuple(row[name] for name in WAY): row for row in rows}
        rows = list(ways_once.values())
    return {
        "machine": machine_facts()
        | {"devices": [device_words(device) for device in ways["devices"]]}
        | {"warnings": [ways["warning"]] if ways.get("warning") else []},
        "model": model_facts(checker.identity),
        "check": {
            "failure": failure,
            "reference": f"{REFERENCE}, each text alone",
            "default": default and {name: default[name] for name in WAY},
            "ways": rows,
            "refused": ways["refused"],
            "seconds": round(time.monotonic() - started, 1),
        },
    }


def plan_ways(found: dict[str, Any]) -> list[Way]:
    """Return the reference, what a run would choose, and then all other ways."""
    plan = [REFERENCE]
    if found["default"] is not None:
        plan.append(Way(**found["default"], path=None))
    return plan + [way for way in (Way(**way) for way in found["ways"]) if way != REFERENCE]


def measured_rows(
    checker: Checker, plan: list[Way], reporter: Reporter
) -> Iterator[dict[str, Any]]:
    """Measure the ways of a plan one after the other, and yield the row of each.

    What a run chooses is one of the ways after it, which is not measured twice.
    """
    wanted: list[list[float]] | None = None
    each_s = checker.expected_s
    waiting = list(plan)
    done = 0
    while waiting:
        way = waiting.pop(0)
        total = done + 1 + len(waiting) - any(way.path is None for way in (way, *waiting))
        left = in_words(each_s * (total - done))
        reporter.notice(f"checking way {done + 1} of {total}, {way}; {left} left")
        started = time.monotonic()
        answer = checker.measure(way, wanted)
        if way == REFERENCE:
            if isinstance(answer.error, ModelError):
                raise answer.error
            each_s = time.monotonic() - started
            wanted = answer.found.pop("logits") if answer.found else None
        row = row_of(way, answer, compared=wanted is not None)
        if row["default"]:
            chosen = Way(row["device"], row["precision"], row["path"])
            waiting = [way for way in waiting if way != chosen]
        done += 1
        yield row


# Figures that need the reference.
COMPARED = ("largest_difference", "largest_logit_difference", "label_flips")
# The names of the fields of a way.
WAY = tuple(field.name for field in fields(Way))


def row_of(way: Way, answer: Answer, *, compared: bool) -> dict[str, Any]:
    """Return the row of a way: what it is, whether it can be trusted, why not, and the figures."""
    found = answer.found or {}
    why, status = answer.why, FAILED
    if answer.found is not None and compared:
        why = why_not_trusted(found)
        status = FAILED if why else POSSIBLE
    elif answer.found is not None:
        why = "there is nothing to compare it with"
        found |= dict.fromkeys(COMPARED)
    elif isinstance(answer.error, UsageError) and way.path is not None:
        status = IMPOSSIBLE
    path = way.path or str(found.get("path", "")).partition(",")[0] or None
    return {
        **asdict(way),
        "path": path,
        "default": way.path is None,
        "status": status,
        "why": why or None,
        "figures": {name: value for name, value in found.items() if name not in {"path", "logits"}}
        or None,
    }


def why_not_trusted(found: dict[str, Any]) -> str:
    """Say what is wrong with the figures of a way, or nothing."""
    tolerance = found["tolerance"]
    if found["largest_difference"] is None:
        return "gives no finite number"
    if found["finite"] < found["texts"] and tolerance == PRECISIONS["float32"].tolerance:
        return f"gives no finite number for {found['texts'] - found['finite']} texts"
    for name, said in DIFFERENCES.items():
        if not found[name] <= tolerance:
            return f"{said} by {found[name]:.2g} of their spread, {tolerance:g} is allowed"
    if not found["same_bits_again"]:
        return "gives other bits for the same batches"
    return ""


# Differences that may not be larger than the tolerance of a number format.
DIFFERENCES = {
    "largest_difference": "logits differ from the reference",
    "difference_beside_others": "logits depend on the texts beside: they differ",
    "difference_alone": "logits of a text alone and of one among others differ",
}


def expected_seconds(identity: ModelIdentity) -> float:
    """Return about how long one way takes, from the size of the model and the cores."""
    parameters = 0
    for path in weight_files(identity.path):
        for name, tensor in read_header(path).items():
            if len(tensor.shape) == 2 and "embedding" not in name:
                parameters += math.prod(tensor.shape)
    tokens = TOKENS * max(1, identity.max_length / 512)
    return START_S + 2 * parameters * tokens / (OPERATIONS_PER_S * usable_cores())


def model_facts(identity: ModelIdentity) -> dict[str, Any]:
    """Return what identifies the model, without the folder that it is in."""
    return {
        "source": identity.source if identity.revision else Path(identity.source).name,
        "revision": identity.revision,
        "architecture": identity.architecture,
        "weights_sha256": identity.weights_sha256,
        "tokenizer_sha256": identity.tokenizer_sha256,
        "config_sha256": identity.config_sha256,
        "labels": list(identity.labels),
        "max_length": identity.max_length,
    }


def device_words(device: dict[str, Any]) -> str:
    """Return a device in words, such as `cuda:0 NVIDIA H200, 150.1 GB, compute capability 9.0`."""
    words = f"{device['name']} {device['description']}"
    if device["memory_bytes"] is not None:
        words += f", {device['memory_bytes'] / 1e9:.1f} GB"
    if device["capability"] is not None:
        words += f", compute capability {device['capability']}"
    return words


def in_words(seconds: float) -> str:
    """Return a rough duration: 40 s, 3 min."""
    if seconds < 100:
        return f"about {max(10, round(seconds, -1)):.0f} s"
    return f"about {seconds / 60:.0f} min"
