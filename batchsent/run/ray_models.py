"""The model of a run on a cluster: it is loaded by the workers, and only named by this process."""

import dataclasses

from batchsent.errors import UsageError
from batchsent.model.loading import ModelIdentity
from batchsent.model.options import check_model_options
from batchsent.model.submission import Scorer
from batchsent.run.models import Models
from batchsent.run.options import BatchOptions


class ClusterModels:
    """The model for a run whose texts are scored on a cluster."""

    def __init__(self, models: Models, options: BatchOptions) -> None:
        self.of_worker, self._options = models, options

    def identity(self) -> ModelIdentity:
        """Return which model it is, without loading it. Raises ModelError."""
        return self.of_worker.identity()

    def check(self) -> None:
        """Refuse options that this model does not support; each worker checks its device.

        Raises UsageError.
        """
        anywhere = dataclasses.replace(self._options, device="auto", precision="auto")
        check_model_options(self.identity(), anywhere)

    def open(self) -> Scorer:
        """Refuse."""
        raise UsageError("--engine ray requires several inputs", hint="name a folder")
