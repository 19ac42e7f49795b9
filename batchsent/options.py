"""Options as frozen dataclasses: the one place where a default is written.

`option(default, help)` declares a field; the command line makes a click option of it and the summary records it.
"""

import dataclasses
import difflib
from typing import Any, TypeVar

from batchsent.errors import UsageError

T = TypeVar("T")


def option(default: Any, help: str, **click: Any) -> Any:  # noqa: A002 (click's own word for it)
    """Declare an option with its default, its help text and what else click needs (`type`, `metavar`, `short`...)."""
    return dataclasses.field(default=default, metadata={"help": help, **click})


def build(cls: type[T], values: dict[str, Any]) -> T:
    """Make an options dataclass of keyword arguments.

    Raises UsageError for a name that is no option, with the nearest one.
    """
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]  # T is always a dataclass
    for name in values:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise UsageError(f"no option {name!r}", hint=f"did you mean {near[0]!r}?" if near else None)
    return cls(**values)
