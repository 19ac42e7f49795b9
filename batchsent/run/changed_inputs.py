"""Notice inputs that vanish or change after they were scored, while the run of a folder goes on."""

from dataclasses import dataclass, field

from batchsent.filenames import stamp

HINTS = {
    "vanished": "its output has the rows that it had",
    "grew": "its output has the rows of before: score it again with --overwrite",
    "changed": "its output has the rows of before: score it again with --overwrite",
}


@dataclass
class WatchedInputs:
    """What each input was when its own run began."""

    stamps: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def add(self, path: str) -> None:
        """Note what an input is now; one that is not there is reported by its own run."""
        try:
            self.stamps[path] = stamp(path)
        except (OSError, ValueError):
            self.stamps.pop(path, None)

    def change(self, path: str) -> str | None:
        """Return what has become of an input since then, a key of HINTS; None for nothing."""
        before = self.stamps.get(path)
        if before is None:
            return None
        try:
            now = stamp(path)
        except OSError:
            return "vanished"
        if now == before:
            return None
        return "grew" if now[0] == before[0] and now[1] > before[1] else "changed"
