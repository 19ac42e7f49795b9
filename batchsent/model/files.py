"""Open the files of a model folder: regular files only, up to a limit of bytes.

A model folder may come from anybody: a FIFO in it would block for ever, a link to /dev/zero would
fill the memory. transformers and its tokenizers open further files by name, so that `check_files`
checks every entry of the folder before they do.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

from batchsent.errors import ModelError, reason
from batchsent.text import printable

# Of a configuration: a hundred thousand labels take 3 MB.
MAX_SETTINGS_BYTES = 10_000_000
# The largest tokenizer.json known has 62 MB, for a million words in a hundred languages.
MAX_TEXT_BYTES = 100_000_000
BLOCK_BYTES = 16 << 20  # read at once
# Suffixes of the files that transformers reads whole.
READ_WHOLE = {
    *(".json", ".txt", ".model", ".codes", ".bpe", ".spm", ".jinja", ".tokenizer", ".tiktoken"),
    *(".vocab", ".md"),
}
WEIGHTS_SUFFIX = ".safetensors"
# The only sub-folder in which transformers opens files.
TEMPLATES = "additional_chat_templates"
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
DAMAGED = "copy or download the model again"

T = TypeVar("T")


def check_files(folder: Path) -> None:
    """Refuse a folder with entries that are not regular files, or too large for their suffix.

    Links are followed, since the Hub's cache consists of them. Only empty files are opened. Raises
    ModelError.
    """
    for place in (folder, folder / TEMPLATES):
        try:
            entries = sorted(place.iterdir())
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ModelError(f"cannot read {printable(place)}: {reason(error)}") from error
        for path in entries:
            try:
                found = path.stat()
            except OSError:
                continue  # a link to nothing: the code that opens the file reports it
            needed = path.suffix in READ_WHOLE or path.suffix == WEIGHTS_SUFFIX
            if stat.S_ISDIR(found.st_mode) and not needed:
                continue
            _check_kind(path, found.st_mode)
            if path.suffix in READ_WHOLE:
                _check_size(path, found.st_size, MAX_TEXT_BYTES)
                if not found.st_size:
                    _check_empty(path)


def open_file(path: Path) -> BufferedReader:
    """Open a regular file. Raises ModelError, before opening it, for anything else.

    FileNotFoundError is left to the caller, since not every file is required.
    """
    try:
        _check_kind(path, path.stat().st_mode)
        # Another program may have replaced it by a pipe since; opening that must not block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ModelError(f"cannot read {printable(path)}: {reason(error)}") from error
    try:
        _check_kind(path, os.fstat(descriptor).st_mode)
    except ModelError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_file(path: Path, limit: int) -> bytes:
    """Read a regular file that is no larger than `limit` bytes.

    Raises ModelError, and FileNotFoundError as `open_file` does.
    """
    with open_file(path) as file:
        _check_size(path, os.fstat(file.fileno()).st_size, limit)
        content = b""
        try:
            # Not `limit` bytes at once: there must be memory for as many as are asked for. And a
            # file may have more bytes than its size: those of /proc have size 0, and files grow.
            while len(content) <= limit and (block := file.read(BLOCK_BYTES)):
                content += block
        except OSError as error:
            raise ModelError(f"cannot read {printable(path)}: {reason(error)}") from error
    _check_size(path, len(content), limit)
    return content


def read_json(path: Path, what: str, limit: int = MAX_SETTINGS_BYTES) -> dict[str, Any]:
    """Read a JSON object of at most `limit` bytes. Raises ModelError."""
    try:
        document = json.loads(read_file(path, limit))
    except FileNotFoundError as error:
        raise ModelError(
            f"{printable(path.parent)} has no {path.name} ({what})",
            hint="give the folder that `batchsent finetune` or save_pretrained() wrote, with all "
            "of its files",
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{printable(path)} is damaged: not JSON", hint=DAMAGED) from error
    if not isinstance(document, dict):
        raise ModelError(f"{printable(path)} is damaged: not a JSON object", hint=DAMAGED)
    return document


def read_own_json(
    path: Path,
    schema: str,
    hint: str,
    parse: Callable[[Any], T],
    weights_sha256: str | None = None,
) -> T | None:
    """Return what `parse` makes of a JSON file that batchsent has put into a model folder.

    None where the folder lacks it. Raises ModelError with this hint for a file that cannot be read,
    has another schema, makes `parse` raise a built-in error, or belongs to other weights than those
    of `weights_sha256`.
    """
    name = printable(path)
    try:
        document = json.loads(read_file(path, MAX_SETTINGS_BYTES))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{name} cannot be read: {printable(error)}", hint=hint) from error
    try:
        if document["schema"] != schema:
            raise ValueError(f"its schema is {document['schema']!r}, not {schema!r}")
        found = parse(document)
        weights = document["weights_sha256"]
        if weights is not None and not isinstance(weights, str):
            raise TypeError("weights_sha256 is not text")
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ModelError(f"{name} is damaged: {printable(error)[:200]}", hint=hint) from error
    if None not in {weights, weights_sha256} and weights != weights_sha256:
        raise ModelError(f"{name} belongs to other weights than those in the folder", hint=hint)
    return found


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as `sha256sum` prints it. Raises ModelError."""
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read {printable(path)}: {reason(error)}") from error


def sha256_of_all(paths: Iterable[Path]) -> str:
    """Return one SHA-256 for several files: of the lines that `sha256sum` prints for them, by name.

    Of a single file it is the file's own, so that it can be compared with the Hub's.
    """
    ordered = sorted(paths, key=lambda path: path.name)
    if len(ordered) == 1:
        return sha256_of(ordered[0])
    lines = "".join(f"{sha256_of(path)}  {path.name}\n" for path in ordered)
    return hashlib.sha256(lines.encode()).hexdigest()


def _check_kind(path: Path, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kind = next((name for is_kind, name in KINDS if is_kind(mode)), "something else")
    raise ModelError(
        f"{printable(path)} is {kind}, not a file; it was not opened",
        hint="a model folder holds plain files only: copy or download the model again",
    )


def _check_size(path: Path, size: int, limit: int) -> None:
    if size > limit:
        raise ModelError(
            f"{printable(path)} is too large for a model's {path.suffix} file: {size:,} bytes, "
            f"{limit:,} may be read",
            hint="copy or download the model again; move the file elsewhere if it is no part of "
            "the model",
        )


def _check_empty(path: Path) -> None:
    """Refuse a file of size 0 that has bytes: /proc has such files without end, or that block."""
    with open_file(path) as file:
        try:
            empty = file.read(1) == b""
        except OSError:
            empty = False
    if not empty:
        raise ModelError(
            f"{printable(path)} is not a plain file: its size is 0, and it is not empty",
            hint=DAMAGED,
        )
