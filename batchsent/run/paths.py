"""Where the files of one run are, and what may not be at these places."""

import fnmatch
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchsent.errors import UsageError
from batchsent.filenames import check_new, exists, is_folder, is_link, is_regular
from batchsent.files.atomic import temporary_path
from batchsent.formats.found import Dump
from batchsent.formats.opening import format_of
from batchsent.formats.outputs import WORK_ENDING, path_beside, side_table_paths
from batchsent.model.folder import WRITTEN_FILES
from batchsent.run.options import BatchOptions
from batchsent.run.places import InStore, Place, ThisMachine
from batchsent.text import printable
from batchsent.urls import is_url


@dataclass(frozen=True)
class RunPaths:
    """The files of one run; None where there is none."""

    input: str  # as it was typed: a path, a URL, - for stdin
    output: str  # as it was typed, - for stdout
    # where the output is written on this machine: at its own path, or in the work folder for one in
    # a store; None for stdout. All other paths are of files on this machine too
    data: Path | None
    # the file that `data` stands for, symbolic links followed: what is locked and replaced
    target: Path | None
    summary: Path | None
    rejects: Path | None
    report: Path | None
    failure: Path | None  # the summary of a run that failed
    tables: dict[str, Path]  # by role
    reused: tuple[str, ...]  # the outputs of earlier runs that are read, as they were typed
    # the files that are read into one output; () where `input` is one
    files: tuple[Dump, ...] = ()
    place: Place = field(default_factory=ThisMachine)  # where the files appear

    @classmethod
    def of(
        cls,
        input_path: str,
        output_path: str,
        options: BatchOptions,
        files: tuple[Dump, ...] = (),
    ) -> "RunPaths":
        """Return where the options put the files; beside the output what they do not name."""
        summary = Path(options.summary) if options.summary else None
        rejects = Path(options.rejects) if options.rejects else None
        if output_path == "-":
            return cls(
                input_path,
                output_path,
                None,
                None,
                summary,
                rejects,
                None,
                None,
                {},
                options.reuse,
                files,
            )
        place: Place = ThisMachine()
        data = Path(output_path)
        if is_url(output_path):
            store = InStore(output_path, options.work_folder)
            place, data = store, store.path
        target = data
        if "\0" not in output_path:  # such a name cannot be followed; `check` refuses it
            target = Path(os.path.realpath(data))
        return cls(
            input=input_path,
            output=output_path,
            data=data,
            target=target,
            summary=summary or path_beside(data, ".summary.json"),
            rejects=rejects or path_beside(data, ".rejects.csv"),
            report=path_beside(data, ".report.html"),
            failure=path_beside(data, ".summary.failed.json"),
            tables=side_table_paths(data, options),
            reused=options.reuse,
            files=files,
            place=place,
        )

    @property
    def written_to(self) -> str:
        """The file on this machine that the rows are written to; - for stdout."""
        return "-" if self.data is None else str(self.data)

    @property
    def inputs(self) -> list[str]:
        """The paths of what is read."""
        return [file.path for file in self.files] or [self.input]

    @property
    def written(self) -> dict[str, Path]:
        """The files that a run may write, by role."""
        found = {
            "output": self.data,
            "summary": self.summary,
            "rejects": self.rejects,
            "report": self.report,
            "failed summary": self.failure,
            "work folder": self.target and path_beside(self.target, WORK_ENDING),
            **self.tables,
        }
        return {role: path for role, path in found.items() if path is not None}

    def beside(self, options: BatchOptions) -> dict[str, Path]:
        """Return the files, by role, that a run with these options writes beside its output."""
        found = {"summary": self.summary}
        if options.bad_rows == "reject":
            found["rejects"] = self.rejects
        if options.writes_page:
            found["report"] = self.report
        found.update(self.tables)
        return {role: path for role, path in found.items() if path is not None}

    def locked(self, options: BatchOptions) -> list[Path]:
        """Return the files to lock: the output, and those that the user named.

        Another run with another output may have been given the same names.
        """
        names = {options.summary, options.rejects, options.disagreements}
        named = sorted(Path(name) for name in names if name)
        return named if self.target is None else [self.target, *named]

    def check_apart_from(self, model: Path) -> None:
        """Refuse to write over a file of the model folder. Raises UsageError."""
        for what, path in self.written.items():
            real = Path(os.path.realpath(path))
            inside = real.parent == Path(os.path.realpath(model))
            if inside and any(fnmatch.fnmatchcase(real.name, name) for name in WRITTEN_FILES):
                raise UsageError(
                    f"{what} {printable(path)} is a file of the model",
                    hint="choose another name or folder",
                )

    def check(self, options: BatchOptions) -> None:
        """Refuse to write one file over another, and where nothing can be written.

        Raises UsageError or OutputError.
        """
        self._check_names()
        self._check_distinct()
        for what, path in self.written.items():
            _check_place(what, path)
        for role, path in self.beside(options).items():
            if is_folder(path) and not path.is_symlink():
                raise UsageError(
                    f"{role} {printable(path)} is a folder", hint="move it, or choose another name"
                )
        if self.data is not None:
            if not options.output_format:
                format_of(self.output, what="output")
            if is_folder(self.data):
                raise UsageError(f"{printable(self.data)} is a folder", hint="name a file in it")
        self.place.check()

    @property
    def _read(self) -> dict[str, Path]:
        """The files that are read, by role; not stdin, and not what a URL names."""
        found = {}
        for path in self.inputs:
            if path != "-" and not is_url(path):
                found[f"input {printable(path)}" if self.files else "input"] = Path(path)
        for path in self.reused:
            found[f"--reuse {printable(path)}"] = Path(path)
            found[f"the summary of --reuse {printable(path)}"] = Path(f"{path}.summary.json")
        return found

    def _check_names(self) -> None:
        """Refuse names that the system does not accept."""
        for what, path in [*self._read.items(), *self.written.items()]:
            if "\0" in str(path):
                raise UsageError(
                    f"{what} {printable(path)}: no file can have this name",
                    hint="choose another name",
                )
        for what, path in self.written.items():
            final = _final(what, path)
            if what == "output" and is_link(final):
                raise UsageError(f"{what} {printable(path)} is a link to itself", hint="remove it")
            check_new(path, temporary_path(final))

    def _check_distinct(self) -> None:
        """Refuse to write over a file that is read, or twice to one."""
        known: dict[Any, str] = {path: "input" for path in self.inputs if is_url(path)}
        known |= {name: what for what, path in self._read.items() for name in _identity(path)}
        for what, path in self.written.items():
            names = [*_identity(path), self.place.file(path).name]
            for name in names:
                if name in known:
                    raise UsageError(
                        f"{known[name]} and {what} are the same file",
                        hint=f"choose another name for the {what}",
                    )
            known.update(dict.fromkeys(names, what))


def _identity(path: Path) -> list[str | tuple[int, int]]:
    """Return what all names of one file have in common: where links lead, device and inode."""
    real = os.path.realpath(path)
    if not exists(path):
        return [real]
    found = path.stat()
    return [real, (found.st_dev, found.st_ino)]


def _final(what: str, path: Path) -> Path:
    """Return the file that is replaced: where the output is a link, what it points to."""
    if what == "output":
        return Path(os.path.realpath(path))
    return path


def _check_place(what: str, path: Path) -> None:
    """Refuse a file whose folder does not exist, and a device or pipe in its place."""
    folder = _final(what, path).absolute().parent
    if not is_folder(folder):
        raise UsageError(f"the folder {printable(folder)} does not exist", hint="make it first")
    followed = what == "output" or not path.is_symlink()
    if followed and exists(path) and not is_regular(path) and not is_folder(path):
        # Renaming over it would put a file in the place of /dev/null.
        raise UsageError(
            f"{what} {printable(path)} is a device or pipe",
            hint="write to stdout: -o - > ...",
        )
