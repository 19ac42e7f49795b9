"""The summary of the run that wrote an output: its options and labels, checked before use."""

import dataclasses
import typing
from dataclasses import dataclass
from typing import Any, TypeVar

from batchsent.errors import InputError
from batchsent.evaluation import summary as summaries
from batchsent.formats.outputs import OutputOptions
from batchsent.options import build
from batchsent.text import printable

T = TypeVar("T")


def _decided_text(options: Any) -> set[str]:
    """Return which options on the text columns say nothing more once one of them is given."""
    if getattr(options, "text_column_index", None) is not None:
        return {"text_column", "text_joint"}
    named = getattr(options, "text_column", None)
    if named is None:
        return set()
    return {"text_column_index"} | ({"text_joint"} if isinstance(named, str) else set())


@dataclass(frozen=True)
class RunSummary:
    """A summary, where it is, and what to do where it is damaged."""

    path: str
    document: dict[str, Any]
    hint: str

    @classmethod
    def read(cls, path: str, hint: str) -> "RunSummary":
        """Read a summary. Raises InputError."""
        return cls(path, summaries.read(path), hint)

    @property
    def recorded(self) -> dict[str, Any]:
        """The options of the run by name, as they were written down."""
        return self.document["run"].get("options") or {}

    def complete(self, options: T, but: set[str]) -> T:
        """Return options with those of the run in place of defaults, except for the names `but`.

        Raises InputError for a damaged summary.
        """
        cls = type(options)
        but = but | _decided_text(options)
        hints = typing.get_type_hints(cls)
        taken = {}
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # T is a dataclass
            if field.name in but or field.name not in self.recorded:
                continue
            found = self.recorded[field.name]
            if isinstance(found, list):
                found = tuple(found)  # JSON has no tuples
            self._check_type(field.name, found, hints[field.name])
            if getattr(options, field.name) == field.default:
                taken[field.name] = found
        return build(cls, dataclasses.asdict(options) | taken)  # type: ignore[call-overload]

    def output_options(self, prefix: str) -> OutputOptions:
        """Return the options that decide which columns and tables the run wrote.

        Raises InputError for a damaged summary.
        """
        hints = typing.get_type_hints(OutputOptions)
        hints["unsure_below"] = float | int | None  # 1 is a score too
        hints["neutral_band"] = float | int | None
        taken = {}
        for field in dataclasses.fields(OutputOptions):
            if field.name in self.recorded:
                taken[field.name] = self.recorded[field.name]
                self._check_type(field.name, taken[field.name], hints[field.name])
        if not 0 <= (taken.get("unsure_below") or 0) <= 1:
            raise self.damaged(f"the option unsure_below is {taken['unsure_below']!r}")
        return OutputOptions(**taken | {"prefix": prefix})

    def labels(self) -> list[str]:
        """Return the model's labels. Raises InputError for a damaged summary."""
        names = self.document["model"].get("labels")
        if (
            not isinstance(names, list)
            or not names
            or not all(isinstance(name, str) for name in names)
        ):
            raise self.damaged("the model has no labels")
        return names

    def _check_type(self, name: str, found: Any, wanted: Any) -> None:
        kinds = [typing.get_origin(kind) or kind for kind in typing.get_args(wanted) or [wanted]]
        whole = isinstance(found, tuple(kinds))
        if isinstance(found, tuple):
            whole = whole and all(isinstance(one, str) for one in found)
        if not whole:
            raise self.damaged(f"the option {name} is {found!r}")

    def damaged(self, what: object) -> InputError:
        """Return the error for a summary that is not what a run writes."""
        return InputError(
            f"{printable(self.path)} is damaged: {printable(what)}",
            hint=self.hint,
        )
