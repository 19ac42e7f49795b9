"""Options as frozen dataclasses: the one place where a default is written.

`option(default, help)` declares a field; the command line makes a click option of it and the
summary records it.
"""

import dataclasses
import difflib
import math
from typing import Any, Literal, TypeVar

from batchsent.errors import UsageError

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


def build(cls: type[T], values: dict[str, Any]) -> T:
    """Make an options dataclass of keyword arguments.

    Raises UsageError for a name that is no option, with the nearest one, and for a value that is
    none of its choices.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]  # T is a dataclass
    for name, value in values.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            raise UsageError(
                f"no option {name!r}", hint=f"did you mean {near[0]!r}?" if near else None
            )
        choices = fields[name].metadata.get("choices")
        if choices and value is not None and value not in choices:
            raise UsageError(f"{name}={value!r} is not one of {', '.join(choices)}")
        check_value(fields[name], value)
    return cls(**values)


def check_value(field: dataclasses.Field[Any], value: Any) -> None:
    """Refuse a number that is none or too small, and an empty name. Raises UsageError."""
    flag = "--" + field.name.replace("_", "-")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{flag} {value}: not a number", hint="give a number")
    minimum = field.metadata.get("minimum")
    if minimum is not None and value is not None and value < minimum:
        raise UsageError(
            f"{flag} {value}: at least {minimum} is needed", hint=f"give {minimum} or more"
        )
    # The default of an option that may be empty is the empty text.
    if value == "" and field.default != "":
        raise UsageError(f"{flag} is empty", hint="leave it out, or give a value")
