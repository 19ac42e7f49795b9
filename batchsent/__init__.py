"""Score review dumps of any size with a Hugging Face encoder, exact about rows, impossible to corrupt, fast.

The functions here do what the commands of the same name do. Importing them loads neither torch nor transformers.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchsent.api import Model, Prediction, load
    from batchsent.evaluate import evaluate
    from batchsent.export import export
    from batchsent.finetune import finetune
    from batchsent.info import info
    from batchsent.run.batch import batch
    from batchsent.verify import verify

__all__ = ["Model", "Prediction", "batch", "evaluate", "export", "finetune", "info", "load", "verify"]

_HOMES = {
    "Model": "batchsent.api",
    "Prediction": "batchsent.api",
    "load": "batchsent.api",
    "evaluate": "batchsent.evaluate",
    "export": "batchsent.export",
    "finetune": "batchsent.finetune",
    "info": "batchsent.info",
    "verify": "batchsent.verify",
    "batch": "batchsent.run.batch",
}


def __getattr__(name: str) -> Any:
    # `import batchsent` costs nothing: pyarrow and numpy come with the first function that is used.
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'batchsent' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
