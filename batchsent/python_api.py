"""The functions of the package as Python programs call them.

Each does what the command of its name does. Its signature lists every option, its errors are in
Python words, and `progress=True` shows the progress on stderr.
"""

import dataclasses
import functools
import importlib
import inspect
import typing
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

from batchsent.command_options import is_path
from batchsent.options import kind_of, takes_several
from batchsent.python_words import python_words

# Where a function is, and the dataclass of its options.
FUNCTIONS = {
    "batch": ("batchsent.commands.batch", "batchsent.run.options:BatchOptions"),
    "compare": ("batchsent.commands.compare", "batchsent.commands.compare:CompareOptions"),
    "evaluate": ("batchsent.commands.evaluate", "batchsent.commands.evaluate:EvaluateOptions"),
    "export": ("batchsent.commands.export", "batchsent.commands.export:ExportOptions"),
    "finetune": ("batchsent.commands.finetune", "batchsent.training.options:FinetuneOptions"),
    "info": ("batchsent.commands.info", "batchsent.commands.info:InfoOptions"),
    "load": ("batchsent.commands.predict", "batchsent.model.options:ModelOptions"),
    "report": ("batchsent.commands.report", None),
    "sample": ("batchsent.commands.sample", "batchsent.commands.sample:SampleOptions"),
    "stream": ("batchsent.commands.stream", "batchsent.run.options:StreamOptions"),
    "verify": ("batchsent.verification.verify", "batchsent.verification.verify:VerifyOptions"),
}


def public(name: str) -> Callable[..., Any]:
    """Return a function of the package in the form for Python programs."""
    module, options_class = FUNCTIONS[name]
    function = getattr(importlib.import_module(module), name)
    signature = signature_of(function, options_class)

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        with python_words(signature):
            if "progress" not in signature.parameters or not options.pop("progress", False):
                return function(*arguments, **options)
            from batchsent.terminal.reporters import TerminalReporter

            with TerminalReporter() as reporter:
                return function(*arguments, **{"reporter": reporter, **options})

    call.__signature__ = signature  # type: ignore[attr-defined]  # what help() and editors show
    return call


def signature_of(function: Callable[..., Any], options_class: str | None) -> inspect.Signature:
    """Return the signature of a function with each of its options as a parameter of its own."""
    own = inspect.signature(function)
    parameters = {
        name: parameter
        for name, parameter in own.parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    if "reporter" in parameters:
        parameters["progress"] = keyword("progress", bool, default=False)
    if options_class is not None:
        module, name = options_class.split(":")
        cls = getattr(importlib.import_module(module), name)
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            annotation = annotation_of(field, hints[field.name])
            parameters[field.name] = keyword(field.name, annotation, default=field.default)
    return own.replace(parameters=list(parameters.values()))


def keyword(name: str, annotation: Any, *, default: Any) -> inspect.Parameter:
    """Return a parameter that is given by its name."""
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def annotation_of(field: dataclasses.Field[Any], hint: Any) -> Any:
    """Return the type of an option for a type checker: its choices, paths of any kind, lists."""
    kind = kind_of(hint)
    annotation = kind
    if field.metadata.get("choices"):
        annotation = typing.Literal[tuple(field.metadata["choices"])]
    elif kind is tuple or takes_several(hint):
        annotation = str | Sequence[str]
    elif kind is str and is_path(field.metadata.get("metavar") or ""):
        annotation = str | PathLike[str]
    return annotation if kind is hint or kind is tuple else annotation | None
