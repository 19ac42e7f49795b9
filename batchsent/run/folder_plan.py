"""Which output each of several inputs gets, and what may not be at these places."""

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchsent.errors import UsageError
from batchsent.filenames import is_folder
from batchsent.formats.dumps import find_dumps, is_tree, output_name, tree_of
from batchsent.formats.found import LEFT_OUT, Found
from batchsent.formats.trees import LocalTree
from batchsent.run.options import BatchOptions
from batchsent.run.output_folder import OutputFolder
from batchsent.run.paths import RunPaths
from batchsent.text import printable
from batchsent.urls import is_url


@dataclass(frozen=True)
class Planned:
    """An input, and where its output goes."""

    source: str  # a path or a URL
    inside: Path  # the place of its output below the output folder
    output: str  # the path or the URL of that


def plan_outputs(
    inputs: Sequence[str], output: str, folder: OutputFolder, settings: BatchOptions
) -> tuple[list[Planned], Found]:
    """Return every input with its output, which is in the output folder where the input was.

    Also returns all that was found. Raises UsageError for inputs that would share an output, and
    InputError where no folder can be read.
    """
    for given in inputs:
        if given == "-":
            raise UsageError("stdin cannot be one of several inputs", hint="run it on its own")
        if is_tree(given) and tree_of(given).is_at(Path(), output):
            # The next run would take the outputs of this one for dumps.
            raise UsageError(
                f"{printable(given)} is input and output", hint="name another folder with -o"
            )
    found = find_dumps(
        inputs,
        output,
        prefix=settings.prefix,
        input_format=settings.input_format,
        work_folder=settings.work_folder,
    )
    if not found.dumps:
        for _, error in found.unread:
            raise error
        left_out = found.in_words(*LEFT_OUT)
        raise UsageError(
            "there is no file to score in "
            + ", ".join(map(printable, inputs))
            + (f": left out {left_out}" if left_out else ""),
            hint="name the files",
        )
    planned: dict[str, Planned] = {}
    for dump in found.dumps:
        inside = dump.inside.parent / output_name(dump.inside.name, settings.output_format)
        target = folder.output(inside)
        if target in planned:
            raise UsageError(
                f"{printable(dump.path)} and {printable(planned[target].source)} would both become "
                f"{printable(target)}",
                hint="score them into different folders; what is inside one input folder keeps "
                "its sub-folders",
            )
        planned[target] = Planned(dump.path, inside, target)
    return list(planned.values()), found


def check_apart(planned: Sequence[Planned], settings: BatchOptions) -> None:
    """Refuse outputs that would replace something that is needed. Raises UsageError.

    That is a file of another output, an input, or a folder that another output is in.
    """
    outputs = {file.output: file.source for file in planned}
    folders: dict[str, str] = {}
    for file in planned:
        for above in folders_above(file):
            folders.setdefault(above, file.source)
    real = functools.cache(os.path.realpath)

    def identity(name: str) -> str:
        if is_url(name):
            return name
        path = Path(name)
        return str(Path(real(path.parent)) / path.name)

    inputs = {identity(file.source): file.source for file in planned}
    for file in planned:
        paths = RunPaths.of(file.source, file.output, settings)
        for role, path in paths.written.items():
            name = paths.place.file(path).name
            same = inputs.get(identity(name))
            if role != "output" and name in outputs:
                other = f"the output of {printable(outputs[name])}"
            elif name in folders:
                other = f"a folder with the output of {printable(folders[name])}"
            elif same is not None:
                other = f"the input {printable(same)}"
            else:
                continue
            raise UsageError(
                f"{printable(name)} would be both the {role} of {printable(file.source)} and "
                f"{other}",
                hint="score them into different folders",
            )


def folders_above(file: Planned) -> Iterator[str]:
    """Yield the folders that an output is in, up to the output folder."""
    top = file.output.removesuffix(file.inside.as_posix())
    for above in file.inside.parents:
        yield top + above.as_posix() if above.parts else top.rstrip("/")


def check_reuse(settings: BatchOptions, output: str) -> None:
    """Refuse what no file can reuse: each takes the file of its name in a folder.

    Raises UsageError.
    """
    for given in settings.reuse:
        if not is_folder(given):
            raise UsageError(
                f"--reuse {printable(given)} is not a folder, and the outputs go into one",
                hint="name the folder with the earlier outputs, or score into a file: -o FILE",
            )
        if LocalTree(Path(given)).is_at(Path(), output):
            raise UsageError(
                f"{printable(given)} is both -o and --reuse", hint="name another folder with -o"
            )
