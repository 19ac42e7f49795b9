"""The types of the package, written from its functions and their options.

`python -m tests.stub` writes batchsent/__init__.pyi anew; tests/test_python_api.py compares.
"""

import inspect
import re
from pathlib import Path

import batchsent
from batchsent.python_api import FUNCTIONS, public

STUB = Path(batchsent.__file__).with_suffix(".pyi")
HEAD = """# Written by `python -m tests.stub`, which `make fix` runs: do not edit.
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from pyarrow import RecordBatchReader

"""


def render() -> str:
    """Return the text of the stub: what is exported, then each function with all its options."""
    lines = []
    for module, names in batchsent._CLASSES.items():
        lines.append(f"from {module} import (")
        lines += [f"    {name} as {name}," for name in names]
        lines.append(")")
    lines += ["from batchsent.run.models import Models", "", "__version__: str"]
    for name in FUNCTIONS:
        function = public(name)
        signature = inspect.signature(function)
        lines += ["", f"def {name}("]
        keyword_only = False
        for parameter in signature.parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
                lines.append("    *,")
                keyword_only = True
            lines.append(f"    {parameter_text(parameter)},")
        lines += [f") -> {annotation_text(signature.return_annotation)}:", docstring(function)]
    return HEAD + "\n".join(lines) + "\n"


def parameter_text(parameter: inspect.Parameter) -> str:
    """Return a parameter as it stands in a definition."""
    text = f"{parameter.name}: {annotation_text(parameter.annotation)}"
    if parameter.default is parameter.empty:
        return text
    default = parameter.default
    shown = f'"{default}"' if isinstance(default, str) and '"' not in default else repr(default)
    return f"{text} = {shown}"


def annotation_text(annotation: object) -> str:
    """Return a type as it stands in a definition, without the modules of its parts."""
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    if str(annotation).endswith("]"):  # of dict[str, Any] the name is dict
        text = str(annotation)
    text = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)
    text = re.sub(r"Optional\[(Literal\[.*\])\]", r"\1 | None", text)
    return re.sub(r"'([^']*)'", r'"\1"', text)


def docstring(function: object) -> str:
    """Return the docstring of a function, indented: editors show it."""
    text = inspect.getdoc(function).replace("\n", "\n    ").replace("\n    \n", "\n\n")
    return f'''    """{text}\n    """''' if "\n" in text else f'''    """{text}"""'''


if __name__ == "__main__":
    STUB.write_text(render())
