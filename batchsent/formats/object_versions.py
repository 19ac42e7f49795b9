"""Several objects that are read as one input: as they were when they were first looked at."""

import hashlib

from batchsent.formats.objects import changed, in_words, size_and_version
from batchsent.text import printable


class ObjectVersions:
    """What tells each of several objects from a changed one, where its server tells it."""

    def __init__(self) -> None:
        self._versions: dict[str, str | None] = {}  # by URL

    def note(self, url: str, version: str | None) -> None:
        """Take the version of an object. Raises InputError where it is not the one noted before."""
        if self._versions.setdefault(url, version) != version:
            raise changed(printable(url))

    def check(self) -> None:
        """Ask for all objects again. Raises InputError for one that has changed or vanished."""
        for url, version in self._versions.items():
            told = size_and_version(url)
            if told is None or in_words(printable(url), *told) != version:
                raise changed(printable(url))

    def in_words(self) -> str | None:
        """Return what tells these objects from others; None where a server tells no version."""
        all_of = hashlib.sha256()
        for version in self._versions.values():
            if version is None:
                return None
            all_of.update(f"{version}\n".encode())
        return f"{len(self._versions):,} objects, their versions hashed: {all_of.hexdigest()}"
