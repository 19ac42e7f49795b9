"""One tree of dumps, read from the top down: what is scored, what is left out and why."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from batchsent.errors import InputError, UsageError
from batchsent.evaluation import summary as summaries
from batchsent.formats.found import SUMMARY_ENDING, WHOLE_SUMMARY, Dump, Found, has_format
from batchsent.formats.outputs import WORK_ENDING
from batchsent.formats.trees import Entry, Tree
from batchsent.text import printable


class Pattern:
    """Matches a path part by part, so that folders that cannot match are not read.

    The state after some parts of a path is a set: how many parts of the pattern they may have
    matched. Of `a/**/*.csv` that is {1, 2} after `a` and after `a/b`, where ** took b; after
    `a/b/c.csv` it is {1, 2, 3}, and 3 is the whole pattern. A folder that matches the whole pattern
    stands for everything in it. So an empty pattern matches everything.
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
    """One tree, read from the top down in the order of the names."""

    tree: Tree
    pattern: Pattern
    found: Found
    output: str | None  # the folder of the outputs
    prefix: str | None  # None: outputs are left out whatever their prefix
    input_format: str | None
    # whether a file counts as an output by its name alone, also where its size has changed
    any_size: bool = False

    def go(self, top: Path = Path()) -> None:
        """Add what is in the tree, or in one of its folders, to what was found.

        Raises UsageError.
        """
        # A stack and not a recursion: trees may be deeper than Python's limit.
        waiting = [self._entries(top, self.pattern.start)]
        while waiting:
            for inside, used in waiting[-1]:
                waiting.append(self._entries(inside, used))
                break
            else:
                waiting.pop()

    def _entries(self, inside: Path, used: frozenset[int]) -> Iterator[tuple[Path, frozenset[int]]]:
        """Take the files of a folder; yield its sub-folders, each at its place in the order."""
        try:
            entries = self.tree.entries(inside)
            if not inside.parts and all(entry.name != WHOLE_SUMMARY for entry in entries):
                self.prefix = None
            own = own_names(self.tree, inside, entries, self.prefix, any_size=self.any_size)
        except InputError as error:
            self.found.unread.append((Dump(self.tree.path(inside), inside), error))
            return
        for entry in entries:
            after = self.pattern.step(used, entry.name)
            if not after:
                continue
            here = inside / entry.name
            if "folder" in entry.kind:
                why = self._why_not_entered(here, entry, own)
            elif self.pattern.is_whole(after):
                why = self._why_not_taken(entry, own)
            else:
                continue
            if why is not None:
                self.found.leave_out(why, self.tree.path(here))
            elif entry.error is not None:
                where = here if entry.kind == "file" else inside
                self.found.unread.append((Dump(self.tree.path(where), where), entry.error))
            elif entry.kind == "folder":
                yield here, after
            else:
                self.found.dumps.append(Dump(self.tree.path(here), here))

    def _why_not_entered(self, folder: Path, entry: Entry, own: set[str]) -> str | None:
        if entry.kind == "linked folder":
            # To a folder in the tree it would give the same files twice, or a circle.
            return "linked_folders"
        if entry.error is not None:
            return None
        if entry.name.startswith((".", "_")):
            return "hidden"
        if entry.name in own:
            return "own"
        if self.output is not None and self.tree.is_at(folder, self.output):
            self._check_output(folder)
            return "own"
        return None

    def _check_output(self, folder: Path) -> None:
        """Refuse an output folder inside the input that holds dumps: they would be left out."""
        inside = Found()
        Walk(self.tree, Pattern(()), inside, None, None, None, any_size=True).go(folder)
        if inside.dumps:
            raise UsageError(
                f"{printable(self.tree.path(folder))} is inside "
                f"{printable(self.tree.path(Path()))} and holds files that are not outputs of "
                f"batchsent, such as {printable(inside.dumps[0].path)}",
                hint="name a new folder with -o, or move them",
            )

    def _why_not_taken(self, entry: Entry, own: set[str]) -> str | None:
        if entry.name.startswith("."):
            return "hidden"
        if self.input_format is None and not self._has_format(entry.name):
            return "other_formats"
        # A link to nothing is a missing dump: it is taken, and reported when it is opened.
        if entry.kind == "special":
            return "not_files"
        return "own" if entry.name in own else None

    def _has_format(self, name: str) -> bool:
        """Tell whether a name is that of a dump: `.txt` is one only where the pattern names it.

        Notes lie beside dumps more often than CSV lies in a file called `.txt`.
        """
        if not has_format(name):
            return False
        asked_for = ".txt" in "".join(self.pattern.parts[-1:]).lower()
        return asked_for or not re.search(r"\.txt(\.\w+)?$", name, re.IGNORECASE)


def own_names(
    tree: Tree, inside: Path, entries: Sequence[Entry], prefix: str | None, *, any_size: bool
) -> set[str]:
    """Return what runs have made in a folder: work folders, outputs and the tables beside them.

    An output counts where a summary beside it names it, with the size that it has unless
    `any_size`, and its columns begin with `prefix` where there is one. Raises InputError.
    """
    own = set()
    written = tree.announced(inside, entries)
    for entry in entries:
        if entry.name.endswith(WORK_ENDING) and "folder" in entry.kind:
            own.add(entry.name)
        elif entry.name.endswith(SUMMARY_ENDING) and entry.kind == "file":
            content = tree.read(inside / entry.name)
            if content is None:
                continue
            with suppress(InputError, KeyError, TypeError, AttributeError):
                document = summaries.parse(content, entry.name)
                was = (document["run"].get("options") or {}).get("prefix", "")
                for made in document["outputs"]:
                    if made.get("role") != "data" or prefix in {None, was}:
                        written.append(made)
    if not written:
        return own
    shown = {printable(entry.name): entry.name for entry in entries}  # as a summary has them
    for made in written:
        name = shown.get(Path(str(made.get("path"))).name, "")
        if name and (any_size or tree.size(inside / name) == made.get("bytes")):
            own.add(name)
    return own
