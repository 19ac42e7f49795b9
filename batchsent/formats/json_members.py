"""The members of a JSON object that stands in a line: read with their exact values, and added to.

Python's json module decides what an object is, `NaN`, repeated names and half surrogate pairs
included. Of repeated names the last one counts, as it does there.
"""

import json
import re
from typing import Any

TOO_DEEP = "nested too deeply"
# Python's json gives up at some 900 levels, at fewer the deeper the calls above it are. A line that
# was read once must be read again anywhere.
DEEPEST = 500


class BadLine(Exception):
    """A line that is not one JSON object."""


class Number(str):
    """A number, or a constant such as NaN, as it was written."""

    __slots__ = ()


# An object inside another one becomes a tuple of pairs, an array a list.
DECODER = json.JSONDecoder(
    object_pairs_hook=tuple, parse_int=Number, parse_float=Number, parse_constant=Number
)
KINDS: dict[type, str] = {
    str: "a string",
    Number: "a number",
    bool: "true or false",
    type(None): "null",
    tuple: "an object",
    list: "an array",
}
SPACE = re.compile(r"[ \t\n\r]*+")
SEPARATOR = re.compile(r"[ \t\n\r]*+[:,][ \t\n\r]*+")


def read_object(line: str) -> dict[str, Any]:
    """Return the members of a line's object by name.

    Strings are unescaped, numbers are Number; true, false and null are Python's; an object is a
    tuple of pairs and an array a list. Raises BadLine.
    """
    try:
        found = DECODER.decode(line)
    except json.JSONDecodeError as error:
        raise BadLine(f"{error.msg}: column {error.pos + 1}") from error
    except RecursionError as error:
        raise BadLine(TOO_DEEP) from error
    if line.count("[") + line.count("{") > DEEPEST and is_deep([found]):
        raise BadLine(TOO_DEEP)
    if not isinstance(found, tuple):
        raise BadLine(f"it is {KINDS[type(found)]}")
    return dict(found)


def is_deep(value: Any) -> bool:
    """Tell whether a value that was read is nested deeper than DEEPEST levels."""
    level = [value]
    for _ in range(DEEPEST + 1):
        # Pairs of an object are no level of their own.
        inner: list[Any] = []
        for outer in level:
            if isinstance(outer, tuple):
                inner += [member for _, member in outer if isinstance(member, tuple | list)]
            else:
                inner += [item for item in outer if isinstance(item, tuple | list)]
        if not inner:
            return False
        level = inner
    return True


def member_texts(line: str) -> dict[str, str]:
    """Return the JSON text of each member of a line that `read_object` has read."""
    texts: dict[str, str] = {}
    at = _after(SPACE, line, line.index("{") + 1)
    while line[at] != "}":
        name, at = DECODER.raw_decode(line, at)
        at = _after(SEPARATOR, line, at)
        _, end = DECODER.raw_decode(line, at)
        texts[name] = line[at:end]
        at = _after(SPACE, line, end)
        if line[at] == ",":
            at = _after(SPACE, line, at + 1)
    return texts


def _after(pattern: re.Pattern[str], line: str, at: int) -> int:
    match = pattern.match(line, at)
    assert match is not None  # the line is an object
    return match.end()


def closing_brace(line: bytes) -> int:
    """Return where the object of a line ends: the position of its closing brace."""
    return len(line.rstrip(b" \t\r\n")) - 1


def has_members(line: bytes, brace: int) -> bool:
    """Tell whether the object that ends with `brace` has members."""
    # Only in an object without any does an opening brace stand before the last closing one.
    return not line[:brace].rstrip(b" \t\r\n").endswith(b"{")
