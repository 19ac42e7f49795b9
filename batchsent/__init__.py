"""Score review dumps of any size with a Hugging Face encoder, exact about rows, impossible to corrupt, fast.

The functions here do what the commands of the same name do. Importing them loads neither torch nor transformers.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchsent.api import Model, Prediction, load
    from batchsent.compare import compare
    from batchsent.evaluate import evaluate
    from batchsent.export import export
    from batchsent.finetune import finetune
    from batchsent.info import info
    from batchsent.report import report
    from batchsent.run.batch import batch
    from batchsent.verification.verify import verify

__all__ = [
    "Model",
    "Prediction",
    "batch",
    "compare",
    "evaluate",
    "export",
    "finetune",
    "info",
    "load",
    "report",
    "verify",
]

_HOMES = {
    "Model": "batchsent.api",
    "Prediction": "batchsent.api",
    "load": "batchsent.api",
    "compare": "batchsent.compare",
    "evaluate": "batchsent.evaluate",
    "export": "batchsent.export",
    "finetune": "batchsent.finetune",
    "info": "batchsent.info",
    "report": "batchsent.report",
    "verify": "batchsent.verification.verify",
    "batch": "batchsent.run.batch",
}


class _Face(ModuleType):
    """The package: a function keeps its name, which the import system would give to the module it lives in."""

    def __setattr__(self, name: str, value: Any) -> None:
        # Else `batchsent.verify` were the module once batchsent/verify.py is loaded, and `from batchsent import verify`
        # always: the import system looks the name up, which loads the module, and only then takes it.
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face


def __getattr__(name: str) -> Any:
    # `import batchsent` costs nothing: pyarrow and numpy come with the first function that is used.
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'batchsent' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
