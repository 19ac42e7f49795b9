"""What there is in the inputs of a run: the files to score, and what is left out and why."""

import collections
from dataclasses import dataclass, field
from pathlib import Path

from batchsent.errors import InputError, UsageError
from batchsent.formats.opening import format_of
from batchsent.text import printable

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
    # files and folders that cannot be read
    unread: list[tuple[Dump, InputError]] = field(default_factory=list)
    # how many were left out, and the first names, by the keys of LEFT_OUT
    left_out: collections.Counter[str] = field(default_factory=collections.Counter)
    names: dict[str, list[str]] = field(default_factory=lambda: {why: [] for why in LEFT_OUT})

    def leave_out(self, why: str, path: str) -> None:
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


def has_format(name: str, what: str = "input") -> bool:
    """Tell whether a name has the suffix of a format."""
    try:
        return format_of(name, what=what) is not None
    except UsageError:
        return False
