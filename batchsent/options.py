"""Options as frozen dataclasses: the one place where a default is written.

`option(default, help)` declares a field; the command line makes a click option of it and the
summary records it.
"""

import dataclasses
import difflib
import math
import numbers
import types
import typing
from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from typing import Any, Literal, TypeVar

from batchsent.errors import UsageError
from batchsent.text import printable

T = TypeVar("T")


# What an option changes: the scores themselves, only how they are written, or no output at all.
Affects = Literal["scores", "writing", "nothing"]


def option(
    default: Any,
    help: str,  # noqa: A002 (click's own word for it)
    *,
    affects: Affects | None = None,
    **click: Any,
) -> Any:
    """Declare an option with its default and help text.

    `affects` says what a run with another value would write: other scores, the same scores in
    another way, or the same scores in the same way. `minimum` is the least value of a number.
    `group` is its group in the help, `choices` limits its values, `short` is its one-letter form;
    what else is given (`metavar`...) goes to click.
    """
    metadata = {"help": help, "affects": affects, **click}
    return dataclasses.field(default=default, metadata=metadata)


def names_affecting(cls: type, what: Affects) -> list[str]:
    """Return the names of the options that change the scores, how they are written, or nothing."""
    return [field.name for field in dataclasses.fields(cls) if field.metadata["affects"] == what]


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """Make an options dataclass of keyword arguments.

    Raises UsageError for a name that is no option, with the nearest one, and for a value that is
    of another type or not one of the option's choices.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]  # T is a dataclass
    hints = typing.get_type_hints(cls)
    checked = {}
    for name, value in values.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            raise UsageError(
                f"no option {name!r}", hint=f"did you mean {near[0]!r}?" if near else None
            )
        checked[name] = check_type(fields[name], hints[name], value)
        choices = fields[name].metadata.get("choices")
        if choices and value is not None and value not in choices:
            raise UsageError(f"{name}={value!r} is not one of {', '.join(choices)}")
        check_value(fields[name], checked[name])
    return cls(**checked)


def flag_of(field: dataclasses.Field[Any]) -> str:
    """Return an option's name on the command line."""
    return "--" + field.name.replace("_", "-")


def check_type(field: dataclasses.Field[Any], hint: Any, value: Any) -> Any:
    """Return a value in the type of its option: a path as text, numpy's numbers as Python's.

    Raises UsageError for a value of another type.
    """
    kind = kind_of(hint)
    if value is None and (kind is not hint or field.default is None):
        return None
    if takes_several(hint) and isinstance(value, Iterable) and not isinstance(value, str):
        return one_or_several(field, value)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if kind is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    if kind is str and isinstance(value, str | PathLike) and isinstance(fspath(value), str):
        return fspath(value)
    if kind is tuple and isinstance(value, str | PathLike):
        value = (value,)
    if kind is tuple and isinstance(value, Iterable):
        values = tuple(fspath(one) if isinstance(one, PathLike) else one for one in value)
        if all(isinstance(one, str) for one in values):
            return values
    shown = printable(repr(value)[:60])
    raise UsageError(f"{field.name} requires {TYPES[kind]}, not {shown}")


def one_or_several(field: dataclasses.Field[Any], value: Any) -> Any:
    """Return the values of an option that may be repeated: None, the one, or a tuple of several.

    A single value stands for itself, so that it is recorded as if the option took only one. Raises
    UsageError for a value that is given twice.
    """
    values = check_type(field, tuple, value)
    for place, one in enumerate(values):
        if one in values[:place]:
            raise UsageError(
                f"{flag_of(field)} {printable(one)} is given twice", hint="give each name once"
            )
    if len(values) > 1:
        return values
    return values[0] if values else None


def kind_of(hint: Any) -> Any:
    """Return the type that a hint names: of `int | None` int, of `tuple[str, ...]` tuple."""
    return kinds_of(hint)[0]


def kinds_of(hint: Any) -> list[Any]:
    """Return the types that a hint names, None aside."""
    kinds = [hint]
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    return [typing.get_origin(kind) or kind for kind in kinds]


def takes_several(hint: Any) -> bool:
    """Tell whether an option takes one text or several: `str | tuple[str, ...]`."""
    return {str, tuple} <= set(kinds_of(hint))


# What an option takes, in words.
TYPES = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "a list of texts",
}


def check_value(field: dataclasses.Field[Any], value: Any) -> None:
    """Refuse a number that is none or too small, and an empty name. Raises UsageError."""
    flag = flag_of(field)
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{flag} {value}: not a number", hint="give a number")
    minimum = field.metadata.get("minimum")
    if minimum is not None and value is not None and value < minimum:
        raise UsageError(
            f"{flag} {value}: at least {minimum} is needed", hint=f"give {minimum} or more"
        )
    values = value if isinstance(value, tuple) else (value,)
    # The default of an option that may be empty is the empty text.
    if "" in values and field.default != "":
        raise UsageError(f"{flag} is empty", hint="leave it out, or give a value")
