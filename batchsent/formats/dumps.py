"""Find the dumps in folders, however deep, and those that patterns name, here and in stores."""

import re
from collections.abc import Sequence
from pathlib import Path

from batchsent.errors import UsageError
from batchsent.filenames import exists, is_folder, is_link
from batchsent.formats.catalog import SUFFIXES
from batchsent.formats.found import Dump, Found, has_format
from batchsent.formats.store_trees import (
    StoreTree,
    in_store,
    is_object,
    is_store_folder,
    names_folder,
)
from batchsent.formats.streams import COMPRESSIONS
from batchsent.formats.trees import LocalTree, Tree
from batchsent.formats.walk import Pattern, Walk
from batchsent.text import printable
from batchsent.urls import file_name, is_url, scheme_of


def is_several(given: str) -> bool:
    """Tell whether an input may be more than one file: a folder, or a pattern.

    Raises InputError and UsageError where a store has to be asked, and does not tell.
    """
    return given != "-" and (is_pattern(given) or is_tree(given))


def is_tree(given: str) -> bool:
    """Tell whether there is a folder of this name.

    A store is asked where the URL neither ends with / nor has the suffix of a file. Raises
    InputError and UsageError.
    """
    if not is_url(given):
        return is_folder(given)
    if names_folder(given):
        return True
    asks = in_store(given) and not is_wild(given) and not has_format(given)
    return asks and is_store_folder(given)


def is_pattern(given: str) -> bool:
    """Tell whether an input is a pattern: it has a wildcard, and no file has this name.

    Wildcards are *, ? and [; in a URL ? is none. Raises InputError and UsageError.
    """
    if not is_wild(given):
        return False
    if is_url(given):
        return not is_object(given)
    return not exists(given) and not is_link(given)


def is_wild(given: str) -> bool:
    """Tell whether there is a wildcard in an input."""
    if is_url(given):
        return in_store(given) and re.search("[*[]", given) is not None
    return re.search("[*?[]", given) is not None


def tree_of(given: str, work_folder: str | None = None) -> Tree:
    """Return a folder as a tree; `work_folder` is where runs into stores keep their work."""
    return StoreTree(given, work_folder) if is_url(given) else LocalTree(Path(given))


def find_dumps(
    inputs: Sequence[str],
    output: str | None = None,
    *,
    prefix: str = "",
    input_format: str | None = None,
    work_folder: str | None = None,
) -> Found:
    """Find the files that the inputs name, those in a folder by name, its sub-folders included.

    What is left out is counted: hidden files and folders, folders whose names begin with `_` (other
    programs write unfinished files there), other formats, links to folders, outputs of earlier runs
    with their tables and work folders, and the folder `output`. Where the input is itself the
    output folder of a run, its outputs with another `prefix` are taken, to be scored once more. A
    file that a pattern names is taken whatever its suffix where `input_format` says what it is.

    A link to a file is read like the file. Raises UsageError for a pattern that nothing matches,
    and where `output` is inside an input and holds anything but outputs; InputError where a store
    cannot be asked what an input is.
    """
    found = Found()
    for given in inputs:
        pattern = given != "-" and is_pattern(given)
        if not pattern and (given == "-" or not is_tree(given)):
            name = file_name(given)
            if is_url(given) and not name:
                raise UsageError(f"{printable(given)} names no file", hint="name the files")
            found.dumps.append(Dump(given, Path(name)))
            continue
        top, parts = split_pattern(given) if pattern else (given, ())
        tree = tree_of(top, work_folder)
        of_name = input_format if parts else None
        before = len(found.dumps), found.left_out.total(), len(found.unread)
        if is_url(top) or is_folder(top):
            Walk(tree, Pattern(parts), found, output, prefix, of_name).go()
        if parts and before == (len(found.dumps), found.left_out.total(), len(found.unread)):
            raise UsageError(
                f"no file matches {printable(given)}",
                hint="** stands for any folders, as in 'dump/**/*.parquet'",
            )
    return found


def split_pattern(given: str) -> tuple[str, tuple[str, ...]]:
    """Return the folder before the first wildcard, and the parts of the pattern after it.

    Raises UsageError for a URL with a wildcard in the name of the bucket.
    """
    scheme = scheme_of(given)
    base = "" if scheme is None else given[: len(scheme) + 3]
    parts = given[len(base) :].split("/") if base else Path(given).parts
    fixed = 0
    while not re.search("[*[]" if base else "[*?[]", parts[fixed]):
        fixed += 1
    if base and not fixed:
        raise UsageError(f"{printable(given)} names no bucket", hint="name it without wildcards")
    top = base + "/".join(parts[:fixed]) if base else str(Path(*parts[:fixed]))
    return top, tuple(part for part in parts[fixed:] if part)


def output_name(name: str, output_format: str | None) -> str:
    """Return an input's name with the suffix of the output format, its own without one."""
    path = Path(name)
    packed = path.suffix if path.suffix.lower() in COMPRESSIONS else ""
    inner = Path(path.stem) if packed else path
    if output_format is None or SUFFIXES.get(inner.suffix.lower()) == output_format:
        return name
    return inner.stem + "." + output_format + ("" if output_format == "parquet" else packed)
