"""What a summary claims, compared with what the files are."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from batchsent.files.hashing import sha256_of
from batchsent.formats import ReadOptions, open_source
from batchsent.formats.several import hash_of
from batchsent.text import printable
from batchsent.urls import is_url
from batchsent.verification.differences import Difference, as_difference, shown


def same(what: str, claimed: Any, found: Any) -> None:
    """Raise Difference where a claim is not what was found, or is of another type."""
    if type(claimed) is not type(found) or claimed != found:
        raise Difference(f"{what}: {shown(claimed)} in the summary, {shown(found)} in the files")


def same_section(what: str, claimed: Any, found: Any) -> None:
    """Hold a section of a summary against the same section counted again.

    Raises Difference for the first figure.
    """
    if isinstance(found, dict) and isinstance(claimed, dict):
        for name in dict.fromkeys([*found, *claimed]):
            same_section(f"{what} {printable(name)}", claimed.get(name), found.get(name))
    elif isinstance(found, list) and isinstance(claimed, list) and len(claimed) == len(found):
        for n, (one, other) in enumerate(zip(claimed, found, strict=True)):
            same_section(f"{what} {n + 1}", one, other)
    else:
        same(what, claimed, found)


def same_file(what: str, claimed: Mapping[str, Any], path: Path) -> None:
    """Raise Difference where a file has another size or hash than the summary says."""
    same(f"bytes of {what}", claimed["bytes"], path.stat().st_size)
    same(f"sha256 of {what}", claimed["sha256"], sha256_of(path))


def same_inputs(claimed: Sequence[Mapping[str, Any]], found: Sequence[str]) -> None:
    """Hold the files that a run says it has read as one input against the paths that there are.

    Raises Difference.
    """
    names = [str(file["path"]) for file in claimed]
    for name in names:
        if name not in found:
            raise Difference(f"the input {printable(name)} of the run is not there")
    for name in found:
        if name not in names:
            raise Difference(f"the input {printable(name)} is not in the output")
    same("order of the inputs", names, list(found))


def same_files(
    claimed: Mapping[str, Any],
    found: Sequence[Mapping[str, Any]],
    paths: Sequence[str],
    *,
    whole: bool,
) -> int:
    """Hold sizes, rows and hashes of the files of one input against those of the files at `paths`.

    Without `whole` objects of a store were read in part. Returns for how many of them no hash is
    known. Raises Difference.
    """
    unknown = 0
    for entry, file, path in zip(claimed["files"], found, paths, strict=True):
        what = f"the input {printable(path)}"
        same(f"rows of {what}", entry["rows"], file["rows"])
        if is_url(path) and not whole:
            unknown += 1
            continue
        same(f"bytes of {what}", entry["bytes"], file["bytes"])
        sha256 = file["sha256"] if is_url(path) else sha256_of(Path(path))
        if entry["sha256"] is None or sha256 is None:
            unknown += 1
        else:
            same(f"sha256 of {what}", entry["sha256"], sha256)
    same("bytes of the input", claimed["bytes"], sum(entry["bytes"] for entry in claimed["files"]))
    if claimed["sha256"] is not None:
        same("sha256 of the input", claimed["sha256"], hash_of(claimed["files"]))
    return unknown


def same_tables(
    outputs: Sequence[Mapping[str, Any]],
    paths: Mapping[str, Path],
    output: Path,
    output_format: str | None,
) -> Iterator[tuple[Path, int]]:
    """Yield path and rows of each table beside an output, compared with the summary's `outputs`.

    Raises Difference. `paths` say by role where a run writes its tables. One that is not there is
    looked for at its old path relative to the output: the files may have been moved together, or
    this be another working directory.
    """
    entries = {entry["role"]: entry for entry in outputs}
    data = Path(entries["data"]["path"])
    tables = {role: entry for role, entry in entries.items() if role not in {"data", "rejects"}}
    if set(tables) != set(paths):
        named, asked = (
            ", ".join(sorted(roles)) or "none" for roles in (map(printable, tables), paths)
        )
        raise Difference(
            f"tables among the outputs of the summary: {named}; by its options the run wrote: "
            f"{asked}"
        )
    for role, entry in tables.items():
        moved = output.parent / os.path.relpath(entry["path"], data.parent)
        there = [path for path in (paths[role], moved) if path.is_file()]
        if not there:
            raise Difference(
                f"the table {printable(paths[role])} is not there; the summary has it as the run's "
                f"{role}"
            )
        path = next((path for path in there if sha256_of(path) == entry["sha256"]), there[0])
        what = f"the table {printable(path)}"
        same_file(what, entry, path)
        rows = rows_of(path, "csv" if role == "disagreements" else output_format)
        same(f"rows of {what}", entry["rows"], rows)
        yield path, rows


def rows_of(path: Path, output_format: str | None) -> int:
    """Return the rows of a table that a run wrote beside its output.

    Raises Difference for one that is damaged.
    """
    options = ReadOptions(input_format=output_format)
    with as_difference(), closing(open_source(str(path), options, needs_text=False)) as table:
        rows = table.check([]).rows
        return sum(chunk.rows for chunk in table.chunks()) if rows is None else rows
