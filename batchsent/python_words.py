"""Errors as Python programs read them: `overwrite=True` where the command line says `--overwrite`.

Messages and hints name options as they are typed in a shell. Where a function was called from
Python they are put into its own words on the way out, by its signature, in one place: here.
"""

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from contextlib import contextmanager

from batchsent.errors import BatchsentError

# The commands of `batchsent`. The command line is in a layer above this module, so it is not
# imported: a test compares these names with it.
COMMANDS = (
    "batch",
    "compare",
    "completion",
    "evaluate",
    "export",
    "finetune",
    "info",
    "predict",
    "report",
    "sample",
    "verify",
)
# Commands to type in a shell stay what they are: `batchsent finetune --base-model FOLDER`.
COMMAND = re.compile(rf"(batchsent (?:{'|'.join(COMMANDS)}) [^;]*)")
# A flag and the word after it, which may be its value or the next word of the sentence. After
# "did you mean" it is a value.
FLAG = re.compile(
    r"(did you mean )?(?<![\w-])--([a-z][a-z-]*)(?:[ =](?!-)('[^']*'|[^\s;()]+))?"
    r"|(?<![\w-])-o(?=[\s;,]|$)"
)
# What is a value and not the next word of the sentence: a placeholder, a number, a rule, a device.
PLACEHOLDER = re.compile(r"[A-Z][A-Z|]*")
VALUE = re.compile(r"'.*'|\w+_|[A-Z][A-Z|,./=:-]*|.*[\d=].*|auto|cpu|cuda|mps")


@contextmanager
def python_words(signature: inspect.Signature) -> Iterator[None]:
    """Put errors that leave the block into the words of a function with this signature."""
    try:
        yield
    except BatchsentError as error:
        error.message = in_python_words(error.message, signature)
        if error.hint is not None:
            error.hint = in_python_words(error.hint, signature)
        raise


def words_of(options_class: type) -> inspect.Signature:
    """Return the signature of a function that takes the options of a dataclass."""
    made = inspect.signature(options_class)
    parameters = []
    for field in dataclasses.fields(options_class):
        parameter = made.parameters[field.name]
        choices = field.metadata.get("choices")
        if choices:
            parameter = parameter.replace(annotation=typing.Literal[tuple(choices)])
        parameters.append(parameter)
    return made.replace(parameters=parameters)


def in_python_words(text: str, signature: inspect.Signature) -> str:
    """Return a message with the flags that are parameters of a function written as in a call.

    add --overwrite to replace it  ->  add overwrite=True to replace it
    --max-length 3: too short      ->  max_length=3: too short
    use --precision float32        ->  use precision='float32'
    name it: --text-column NAME    ->  name it: text_column=NAME
    did you mean --keep id?        ->  did you mean keep='id'?
    --stars requires --gold        ->  stars requires gold
    """

    def reword(found: re.Match[str]) -> str:
        proposal, flag, value = found.groups()
        if flag is None:
            return "output"
        before = proposal or ""
        parameter = signature.parameters.get(flag.replace("-", "_"))
        if parameter is None:
            return found[0]  # of another program, such as pip's --index-url
        rest = "" if value is None else found[0][len(before) + len(flag) + 2 :]
        if isinstance(parameter.default, bool):
            return f"{before}{parameter.name}=True{rest}"
        given = "" if value is None else value.rstrip(".,:?")
        if given and (proposal or VALUE.fullmatch(given) or given in choices_of(parameter)):
            rest = rest[1 + len(given) :]
            return f"{before}{parameter.name}={as_python_literal(given, parameter)}{rest}"
        return f"{before}{parameter.name}{rest}"

    parts = COMMAND.split(text)
    # Every second part is a command.
    parts[::2] = [FLAG.sub(reword, part) for part in parts[::2]]
    return "".join(parts)


def choices_of(parameter: inspect.Parameter) -> set[object]:
    """Return the values that a parameter's type names."""
    kinds = (parameter.annotation, *typing.get_args(parameter.annotation))
    found: set[object] = set()
    for kind in kinds:
        if typing.get_origin(kind) is typing.Literal:
            found |= set(typing.get_args(kind))
    return found


def as_python_literal(value: str, parameter: inspect.Parameter) -> str:
    """Return a value as it is written in Python: a placeholder and a number plain, text quoted."""
    kinds = {parameter.annotation, *typing.get_args(parameter.annotation)}
    if value.startswith("'") or PLACEHOLDER.fullmatch(value) or not kinds.isdisjoint({int, float}):
        return value
    return repr(value)
