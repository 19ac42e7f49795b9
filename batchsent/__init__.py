"""Score review dumps of any size with a Hugging Face encoder.

The functions here do what the commands of the same name do. Importing them loads neither torch nor
transformers.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchsent.commands.compare import compare
    from batchsent.commands.evaluate import evaluate
    from batchsent.commands.export import export
    from batchsent.commands.finetune import finetune
    from batchsent.commands.info import info
    from batchsent.commands.predict import Model, Prediction, load
    from batchsent.commands.report import report
    from batchsent.commands.sample import sample
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
    "sample",
    "verify",
]

_HOMES = {
    "Model": "batchsent.commands.predict",
    "Prediction": "batchsent.commands.predict",
    "load": "batchsent.commands.predict",
    "compare": "batchsent.commands.compare",
    "evaluate": "batchsent.commands.evaluate",
    "export": "batchsent.commands.export",
    "finetune": "batchsent.commands.finetune",
    "info": "batchsent.commands.info",
    "report": "batchsent.commands.report",
    "sample": "batchsent.commands.sample",
    "verify": "batchsent.verification.verify",
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
