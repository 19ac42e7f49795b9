"""Proof of a folder of outputs: each input of a tree has its output there, and that is right."""

import collections
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from batchsent.errors import BatchsentError, GateFailed, InputError, UsageError
from batchsent.evaluation import summary as summaries
from batchsent.filenames import exists
from batchsent.formats.dumps import find_dumps, output_name, tree_of
from batchsent.formats.found import SUMMARY_ENDING, WHOLE_SUMMARY, Found
from batchsent.formats.trees import Tree, files_in
from batchsent.reporting import Reporter
from batchsent.text import printable
from batchsent.urls import is_url

SCHEMA = "batchsent.verifications/1"
ROWS = ("read", "scored", "blank", "rejected", "nonfinite", "written")


def verify_folder(
    source: str,
    output: str,
    prove: Callable[[str, str], dict[str, Any]],
    reporter: Reporter,
    *,
    input_format: str | None,
    output_format: str | None,
    prefix: str,
) -> dict[str, Any]:
    """Prove with `prove(input, output)` that every dump in `source` has its output in a folder.

    The dumps are those that a run would score. Formats and prefix that are not given are those of
    the first summary in the folder. Returns the verdict on the whole, with that on each file in
    `files`. Raises GateFailed, with the verdict as its attribute `document`, after all files have
    been looked at; UsageError where there is nothing to look at.
    """
    tree = tree_of(output)
    run = options_of_run(tree)
    output_format = output_format or run.get("output_format")
    found = find_dumps(
        [source],
        output,
        prefix=prefix or run.get("prefix") or "",
        input_format=input_format or run.get("input_format"),
    )
    if not found.dumps and not found.unread:
        raise UsageError(f"there is no file in {printable(source)}", hint="name another folder")
    files, targets = verdicts_on_all(found, tree, output_format, prove, reporter)
    bad = [file for file in files if file["status"] != "same"]
    for file in bad:
        reporter.warning(file["verdict"])
    rows = {name: sum(file["rows"][name] for file in files if file["rows"]) for name in ROWS}
    document = {
        "schema": SCHEMA,
        "status": "different" if bad else "same",
        "verdict": f"{printable(output)} is {printable(source)}, scored: {len(files):,} files",
        "hint": None,
        "input": printable(source),
        "output": printable(output),
        "rows": rows,
        "files": files,
        "checked": [
            f"{len(files):,} files, each with its output in its place",
            f"{rows['written']:,} rows, each once, in order; --json has what was checked of each "
            "file",
        ],
        "unchecked": list(not_looked_at(tree, targets, files)),
    }
    if not bad:
        problem = whole_summary_problem(tree, rows, len(files))
        if problem is None:
            return document
        bad = [{"verdict": problem}]
    document["status"] = "different"
    document["verdict"] = (
        f"{printable(output)} is not what it should be, {len(bad):,} of {len(files):,} files: "
        f"{bad[0]['verdict']}"
    )
    document["hint"] = "score the input again: files that are as they should be are skipped"
    raise GateFailed(str(document["verdict"]), document=document, hint=document["hint"])


def verdicts_on_all(
    found: Found,
    tree: Tree,
    output_format: str | None,
    prove: Callable[[str, str], dict[str, Any]],
    reporter: Reporter,
) -> tuple[list[dict[str, Any]], set[Path]]:
    """Return the verdict on each file of the input, and the places of their outputs."""
    files = []
    targets = set()
    for number, dump in enumerate(found.dumps, start=1):
        reporter.run_started("", printable(dump.path), number, len(found.dumps))
        inside = dump.inside.with_name(output_name(dump.inside.name, output_format))
        targets.add(inside)
        if tree.exists(inside):
            files.append(verdict_on(dump.path, tree.path(inside), prove))
        else:
            there = is_url(dump.path) or exists(dump.path)
            missing = "has no output" if there else "is not there, nor is its output"
            files.append(
                not_proven(dump.path, tree.path(inside), f"{printable(dump.path)} {missing}")
            )
    for dump, error in found.unread:
        files.append(not_proven(dump.path, tree.path(dump.inside), error.message))
    return files, targets


def verdict_on(
    source: str, output: str, prove: Callable[[str, str], dict[str, Any]]
) -> dict[str, Any]:
    """Return the verdict on one file, also where it cannot be read."""
    try:
        return prove(source, output)
    except GateFailed as failed:
        return failed.document
    except (InputError, UsageError) as error:
        return not_proven(source, output, error.message, error)


def not_proven(
    source: str, output: str, message: str, error: BatchsentError | None = None
) -> dict[str, Any]:
    """Return the verdict on a file that could not be compared with another."""
    return {
        "status": "different",
        "verdict": message,
        "hint": error.hint if error else None,
        "input": printable(source),
        "output": printable(output),
        "rows": None,
    }


def options_of_run(tree: Tree) -> dict[str, Any]:
    """Return the options in the first summary of a run that there is in a folder; or none."""
    for output in outputs_in(tree):
        document = summary_of(tree, output)
        options = document["run"].get("options") if document else None
        if isinstance(options, dict):
            return options
    return {}


def outputs_in(tree: Tree) -> Iterator[Path]:
    """Yield what is in the place of each output with a summary, by the names of the summaries."""
    for path in files_in(tree):
        if path.name.endswith(SUMMARY_ENDING) and path.name != WHOLE_SUMMARY:
            yield path.with_name(path.name.removesuffix(SUMMARY_ENDING))


def summary_of(tree: Tree, output: Path) -> dict[str, Any] | None:
    """Return the summary beside an output; None where it is damaged."""
    content = tree.read(output.with_name(output.name + SUMMARY_ENDING))
    with suppress(InputError):
        return None if content is None else summaries.parse(content, output.name)
    return None


def not_looked_at(tree: Tree, targets: set[Path], files: list[dict[str, Any]]) -> Iterator[str]:
    """Say what no file of the input has to do with, and what could not be checked of the files."""
    others = [
        output
        for output in outputs_in(tree)
        if output not in targets and summary_of(tree, output) is not None
    ]
    if others:
        yield (
            f"{len(others):,} outputs that are of no file of the input: "
            f"{printable(tree.path(others[0]))}"
        )
    said: collections.Counter[str] = collections.Counter()
    for file in files:
        said.update(file.get("unchecked", ()))
    for text, count in said.items():
        yield text if count == 1 else f"{text} ({count:,} files)"


def whole_summary_problem(tree: Tree, rows: dict[str, int], files: int) -> str | None:
    """Return how the rows in the summary of the whole differ from those that were found.

    None where they do not, or where it is about other files, or not there.
    """
    path, inside = printable(tree.path(Path(WHOLE_SUMMARY))), Path(WHOLE_SUMMARY)
    if not tree.exists(inside):
        return None
    try:
        document = json.loads(tree.read(inside) or b"")
        if len(document["files"]) != files:
            return None
        claimed = {name: document["rows"][name] for name in ROWS}
    except (ValueError, KeyError, TypeError):
        return f"{path} is damaged"
    if claimed == rows:
        return None
    return f"{path} claims the rows {claimed}, and there are {rows}"
