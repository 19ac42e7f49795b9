"""Which output each of several inputs gets, and what may not be at these places."""

import contextlib
import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path

from batchsent.errors import UsageError
from batchsent.filenames import check_new, exists, is_folder
from batchsent.files.atomic import temporary_path
from batchsent.formats.dumps import LEFT_OUT, Found, find_dumps, has_format, output_name
from batchsent.run.options import BatchOptions
from batchsent.run.paths import RunPaths
from batchsent.text import printable
from batchsent.urls import is_url

SCHEMA = "batchsent.dumps/1"
INTO_ONE = "add --source-column source to write one file, with the path of each row's input"


def plan_outputs(
    inputs: Sequence[str], output: str, settings: BatchOptions
) -> tuple[list[tuple[str, Path]], Found]:
    """Return every input with its output, which is in the output folder where the input was.

    Also returns all that was found. Raises UsageError for inputs that would share an output, and
    InputError where no folder can be read.
    """
    folder = Path(output)
    check_output_folder(folder, output)
    for given in inputs:
        if given == "-":
            raise UsageError("stdin cannot be one of several inputs", hint="run it on its own")
        if is_folder(given) and exists(folder) and folder.samefile(given):
            # The next run would take the outputs of this one for dumps.
            raise UsageError(
                f"{printable(given)} is input and output", hint="name another folder with -o"
            )
    found = find_dumps(inputs, folder, prefix=settings.prefix, input_format=settings.input_format)
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
    pairs: dict[Path, str] = {}
    for dump in found.dumps:
        name = output_name(dump.inside.name, settings.output_format)
        target = folder / dump.inside.parent / name
        if target in pairs:
            raise UsageError(
                f"{printable(dump.path)} and {printable(pairs[target])} would both become "
                f"{printable(target)}",
                hint="score them into different folders; what is inside one input folder keeps "
                "its sub-folders",
            )
        pairs[target] = dump.path
    return [(path, target) for target, path in pairs.items()], found


def check_output_folder(folder: Path, output: str) -> None:
    """Refuse what is not, and cannot become, a folder for outputs. Raises UsageError."""
    if is_url(output):
        raise UsageError(
            f"several inputs go into a folder, and {printable(output)} is in a store",
            hint=f"name a folder of this machine with -o, or {INTO_ONE}",
        )
    if output == "-":
        raise UsageError("several inputs do not go to stdout", hint="name a folder with -o")
    check_new(folder, temporary_path(folder))
    if exists(folder) and not is_folder(folder):
        raise UsageError(
            f"several inputs go into a folder, and {printable(output)} is a file",
            hint=f"name a folder with -o, or {INTO_ONE}",
        )
    if not exists(folder) and not output.endswith("/") and has_format(output, "output"):
        raise UsageError(
            f"several inputs go into a folder, and {printable(output)} is the name of a file",
            hint=f"name a folder with -o; -o {printable(output)}/ makes one of this name; or "
            f"{INTO_ONE}",
        )
    if not is_folder(folder.parent):
        raise UsageError(
            f"the folder {printable(folder.parent)} does not exist", hint="make it first"
        )


def check_apart(pairs: Sequence[tuple[str, Path]], settings: BatchOptions) -> None:
    """Refuse inputs of which one's output, or a file beside it, has the place of another's.

    Neither may it be another input, or a folder that another output is in. Raises UsageError.
    """
    outputs = {target: source for source, target in pairs}
    folders = {}
    for source, target in pairs:
        if target.parent not in folders:
            folders.update(dict.fromkeys((target.parent, *target.parent.parents), source))
    real = functools.cache(lambda above: Path(os.path.realpath(above)))
    inputs = {real(path.parent) / path.name: path for path in map(Path, outputs.values())}
    for source, target in pairs:
        for role, path in RunPaths.of(source, str(target), settings).written.items():
            same = inputs.get(real(path.parent) / path.name)
            if role != "output" and path in outputs:
                other = f"the output of {printable(outputs[path])}"
            elif path in folders:
                other = f"a folder with the output of {printable(folders[path])}"
            elif same is not None:
                other = f"the input {printable(same)}"
            else:
                continue
            raise UsageError(
                f"{printable(path)} would be both the {role} of {printable(source)} and {other}",
                hint="score them into different folders",
            )


def check_reuse(settings: BatchOptions, folder: Path) -> None:
    """Refuse what no file can reuse: each takes the file of its name in a folder.

    Raises UsageError.
    """
    for given in settings.reuse:
        if not is_folder(given):
            raise UsageError(
                f"--reuse {printable(given)} is not a folder, and the outputs go into one",
                hint="name the folder with the earlier outputs, or score into a file: -o FILE",
            )
        if exists(folder) and folder.samefile(given):
            raise UsageError(
                f"{printable(given)} is both -o and --reuse", hint="name another folder with -o"
            )


def check_summary(path: Path) -> None:
    """Refuse to replace a file that is not the summary of earlier runs into this folder.

    Raises UsageError.
    """
    if not os.path.lexists(path):
        return
    own = False
    if path.is_file() and not path.is_symlink():
        with contextlib.suppress(OSError, ValueError, AttributeError):
            own = json.loads(path.read_bytes()).get("schema") == SCHEMA
    if not own:
        raise UsageError(
            f"{printable(path)} exists already and is not a summary of batchsent",
            hint="move it, choose another folder with -o, or add --overwrite to replace it",
        )
