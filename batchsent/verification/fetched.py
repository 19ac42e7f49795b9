"""Copies of outputs that are in a store: what is verified is a file."""

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from batchsent.errors import InputError
from batchsent.evaluation import summary as summaries
from batchsent.formats.objects import WAITS_S, NotThere, ObjectBytes, find_object
from batchsent.urls import file_name


def fetch_output(
    url: str,
    folder: Path,
    summary: str | None = None,
    waits_s: Sequence[float] = WAITS_S,
) -> Path:
    """Copy an output with its summary, rejects and tables into a folder; return the output's path.

    `summary` is that of the run where it is another file. Raises InputError and UsageError.
    """
    name = file_name(url)
    base = url.removesuffix(name)
    names = [name, f"{name}.summary.json", f"{name}.rejects.csv"]
    if summary is None:
        fetch(f"{base}{names[1]}", folder / names[1], waits_s)
        summary = str(folder / names[1])
    with contextlib.suppress(InputError, LookupError, TypeError):
        names += [Path(str(entry["path"])).name for entry in summaries.read(summary)["outputs"]]
    for other in dict.fromkeys(names):
        if not (folder / other).exists():
            fetch(base + other, folder / other, waits_s)
    return folder / name


def fetch(url: str, path: Path, waits_s: Sequence[float]) -> None:
    """Copy an object to a file, if it is there. Raises InputError and UsageError."""
    try:
        stored = ObjectBytes(find_object(url), waits_s)
    except NotThere:
        return
    with stored, path.open("wb") as file:
        shutil.copyfileobj(stored, file, 1 << 20)
