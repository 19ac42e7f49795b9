"""The summary document of a run: put together, written as strict JSON, read back."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from batchsent.errors import InputError
from batchsent.evaluation.advice import advise
from batchsent.text import printable
from batchsent.text_columns import TextColumns

SCHEMA = "batchsent.summary/1"

# In the order of importance to a reader.
SECTIONS = (
    "schema",
    "status",
    "exit_code",
    "error",
    "warnings",
    "rows",
    "predictions",
    "sentences",
    "evaluation",
    "text",
    "input",
    "outputs",
    "model",
    "device",
    "performance",
    "run",
    "package",
)
OBJECTS = (
    "rows",
    "predictions",
    "text",
    "input",
    "model",
    "device",
    "performance",
    "run",
    "package",
)


# A summary has some 20 kB; with a hundred labels 200 kB.
LARGEST_BYTES = 64 << 20

# An error may hold a long text of a library, a command may name ten thousand files: the summary
# keeps the beginning.
MOST_ERROR_CHARACTERS = 1_000
MOST_WORDS = 100
MOST_WORD_CHARACTERS = 500


def build(
    *,
    status: str,
    exit_code: int,
    run: Mapping[str, Any],
    package: Mapping[str, Any],
    input: Mapping[str, Any],  # noqa: A002 (the name of the section)
    outputs: Sequence[Mapping[str, Any]],
    model: Mapping[str, Any],
    device: Mapping[str, Any],
    tally_sections: Mapping[str, Any],
    performance: Mapping[str, Any],
    warnings: Sequence[Mapping[str, Any]] = (),
    error: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Put the summary together, plain JSON types only, in the order of SECTIONS.

    `tally_sections` are those of `Tally.sections`. `warnings` are dictionaries with `code`,
    `message` and `hint`; the warnings that follow from the figures are added after them. The texts
    of an error, and of the command in `run`, are shortened where they are too long. Numpy numbers
    become Python's, paths become strings, and a figure that is not a finite number becomes null,
    since strict JSON has no NaN.
    """
    shown_error = None
    if error is not None:
        shown_error = {name: cut(text, MOST_ERROR_CHARACTERS) for name, text in error.items()}
    given = {
        "schema": SCHEMA,
        "status": status,
        "exit_code": exit_code,
        "error": shown_error,
        "warnings": [*warnings, *advise(tally_sections, model)],
        "input": input,
        "outputs": list(outputs),
        "model": model,
        "device": device,
        "performance": performance,
        "run": {**run, **_command(run)},
        "package": package,
        **tally_sections,
    }
    document = _plain({name: given[name] for name in SECTIONS})
    assert isinstance(document, dict)
    return document


def cut(words: Any, characters: int) -> Any:
    """Return a text, shortened with its length where it is too long; anything else unchanged."""
    if not isinstance(words, str) or len(words) <= characters:
        return words
    return f"{words[:characters]}... ({len(words):,} characters)"


def _command(run: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the command of a run, shortened."""
    words = run.get("command")
    if not isinstance(words, list):
        return {}
    kept = [cut(word, MOST_WORD_CHARACTERS) for word in words[:MOST_WORDS]]
    if len(words) > MOST_WORDS:
        kept.append(f"... ({len(words):,} words)")
    return {"command": kept}


def dumps(document: Mapping[str, Any]) -> bytes:
    """Return the document as strict, indented ASCII JSON with a newline at the end.

    ASCII, because summaries are read with cat, and names and labels may hold control characters.
    """
    return (_encode(_plain(document), "\n") + "\n").encode("ascii")


HINT = "give the OUTPUT.summary.json that batchsent batch wrote"


def read(path: str | PathLike[str]) -> dict[str, Any]:
    """Read a summary.

    Raises InputError where the file cannot be read or is not a summary of this version.
    """
    name = printable(path)
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise InputError(f"{name} is too large for a summary", hint=HINT)
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}", hint=HINT) from error
    except ValueError as error:
        raise InputError(f"{name}: no file can have this name", hint=HINT) from error
    return parse(content, name)


def parse(content: bytes, name: str) -> dict[str, Any]:
    """Return the summary that the file `name` holds. Raises InputError as `read`."""
    hint = HINT
    try:
        document = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not JSON: {printable(error)}", hint=hint) from error
    if not isinstance(document, dict) or not str(document.get("schema", "")).startswith(
        "batchsent.summary/"
    ):
        raise InputError(f"{name} is not a summary of batchsent", hint=hint)
    if document["schema"] != SCHEMA:
        found = printable(document["schema"])[:60]
        raise InputError(
            f"{name} is a summary of another version: {found}, not {SCHEMA}",
            hint="read it with the batchsent version that wrote it",
        )
    missing = [section for section in SECTIONS if section not in document]
    wrong = [section for section in OBJECTS if not isinstance(document.get(section), dict)]
    if missing or wrong:
        raise InputError(f"{name} lacks the section {(missing or wrong)[0]!r}", hint=hint)
    return document


def text_columns_of_run(output: str) -> TextColumns | None:
    """Return which columns a run read its texts from, by the summary beside its output.

    None where there is no summary that says so.
    """
    try:
        columns = read(f"{output}.summary.json")["input"]["columns"]
        names = columns["text"]
        return TextColumns.of([names] if isinstance(names, str) else names, columns.get("joint"))
    except (InputError, LookupError, TypeError, ValueError):
        return None


def prefix_of_run(output: str, columns: Sequence[str], given: str) -> str:
    """Return what the names of the columns that a run added begin with.

    It is what was `given`; else what the summary beside the output says, where the output has such
    `columns`.
    """
    if given:
        return given
    try:
        found = read(f"{output}.summary.json")["run"]["options"]["prefix"]
    except (InputError, LookupError, TypeError):
        return given
    return found if isinstance(found, str) and f"{found}label" in columns else given


@contextmanager
def as_input_error(what: str = "the summary", command: str = "batchsent batch") -> Iterator[None]:
    """Turn the errors of a damaged document inside the block into InputError."""
    try:
        yield
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        StopIteration,
        RecursionError,
    ) as error:
        text = printable(f"{type(error).__name__} {error}")[:200]
        raise InputError(
            f"{what} is damaged: {text}", hint=f"make it again with {command}"
        ) from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not strict JSON")


def _plain(value: Any) -> Any:
    """Return `value` in the types of JSON."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, PathLike):
        return str(value)
    raise TypeError(f"a summary cannot hold a {type(value).__name__}")


def _encode(value: Any, line: str) -> str:
    """Return JSON text; `line` is a line break and the indentation of the enclosing value."""
    deeper = line + "  "
    if isinstance(value, dict) and value:
        fields = []
        for key, item in value.items():
            fields.append(f"{deeper}{json.dumps(key)}: {_encode(item, deeper)}")
        return "{" + ",".join(fields) + line + "}"
    # A list of plain values, such as the 80 counts of a histogram, is one line.
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return "[" + ",".join(deeper + _encode(item, deeper) for item in value) + line + "]"
    return json.dumps(value, allow_nan=False)
