"""Score review dumps of any size with a Hugging Face encoder.

The functions here do what the commands of the same name do. Importing them loads neither torch nor
transformers. Their types are in __init__.pyi.
"""

import importlib
from typing import Any

__all__ = [
    "BatchScorer",
    "BatchsentError",
    "DeviceError",
    "GateFailed",
    "InputError",
    "Interrupted",
    "JsonReporter",
    "Locked",
    "Model",
    "ModelError",
    "OutputError",
    "PipeClosed",
    "Prediction",
    "Reporter",
    "Summary",
    "TerminalReporter",
    "UsageError",
    "__version__",
    "batch",
    "compare",
    "evaluate",
    "export",
    "finetune",
    "info",
    "load",
    "report",
    "sample",
    "stream",
    "verify",
]

_CLASSES = {
    "batchsent.errors": (
        *("BatchsentError", "DeviceError", "GateFailed", "InputError", "Interrupted", "Locked"),
        *("ModelError", "OutputError", "PipeClosed", "UsageError"),
    ),
    "batchsent.reporting": ("Reporter",),
    "batchsent.terminal.reporters": ("JsonReporter", "TerminalReporter"),
    "batchsent.commands.batch_scorer": ("BatchScorer",),
    "batchsent.commands.predict": ("Model", "Prediction"),
    "batchsent.commands.summary": ("Summary",),
}


def __getattr__(name: str) -> Any:
    # `import batchsent` costs nothing: what a name refers to is imported when it is first used.
    if name not in __all__:
        raise AttributeError(f"module 'batchsent' has no attribute {name!r}")
    found: Any = None
    if name == "__version__":
        from importlib import metadata

        found = metadata.version("batchsent")
    else:
        home = next((module for module, names in _CLASSES.items() if name in names), None)
        if home is not None:
            found = getattr(importlib.import_module(home), name)
        else:
            from batchsent.python_api import public

            found = public(name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
