"""Where the files of one run are, and what may not be there; reads and writes none of them."""

import fnmatch
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

from batchsent.errors import UsageError
from batchsent.filenames import check_new, exists, is_folder, is_link, is_regular
from batchsent.files.atomic import temporary_path
from batchsent.formats.opening import format_of
from batchsent.formats.outputs import path_beside, side_table_paths
from batchsent.model.folder import WRITTEN_FILES
from batchsent.run.options import BatchOptions
from batchsent.text import printable


@dataclass(frozen=True)
class RunPaths:
    """The files of one run; None where there is none."""

    input: str  # as it was typed, - for stdin
    output: str  # as it was typed, - for stdout
    data: Path | None  # the output, where it is a file
    # the file that `data` stands for, symbolic links followed: what is locked and replaced
    target: Path | None
    summary: Path | None
    rejects: Path | None
    report: Path | None
    failure: Path | None  # the summary of a run that failed
    tables: dict[str, Path]  # by role

    @classmethod
    def of(cls, input_path: str, output_path: str, options: BatchOptions) -> "RunPaths":
        """Return where the options put the files; beside the output what they do not name."""
        data = None if output_path == "-" else Path(output_path)
        return cls(
            input=input_path,
            output=output_path,
            data=data,
            # os.path.realpath, since Path.resolve raises for a name with a NUL in it, which `check`
            # refuses.
            target=data and (data if "\0" in output_path else Path(os.path.realpath(data))),
            summary=Path(options.summary)
            if options.summary
            else data and path_beside(data, ".summary.json"),
            rejects=Path(options.rejects)
            if options.rejects
            else data and path_beside(data, ".rejects.csv"),
            report=data and path_beside(data, ".report.html"),
            failure=data and path_beside(data, ".summary.failed.json"),
            tables=side_table_paths(data, options) if data else {},
        )

    @property
    def written(self) -> dict[str, Path]:
        """The files that a run may leave behind, by role."""
        found = {
            "output": self.data,
            "summary": self.summary,
            "rejects": self.rejects,
            "report": self.report,
            "failed summary": self.failure,
            "work folder": self.target and path_beside(self.target, ".batchsent"),
            **self.tables,
        }
        return {role: path for role, path in found.items() if path is not None}

    def beside(self, options: BatchOptions) -> dict[str, Path]:
        """Return the files, by role, that a run with these options writes beside its output."""
        found = {
            "summary": self.summary,
            "rejects": self.rejects if options.bad_rows == "reject" else None,
            "report": self.report if options.report else None,
            **self.tables,
        }
        return {role: path for role, path in found.items() if path is not None}

    def named(self, options: BatchOptions) -> list[Path]:
        """Return the files whose names the user gave: another run may have been given them too."""
        names = (options.summary, options.rejects, options.disagreements)
        return sorted(Path(name) for name in set(names) if name)

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

        Raises UsageError.
        """
        read = {} if self.input == "-" else {"input": Path(self.input)}
        for what, path in (read | self.written).items():
            if "\0" in str(path):
                raise UsageError(
                    f"{what} {printable(path)}: no file can have this name",
                    hint="choose another name",
                )
        for what, path in self.written.items():
            final = Path(os.path.realpath(path)) if what == "output" else path
            if what == "output" and is_link(final):
                raise UsageError(f"{what} {printable(path)} is a link to itself", hint="remove it")
            check_new(path, temporary_path(final))
        for (what, path), (other, taken) in itertools.combinations(
            (read | self.written).items(), 2
        ):
            same = os.path.realpath(path) == os.path.realpath(taken)
            if same or (exists(path) and exists(taken) and path.samefile(taken)):
                raise UsageError(
                    f"{what} and {other} are the same file",
                    hint=f"choose another name for the {other}",
                )
        for what, path in self.written.items():
            folder = (Path(os.path.realpath(path)) if what == "output" else path.absolute()).parent
            if not is_folder(folder):
                raise UsageError(
                    f"the folder {printable(folder)} does not exist", hint="make it first"
                )
            followed = what == "output" or not path.is_symlink()
            if followed and exists(path) and not is_regular(path) and not is_folder(path):
                # Renaming over it would put a file in the place of /dev/null.
                raise UsageError(
                    f"{what} {printable(path)} is a device or pipe",
                    hint="write to stdout: -o - > ...",
                )
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
