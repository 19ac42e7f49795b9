"""Several files of one schema as one input: their rows in order, each with its file's path."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from batchsent.chunk import Chunk
from batchsent.errors import InputError, UsageError
from batchsent.filenames import is_folder, is_pipe
from batchsent.files.hashing import sha256_of
from batchsent.formats.catalog import FORMATS
from batchsent.formats.dumps import find_dumps
from batchsent.formats.found import Dump, Found
from batchsent.formats.jsonl import JsonLinesSource
from batchsent.formats.object_versions import ObjectVersions
from batchsent.formats.opening import open_source
from batchsent.formats.reading import FileSource, ReadOptions, Source, Structure
from batchsent.formats.text_names import Usual
from batchsent.text import printable
from batchsent.urls import is_url


def find_files(
    inputs: Sequence[str],
    *,
    prefix: str = "",
    input_format: str | None = None,
    work_folder: str | None = None,
) -> tuple[tuple[Dump, ...], Found]:
    """Return the files that inputs name, in the order of their paths, and all that was found.

    Raises UsageError where there is none, two have one path, one is stdin, or some are files and
    others are URLs; InputError for a folder that cannot be read.
    """
    if "-" in inputs:
        raise UsageError(
            "--source-column is for files, and - is none", hint="name files, folders or patterns"
        )
    if len(set(map(is_url, inputs))) > 1:
        raise UsageError(
            "--source-column is for files of this machine or for URLs, and not for both",
            hint="copy the ones to the others",
        )
    found = find_dumps(inputs, prefix=prefix, input_format=input_format, work_folder=work_folder)
    for _, error in found.unread:
        raise error
    dumps = sorted(found.dumps, key=lambda dump: dump.inside.parts)
    if not dumps:
        raise UsageError(
            "there is no file to score in " + ", ".join(map(printable, inputs)),
            hint="name the files",
        )
    for one, other in itertools.pairwise(dumps):
        if path_shown(one) == path_shown(other):
            raise UsageError(
                f"{printable(one.path)} and {printable(other.path)} would both be called "
                f"{path_shown(one)} in the column of --source-column",
                hint="name the folder that both are in",
            )
    return tuple(dumps), found


def path_shown(dump: Dump) -> str:
    """Return what the column with the paths says of a file."""
    return printable(dump.inside.as_posix())


def hash_of(files: Iterable[Mapping[str, Any]]) -> str:
    """Return one SHA-256 for several files: of the JSON of their paths and hashes, in order."""
    listed = [[file["path"], file["sha256"]] for file in files]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def name_of(inputs: Sequence[str]) -> str:
    """Return what inputs are called together: the first, and how many there are more."""
    more = len(inputs) - 1
    return f"{inputs[0]} and {more:,} more" if more else inputs[0]


class SeveralSource:
    """The rows of files in order, with a column more: the path of the file that a row is from.

    All have the format, the dialect and the columns of the first file. A file is open while it is
    read, and a chunk has rows of one file.
    """

    # of objects, once `look` has been called; files are read twice and hashed
    version: str | None = None

    def __init__(
        self,
        files: Sequence[Dump],
        name: str,
        column: str,
        options: ReadOptions,
        *,
        gold_column: str | None = None,
        usual: Usual | None = None,
    ) -> None:
        """Open the first file; `column` is the name of the column with the paths.

        Raises InputError and UsageError as `open_source`.
        """
        self.name, self._files, self._column = name, files, column
        self._options, self._gold_column, self._usual = options, gold_column, usual
        self._added: Sequence[str] = ()
        self._fixed_columns = True
        self._read: list[dict[str, Any]] = []  # of each file its path, bytes, rows and hash
        self._hashes: list[str] = []  # once they are checked
        self._versions = ObjectVersions()
        self._warnings: list[tuple[str, dict[str, str]]] = []  # each with the file that it is of
        self.first: FileSource = self._opened(files[0], options.limit)
        self.format, self.columns = self.first.format, self.first.columns
        self.schema, self.text_columns = self.first.schema, self.first.text_columns

    def _opened(self, file: Dump, limit: int | None) -> FileSource:
        """Open a file, with its path in the column; `limit` is how many of its rows are read.

        Raises UsageError for one that has that column, InputError for a pipe, which cannot be read
        twice, and for what is a folder by now.
        """
        if is_folder(file.path):  # it was a file when they were listed
            raise InputError(f"{printable(file.path)} is a folder now")
        if is_pipe(file.path):
            raise InputError(
                f"{printable(file.path)} is a pipe, and --source-column reads its files twice",
                hint="write what comes through the pipe to a file, and name that",
            )
        source = open_source(
            file.path,
            dataclasses.replace(self._options, limit=limit),
            gold_column=self._gold_column,
            usual=self._usual,
        )
        if self._column in source.columns:
            source.close()
            raise UsageError(
                f"{source.name} has a column called {printable(self._column)} already",
                hint="give --source-column another name",
                column=self._column,
            )
        source.extend(self._column, path_shown(file))
        return source

    def _sources(self) -> Iterator[tuple[Dump, FileSource]]:
        """Yield each file, opened; it is closed before the next one.

        Raises UsageError for one that is not like the first. The next one is read up to the limit
        that the rows in `_read` leave.
        """
        self._read = []
        for file in self._files:
            left = self._options.limit
            if left is not None:
                left = max(0, left - sum(done["rows"] or 0 for done in self._read))
            with closing(self._opened(file, left)) as source:
                if is_url(file.path):
                    self._versions.note(file.path, source.version)
                self._check_like_first(source)
                source.restrict(self._added, fixed_columns=self._fixed_columns)
                yield file, source

    def _check_like_first(self, source: Source) -> None:
        """Refuse a file that cannot stand in one output with the first. Raises UsageError."""
        different = first_difference(self.first, source, fixed_columns=self._fixed_columns)
        if different is not None:
            what, there, here = different
            raise UsageError(
                f"{source.name} and {self.first.name} do not fit into one output: "
                f"{printable(what)} {printable(here)} in the first and {printable(there)} in the "
                "other",
                hint="score them into a folder, without --source-column, or make them alike first",
            )
        if isinstance(source, JsonLinesSource) and isinstance(self.first, JsonLinesSource):
            source.take_columns_of(self.first)

    def look(self) -> None:
        """Open each object once, and hold it against the first.

        Raises UsageError for one that is not like it, InputError for one that is not there.
        """
        for _ in self._sources():
            pass
        self.version = self._versions.in_words()

    def check(self, utf8_columns: list[str]) -> Structure:
        """Read all files for their structure alone, and hold each against the first.

        Raises UsageError for a file that is not like the first, and InputError for the first row
        that cannot be taken, unless bad rows are to be left out.
        """
        bad_rows = 0
        self._hashes, self._warnings = [], []
        for file, source in self._sources():
            found = source.check(utf8_columns)
            self._hashes.append(found.sha256 or sha256_of(Path(file.path)))
            self._note(file, source, found.rows)
            self._warnings += [(source.name, said) for said in source.warnings()]
            bad_rows += found.bad_rows
        counts = [entry["rows"] for entry in self._read]
        rows = None if None in counts else sum(counts)
        return Structure(rows, bad_rows, hash_of(self._read))

    def _note(self, file: Dump, source: Source, rows: int | None) -> None:
        """Keep what the summary says of a file that has been read."""
        entry = {"path": path_shown(file), "bytes": None, "rows": rows, "sha256": None}
        if is_url(file.path):
            facts = source.facts()
            entry |= {"bytes": facts["bytes"], "sha256": facts["sha256"]}
        else:
            entry["bytes"] = Path(file.path).stat().st_size
            if self._hashes:
                entry["sha256"] = self._hashes[len(self._read)]
        self._read.append(entry)

    def chunks(self, columns: Sequence[str] = ()) -> Iterator[Chunk]:
        """Yield the rows of one file after the other.

        Raises InputError and UsageError as `check`. The reason of a rejected row begins with its
        file.
        """
        start = 0
        self._warnings = []
        for file, source in self._sources():
            before = start
            for chunk in source.chunks(columns):
                rejected = tuple(
                    dataclasses.replace(reject, reason=f"{path_shown(file)}: {reject.reason}")
                    for reject in chunk.rejected
                )
                yield dataclasses.replace(chunk, start_row=start, rejected=rejected)
                start += chunk.rows
            self._note(file, source, start - before)
            self._warnings += [(source.name, found) for found in source.warnings()]
        self._versions.check()

    def restrict(self, added: Sequence[str], *, fixed_columns: bool) -> None:
        """Take rows of JSON lines that an output cannot hold as bad rows."""
        self._added, self._fixed_columns = added, fixed_columns
        self.first.restrict(added, fixed_columns=fixed_columns)

    def facts(self) -> dict[str, Any]:
        """Return the input section of the summary, with `files` in their order."""
        found = self.first.facts()
        found["columns"] |= {"source": self._column}
        hashed = self._read and all(entry["sha256"] is not None for entry in self._read)
        return found | {
            "path": self.name,
            "bytes": sum(entry["bytes"] for entry in self._read),
            "sha256": hash_of(self._read) if hashed else None,
            "files": self._read,
        }

    def warnings(self) -> list[dict[str, str]]:
        """Return what a person should know: of each kind the first, and in how many files."""
        names: dict[str, list[str]] = {}
        firsts: dict[str, dict[str, str]] = {}
        for name, found in self._warnings:
            names.setdefault(found["code"], []).append(name)
            firsts.setdefault(found["code"], found)
        said = []
        for code, found in firsts.items():
            name, more = names[code][0], len(names[code]) - 1
            where = name if not more else f"{name} and {more:,} more files"
            said.append(found | {"message": f"{where}: {found['message']}"})
        return said

    def close(self) -> None:
        """Close the first file; the others are closed where they have been read."""
        self.first.close()


def first_difference(
    first: Source, other: Source, *, fixed_columns: bool
) -> tuple[str, Any, Any] | None:
    """Return what of two files is not alike, what it is in the first, and in the other.

    Of JSON lines any members may differ where the output has no `fixed_columns`; else the other
    file may have fewer. None where they fit into one output.
    """
    both = first, other
    if first.format != other.format:
        return "the format is", FORMATS[first.format].title, FORMATS[other.format].title
    known, found = (source.facts()["dialect"] or {} for source in both)
    for name, value in known.items():
        if found[name] != value:
            return f"the {name.replace('_', ' ')} is", repr(value), repr(found[name])
    if first.text_columns != other.text_columns:
        return "the text is in", text_of(first), text_of(other)
    if isinstance(first, JsonLinesSource):
        extra = [name for name in other.columns if name not in first.columns]
        if extra and fixed_columns:
            return f"the member {extra[0]} is", "missing", "there"
        return None
    own = [list(source.schema)[:-1] for source in both]  # without the column of the paths
    for n, fields in enumerate(itertools.zip_longest(*own), start=1):
        for name in ("name", "type", "nullable"):
            known, found = (getattr(field, name, "missing") for field in fields)
            if known != found:
                what = f"column {n} is" if name == "name" else f"column {n} has the {name}"
                return what, known, found
    return None


def text_of(source: Source) -> str:
    """Return the names of the text columns."""
    return "no column" if source.text_columns is None else " + ".join(source.text_columns.names)
