"""Click options made of options dataclasses, and help that shows them in groups."""

import dataclasses
import importlib
import typing
from collections.abc import Callable
from typing import Any

import click

from batchsent.options import flag_of, kind_of

# The groups of `--help`, in the order in which they are shown. An option without one is in "Other".
GROUPS = (
    "Common",
    "Columns",
    "Reading CSV",
    "Data",
    "Model and device",
    "Training",
    "Quality",
    "Run",
    "Other",
)


# What stands for a path in help. Such values are paths for the completion of a shell too.
PATHS = ("FILE", "FOLDER", "INPUT", "OUTPUT", "SUMMARY", "MODEL")


def is_path(metavar: str) -> bool:
    """Tell whether a metavar such as FOLDER|ID or INPUT... stands for a path."""
    return any(word in metavar for word in PATHS)


class GroupedOption(click.Option):
    """A click option that knows in which group of the help it is shown."""

    def __init__(self, *arguments: Any, group: str = "Other", **settings: Any) -> None:
        if is_path(settings.get("metavar") or ""):
            settings["type"] = click.Path()
        super().__init__(*arguments, **settings)
        self.group = group


def common_option(*names: str, group: str = "Common", **settings: Any) -> Callable[[Any], Any]:
    """Declare an option of a command itself, which is not a field of its options dataclass."""
    return click.option(*names, cls=GroupedOption, group=group, **settings)


def json_option(what: str) -> Callable[[Any], Any]:
    """Declare --json."""
    return common_option("--json", "as_json", is_flag=True, help=f"Print {what} as JSON.")


class LazyCommand(click.Command):
    """A command whose options are the fields of a dataclass.

    They are read when the command is used or asked for help. `options_class` is "module:name".
    With `examples` the help ends with them.
    """

    options_class: str | None = None
    examples: str = ""
    _loaded = False

    def load_options(self) -> None:
        """Add an option for every field of the dataclass."""
        if self.options_class is None or self._loaded:
            return
        module, name = self.options_class.split(":")
        cls = getattr(importlib.import_module(module), name)
        hints = typing.get_type_hints(cls)
        of_fields = [click_option(field, hints[field.name]) for field in dataclasses.fields(cls)]
        own = [parameter for parameter in self.params if isinstance(parameter, click.Option)]
        arguments = [parameter for parameter in self.params if parameter not in own]
        self.params = [*arguments, *own, *of_fields]
        self._loaded = True

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters, options included."""
        self.load_options()
        return super().get_params(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse with the options there."""
        self.load_options()
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options group by group; a command with one group shows them as one list."""
        found: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                found[getattr(parameter, "group", "Other")].append(record)
        filled = {group: records for group, records in found.items() if records}
        for group, records in filled.items():
            title = "Options" if len(filled) == 1 else group
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are typed."""
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line.strip()}\n")


def click_option(field: dataclasses.Field[Any], hint: Any) -> GroupedOption:
    """Return the click option of a field: its default is the field's, and stands nowhere else."""
    ours = {"affects", "minimum"}
    settings = {name: value for name, value in field.metadata.items() if name not in ours}
    names = [flag_of(field), field.name]
    if "short" in settings:
        names.insert(1, settings.pop("short"))
    choices = settings.pop("choices", None)
    kind = kind_of(hint)
    if choices:
        settings["type"] = click.Choice(choices)
    elif kind is bool:
        settings["is_flag"] = True
    else:
        settings.setdefault("type", str if kind is tuple else kind)
    shown = field.default not in (None, False, "", ())
    return GroupedOption(names, default=field.default, show_default=shown, **settings)
