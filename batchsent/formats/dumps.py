"""Find the dumps in folders, however deep, and those that patterns name; count what is left out."""

import collections
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from batchsent.errors import InputError, UsageError, reason
from batchsent.evaluation import summary as summaries
from batchsent.filenames import exists, is_folder, is_link, is_regular
from batchsent.formats.catalog import SUFFIXES
from batchsent.formats.opening import format_of
from batchsent.formats.outputs import COMMITTING, WORK_ENDING
from batchsent.formats.streams import COMPRESSIONS
from batchsent.text import printable
from batchsent.urls import file_name, is_url

SUMMARY_ENDING = ".summary.json"
WHOLE_SUMMARY = "batchsent.summary.json"  # of all files in an output folder
NAMES_SHOWN = 5
# Why something in a folder is left out, as the summary counts it, with the words for a person.
LEFT_OUT = {
    "not_files": "pipes and devices",
    "linked_folders": "links to folders, which are not followed",
    "other_formats": "files of other formats",
    "hidden": "hidden",
    "own": "of earlier runs",
}


@dataclass(frozen=True)
class Dump:
    """A file to score, and where its output goes."""

    path: str  # what is opened
    inside: Path  # its path below the input folder, which the output has below the output folder


@dataclass
class Found:
    """What there is in the inputs."""

    dumps: list[Dump] = field(default_factory=list)
    unread: list[tuple[Dump, InputError]] = field(default_factory=list)  # folders
    # how many were left out, and the first names, by the keys of LEFT_OUT
    left_out: collections.Counter[str] = field(default_factory=collections.Counter)
    names: dict[str, list[str]] = field(default_factory=lambda: {why: [] for why in LEFT_OUT})

    def leave_out(self, why: str, path: Path) -> None:
        """Count something that is not scored."""
        self.left_out[why] += 1
        if len(self.names[why]) < NAMES_SHOWN:
            self.names[why].append(printable(path))

    def in_words(self, *reasons: str) -> str:
        """Return what was left out for these reasons, with the first names; or nothing."""
        return "; ".join(
            f"{LEFT_OUT[why]}: {self.left_out[why]:,} ({', '.join(self.names[why])})"
            for why in reasons
            if self.left_out[why]
        )


def is_several(given: str) -> bool:
    """Tell whether an input may be more than one file: a folder, or a pattern."""
    return given != "-" and (is_folder(given) or is_pattern(given))


def is_pattern(given: str) -> bool:
    """Tell whether an input is a pattern: it has one of *, ? and [, and no file has this name."""
    if is_url(given) or re.search("[*?[]", given) is None:
        return False
    return not exists(given) and not is_link(given)


def find_dumps(
    inputs: Sequence[str],
    output: Path | None = None,
    *,
    prefix: str = "",
    input_format: str | None = None,
) -> Found:
    """Find the files that the inputs name, those in a folder by name, its sub-folders included.

    What is left out is counted: hidden files and folders, folders whose names begin with `_` (other
    programs write unfinished files there), other formats, links to folders, outputs of earlier runs
    with their tables and work folders, and the folder `output`. Where the input is itself the
    output folder of a run, its outputs with another `prefix` are taken, to be scored once more. A
    file that a pattern names is taken whatever its suffix where `input_format` says what it is.

    A link to a file is read like the file. Raises UsageError for a pattern that nothing matches,
    and where `output` is inside an input and holds anything but outputs.
    """
    found = Found()
    for given in inputs:
        if not is_several(given):
            name = file_name(given)
            if is_url(given) and not name:
                raise UsageError(f"{printable(given)} names no file", hint="name the files")
            found.dumps.append(Dump(given, Path(name)))
            continue
        top, parts = Path(given), tuple[str, ...]()
        if is_pattern(given):
            top, parts = split_pattern(given)
        walk = Walk(
            top,
            Pattern(parts),
            found,
            output,
            prefix if exists(top / WHOLE_SUMMARY) else None,
            input_format if parts else None,
        )
        before = len(found.dumps), found.left_out.total(), len(found.unread)
        if is_folder(top):
            walk.go()
        if parts and before == (len(found.dumps), found.left_out.total(), len(found.unread)):
            raise UsageError(
                f"no file matches {printable(given)}",
                hint="** stands for any folders, as in 'dump/**/*.parquet'",
            )
    return found


def split_pattern(given: str) -> tuple[Path, tuple[str, ...]]:
    """Return the folder before the first wildcard, and the parts of the pattern after it."""
    parts = Path(given).parts
    fixed = 0
    while not re.search("[*?[]", parts[fixed]):
        fixed += 1
    return Path(*parts[:fixed]), parts[fixed:]


class Pattern:
    """Matches a path part by part, so that folders that cannot match are not read.

    What is known after some parts is the set of how many parts of the pattern they may have used.
    A folder that matches the whole pattern stands for everything in it. So an empty pattern matches
    everything.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self.parts = parts
        self.start = self._skipping({0})

    def step(self, used: frozenset[int], name: str) -> frozenset[int]:
        """Return what is known after one more part of the path."""
        after = set()
        for count in used:
            if count == len(self.parts) or self.parts[count] == "**":
                after.add(count)
            elif fnmatchcase(name, self.parts[count]):
                after.add(count + 1)
        return self._skipping(after)

    def is_whole(self, used: frozenset[int]) -> bool:
        """Tell whether the path so far matches."""
        return len(self.parts) in used

    def _skipping(self, used: set[int]) -> frozenset[int]:
        """Add that ** may stand for no folder."""
        for count in range(len(self.parts)):
            if count in used and self.parts[count] == "**":
                used.add(count + 1)
        return frozenset(used)


@dataclass
class Walk:
    """One folder, read from the top down in the order of the names."""

    top: Path
    pattern: Pattern
    found: Found
    output: Path | None
    prefix: str | None  # None: outputs are left out whatever their prefix
    input_format: str | None
    # whether a file with the name of an output is one, whatever has been done to it since
    any_size: bool = False

    def go(self) -> None:
        """Add what is in the folder to what was found. Raises UsageError."""
        # A stack and not a recursion: trees may be deeper than Python's limit.
        waiting = [self._entries(Path(), self.pattern.start)]
        while waiting:
            for inside, used in waiting[-1]:
                waiting.append(self._entries(inside, used))
                break
            else:
                waiting.pop()

    def _entries(self, inside: Path, used: frozenset[int]) -> Iterator[tuple[Path, frozenset[int]]]:
        """Take the files of a folder; yield its sub-folders, each at its place in the order."""
        folder = self.top / inside
        try:
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            failure = InputError(
                f"{printable(folder)}: the folder cannot be read: {reason(error)}",
                hint="what is in it is not scored; give yourself the right to read it, "
                "or leave it out",
            )
            self.found.unread.append((Dump(str(folder), inside), failure))
            return
        own = own_names(folder, [entry.name for entry in entries], self.prefix, self.any_size)
        for entry in entries:
            after = self.pattern.step(used, entry.name)
            if not after:
                continue
            path = folder / entry.name
            # What the listing says needs no further call, which might be refused.
            if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and is_folder(path)):
                why = self._why_not_entered(path, own, is_link=entry.is_symlink())
                if why is None:
                    yield inside / entry.name, after
                else:
                    self.found.leave_out(why, path)
            elif self.pattern.is_whole(after):
                why = self._why_not_taken(path, own, is_file=entry.is_file(follow_symlinks=False))
                if why is None:
                    self.found.dumps.append(Dump(str(path), inside / entry.name))
                else:
                    self.found.leave_out(why, path)

    def _why_not_entered(self, folder: Path, own: set[str], *, is_link: bool) -> str | None:
        if is_link:
            # To a folder in the tree it would give the same files twice, or a circle.
            return "linked_folders"
        if folder.name.startswith((".", "_")):
            return "hidden"
        if folder.name in own:
            return "own"
        if self.output is not None and exists(self.output) and self.output.samefile(folder):
            self._check_output(folder)
            return "own"
        return None

    def _check_output(self, folder: Path) -> None:
        """Refuse an output folder inside the input that holds dumps: they would be left out."""
        inside = Found()
        Walk(folder, Pattern(()), inside, None, None, None, any_size=True).go()
        if inside.dumps:
            raise UsageError(
                f"{printable(folder)} is inside {printable(self.top)} and holds files that are not "
                f"outputs of batchsent, such as {printable(inside.dumps[0].path)}",
                hint="name a new folder with -o, or move them",
            )

    def _why_not_taken(self, path: Path, own: set[str], *, is_file: bool) -> str | None:
        if path.name.startswith("."):
            return "hidden"
        if not has_format(path.name) and self.input_format is None:
            return "other_formats"
        # A link to nothing is a missing dump: it is taken, and reported when it is opened.
        if not is_file and exists(path) and not is_regular(path):
            return "not_files"
        return "own" if path.name in own else None


def own_names(folder: Path, names: Sequence[str], prefix: str | None, any_size: bool) -> set[str]:
    """Return what runs have made in a folder: work folders, outputs and the tables beside them.

    An output counts where a summary beside it names it, with the size that it has unless
    `any_size`, and its columns begin with `prefix` where there is one.
    """
    own = set()
    written: list[dict[str, Any]] = []
    for name in names:
        path = folder / name
        if name.endswith(WORK_ENDING) and is_folder(path):
            own.add(name)
            written += announced_in(path)
        elif name.endswith(SUMMARY_ENDING) and is_regular(path):
            with suppress(InputError, KeyError, TypeError, AttributeError):
                document = summaries.read(path)
                was = (document["run"].get("options") or {}).get("prefix", "")
                for entry in document["outputs"]:
                    if entry.get("role") != "data" or prefix in {None, was}:
                        written.append(entry)
    if not written:
        return own
    shown = {printable(name): name for name in names}  # as a summary has them
    for entry in written:
        name = shown.get(Path(str(entry.get("path"))).name, "")
        if name and (any_size or size_of(folder / name) == entry.get("bytes")):
            own.add(name)
    return own


def announced_in(work_folder: Path) -> list[dict[str, Any]]:
    """Return the outputs that a run killed while it named its files was about to write."""
    with suppress(OSError, ValueError, AttributeError):
        found = json.loads((work_folder / COMMITTING).read_bytes()).get("outputs")
        if isinstance(found, list):
            return [entry for entry in found if isinstance(entry, dict)]
    return []


def size_of(path: Path) -> int | None:
    """Return the bytes of a file; None where it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def has_format(name: str, what: str = "input") -> bool:
    """Tell whether a name has the suffix of a format."""
    try:
        return format_of(name, what=what) is not None
    except UsageError:
        return False


def output_name(name: str, output_format: str | None) -> str:
    """Return an input's name with the suffix of the output format, its own without one."""
    path = Path(name)
    packed = path.suffix if path.suffix.lower() in COMPRESSIONS else ""
    inner = Path(path.stem) if packed else path
    if output_format is None or SUFFIXES.get(inner.suffix.lower()) == output_format:
        return name
    return inner.stem + "." + output_format + ("" if output_format == "parquet" else packed)
