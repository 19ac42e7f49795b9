"""Which files belong to an output: without --overwrite no other file is replaced or removed.

A file belongs to an output where an earlier run of that output left proof of it:

- the summary: it is a summary that names this output,
- rejects, groups, disagreements: that summary names the file with its size and SHA-256,
- the page: it holds the id of the run that the summary is about,
- the failed summary: it is the summary of a failed run.

A run that was killed between its output and its summary has no summary yet. The files that it was
about to write are listed in its work folder (parts.announce), which counts as well. A symbolic link
never belongs to an output, since a run makes no links.
"""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchsent.errors import AppearedMeanwhile, InputError, UsageError
from batchsent.evaluation import summary as summaries
from batchsent.run.options import BatchOptions
from batchsent.run.parts import Parts, differences, work_directory
from batchsent.run.paths import RunPaths
from batchsent.run.places import FinalFile
from batchsent.run.plan import RunPlan, with_later_options
from batchsent.text import printable

# The option that gives a file another name. The others follow the name of the output.
NAMED_BY = {"summary": "--summary", "rejects": "--rejects", "disagreements": "--disagreements"}


@dataclass(frozen=True)
class Earlier:
    """What earlier runs of an output left, as it was when it was read."""

    paths: RunPaths
    document: dict[str, Any] | None  # the summary of the finished run, where it names this output
    announced: dict[str, Any]  # outputs and id of the run that was killed while it wrote them

    @classmethod
    def read(cls, paths: RunPaths) -> "Earlier":
        """Read the summary and the work folder."""
        paths = dataclasses.replace(paths, place=paths.place.seen())
        announced = {} if paths.target is None else Parts(work_directory(paths.target)).announced()
        return cls(paths, _summary_of(paths), announced)

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """The files that earlier runs say they wrote."""
        finished = self.document["outputs"] if self.document else []
        return [*finished, *self.announced.get("outputs", [])]

    def announced_is_there(self) -> bool:
        """Tell whether the output is there from a run that was killed before its summary."""
        announced = self.announced.get("outputs", [])
        written = [entry for entry in announced if entry.get("role") == "data"]
        return any(self._is_intact(self.paths.target, entry) for entry in written)

    def data_is_intact(self) -> bool:
        """Tell whether the output is unchanged since its summary was written."""
        written = [entry for entry in self.outputs if entry.get("role") == "data"]
        return any(self._is_intact(self.paths.data, entry) for entry in written)

    def _is_intact(self, path: Path | None, entry: dict[str, Any]) -> bool:
        return path is not None and self.paths.place.file(path).is_intact(entry)

    def is_own(self, role: str, path: Path) -> bool:
        """Tell whether the file at `path` belongs to this output."""
        if not self.paths.place.file(path).is_file():
            return False
        if role == "summary":
            return self.document is not None
        if role == "failed summary":
            return _is_failed_summary(self.paths.place.file(path))
        if role == "report":
            return self._is_own_page(path)
        return any(
            entry.get("role") == role
            and self._same_name(entry, path)
            and self._is_intact(path, entry)
            for entry in self.outputs
        )

    def _is_own_page(self, path: Path) -> bool:
        runs = [self.announced.get("run"), self.document and self.document["run"].get("id")]
        try:
            content = self.paths.place.file(path).read()
        except OSError:
            return False
        return any(f"batchsent run {run}".encode() in content for run in runs if run)

    def _same_name(self, entry: dict[str, Any], path: Path) -> bool:
        return _names(entry, path, beside=self.paths.data)

    def foreign(self, files: dict[str, Path]) -> dict[str, Path]:
        """Return those of the files, by role, that exist and do not belong to this output."""
        return {
            role: path
            for role, path in files.items()
            if self.paths.place.file(path).exists() and not self.is_own(role, path)
        }

    def may_replace_output(self, options: BatchOptions) -> bool:
        """Tell whether a run may replace the output, if there is one."""
        return options.overwrite or self.announced_is_there()

    def refuse_new_output(self, options: BatchOptions) -> None:
        """Refuse to replace an output that was not there when the run began. Raises UsageError."""
        target = self.paths.target
        if target is None or self.may_replace_output(options):
            return
        file = self.paths.place.file(target)
        if file.exists():
            raise AppearedMeanwhile(printable(file.name))

    def refuse_foreign(self, options: BatchOptions) -> None:
        """Refuse to replace a file that does not belong to this output. Raises UsageError."""
        foreign = self.foreign(self.paths.beside(options))
        if not foreign or options.overwrite:
            return
        role, path = next(iter(foreign.items()))
        what = "not a file of this output"
        if path.is_symlink():
            what = "a symbolic link"
        other = "move it"
        if role in NAMED_BY:
            other = f"choose another name with {NAMED_BY[role]} FILE"
        name = self.paths.place.file(path).name
        raise UsageError(
            f"{role} {printable(name)} exists already and is {what}",
            hint=f"{other}, or add --overwrite to replace it",
            path=name,
        )


def why_kept(plan: RunPlan, earlier: Earlier, paths: RunPaths) -> tuple[str, str]:
    """Return why an existing output is not replaced, and what to type next."""
    output, document = printable(paths.output), earlier.document
    if document is None:
        return f"{output} exists already", "choose another name or add --overwrite"
    if not earlier.data_is_intact():
        return (
            f"{output} exists already, and was changed after batchsent wrote it",
            "choose another name or add --overwrite",
        )
    known = document["run"].get("fingerprint") or {}
    rows = document["rows"].get("read", 0)
    if known.get("input") != plan.fingerprint["input"]:
        made_from = printable(document["input"].get("path") or paths.input)
        now = ""
        if plan.checked and plan.checked.rows is not None:
            now = f"; it has {plan.checked.rows:,} now"
        return (
            f"{output} was made from an earlier {made_from} of {rows:,} rows{now}",
            "add --overwrite to score it again",
        )
    known = with_later_options(known, plan.fingerprint)
    was_written = by_flag(with_later_options(document["run"].get("writing") or {}, plan.writing))
    different = differences(known, plan.fingerprint)
    different |= differences(was_written, by_flag(plan.writing))
    if not different:
        return f"{output} exists already", "add --overwrite to score it again"
    return (
        f"{output} was made with other options: {'; '.join(different.values())}",
        "choose another name, or add --overwrite to score it again",
    )


def by_flag(options: dict[str, Any]) -> dict[str, Any]:
    """Return options by the names that they have on the command line."""
    return {f"--{name.replace('_', '-')}": value for name, value in options.items()}


def _summary_of(paths: RunPaths) -> dict[str, Any] | None:
    """Return the summary at its place, where it is one of this output."""
    path = paths.summary
    if path is None or not paths.place.file(path).is_file():
        return None
    document = _read_summary(paths.place.file(path))
    if document is None:
        return None
    for entry in document["outputs"]:
        if not isinstance(entry, dict) or entry.get("role") != "data":
            continue
        if paths.data is None:
            is_named = entry.get("path") == "-"
        else:
            is_named = _names(entry, paths.data, beside=path)
        return document if is_named else None
    return None


def _names(entry: dict[str, Any], path: Path, *, beside: Path | None) -> bool:
    """Tell whether a summary's entry names this path.

    Beside the summary or the output the last part of the name is enough: folders are moved and
    mounted elsewhere.
    """
    named = str(entry.get("path"))
    if Path(named).absolute() == Path(printable(path)).absolute():
        return True
    together = beside is not None and beside.absolute().parent == path.absolute().parent
    return together and Path(named).name == printable(path.name)


def _is_failed_summary(file: FinalFile) -> bool:
    document = _read_summary(file)
    return document is not None and bool(document["status"] == "failed")


def _read_summary(file: FinalFile) -> dict[str, Any] | None:
    """Return the summary in a file, None where it is none."""
    try:
        return summaries.parse(file.read(), file.name)
    except (InputError, OSError):
        return None


def check_work_folder(target: Path) -> None:
    """Refuse a work folder that holds anything a run did not put there. Raises UsageError."""
    folder = work_directory(target)
    if not os.path.lexists(folder):
        return
    if not folder.is_symlink() and folder.is_dir() and not Parts(folder).foreign_names():
        return
    raise UsageError(
        f"{printable(folder)} exists already and is not the work folder of a run",
        hint="move it, or choose another name for the output",
    )
