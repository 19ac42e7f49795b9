"""Notice inputs that vanish or change after they were scored, while the run of a folder goes on."""

from dataclasses import dataclass, field

from batchsent.errors import BatchsentError
from batchsent.filenames import stamp
from batchsent.formats.objects import size_and_version
from batchsent.urls import is_url

HINTS = {
    "vanished": "its output has the rows that it had",
    "grew": "its output has the rows of before: score it again with --overwrite",
    "changed": "its output has the rows of before: score it again with --overwrite",
}


@dataclass(frozen=True)
class Seen:
    """What an input was at some time."""

    size: int | None
    version: object  # what tells it from a changed one of the same size
    file: int | None  # another file of the same name has another number; None for an object


@dataclass
class WatchedInputs:
    """What each input was when its own run began."""

    seen: dict[str, Seen] = field(default_factory=dict)

    def add(self, path: str) -> None:
        """Note what an input is now; one that is not there is reported by its own run."""
        self.seen.pop(path, None)
        try:
            found = look(path)
        except BatchsentError:
            return
        if found is not None:
            self.seen[path] = found

    def change(self, path: str) -> str | None:
        """Return what has become of an input since then, a key of HINTS; None for nothing.

        Raises InputError and UsageError where a server does not tell.
        """
        before = self.seen.get(path)
        if before is None:
            return None
        now = look(path)
        if now is None:
            return "vanished"
        if now == before:
            return None
        if before.size is None or now.size is None or now.file != before.file:
            return "changed"
        return "grew" if now.size > before.size else "changed"


def look(path: str) -> Seen | None:
    """Return what an input is now; None where there is none. Raises InputError and UsageError."""
    if is_url(path):
        told = size_and_version(path)
        return None if told is None else Seen(*told, None)
    try:
        file, size, time_ns = stamp(path)
    except (OSError, ValueError):
        return None
    return Seen(size, time_ns, file)
