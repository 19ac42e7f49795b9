"""The part of the bench that times whole commands, from start to end: a CSV into a CSV.

What a user waits for: imports, the loading of the model and its checks, reading, scoring, writing.
"""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

PIPELINE = Path(__file__).with_name("pipeline_csv.py")
COMMANDS = ("batchsent", "batchsent int8", "pipeline")


def command(name: str, model: str, source: Path, target: Path) -> list[str]:
    """Return what is typed."""
    if name == "pipeline":
        return [sys.executable, str(PIPELINE), model, str(source), str(target)]
    line = [sys.executable, "-m", "batchsent", "batch", str(source), "-o", str(target)]
    line += ["--model", model, "--text-column", "text", "--device", "cpu"]
    return [*line, "--precision", "int8" if name.endswith("int8") else "float32"]


def run(line: list[str]) -> tuple[float, float, float] | str:
    """Run a command; return its seconds, processor seconds and peak MB, or why it failed."""
    start = time.perf_counter()
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        lines = said.strip().splitlines()
        return lines[-1][:100] if lines else f"exit {process.returncode}"
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000


def measure(texts: list[str], model: str, folder: Path, repeat: int) -> list[str]:
    """Time every command on some texts, one after the other in turn; return lines of a table.

    The fastest run of each counts.
    """
    source = folder / "reviews.csv"
    with source.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["id", "text"], *enumerate(texts)])
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in COMMANDS}
    failed = {}
    for number in range(repeat):
        for name in COMMANDS:
            found = run(command(name, model, source, folder / f"{number} {name}.csv"))
            if isinstance(found, str):
                failed[name] = found
            else:
                runs[name].append(found)
    lines = []
    ours = min(runs["batchsent"], default=None)
    for name in COMMANDS:
        if name in failed:
            lines.append(f"{len(texts):>8,}  {name:16}not run: {failed[name]}")
            continue
        seconds, processor_s, megabytes = min(runs[name])
        times = f"{seconds / ours[0]:.2f} x" if ours else ""
        lines.append(
            f"{len(texts):>8,}  {name:16}{seconds:>9.1f}{processor_s:>11.1f}"
            f"{len(texts) / seconds:>11.1f}{megabytes:>11,.0f}{times:>9}"
        )
    return lines


def table(texts: list[str], model: str, folder: Path, counts: list[int], repeat: int) -> str:
    """Return the table of whole commands for each count of reviews."""
    lines = [
        "whole commands, CSV into CSV:",
        f"{'reviews':>8}  {'':16}{'seconds':>9}{'CPU s':>11}{'reviews/s':>11}{'memory MB':>11}"
        f"{'takes':>9}",
    ]
    for count in counts:
        place = folder / f"{count} reviews"
        place.mkdir()
        # Fewer texts than that are taken again and again: batchsent scores equal texts once, so
        # each copy says which one it is.
        wanted = [
            texts[n] if n < len(texts) else f"{n // len(texts)} {texts[n % len(texts)]}"
            for n in range(count)
        ]
        lines += measure(wanted, model, place, repeat)
    return "\n".join(lines)
