"""The model that the options name, on all their devices: in this process, or in several."""

from dataclasses import fields, replace

from batchsent.model.cascade import open_model
from batchsent.model.devices import check_devices, choose_devices, plans_of
from batchsent.model.options import ModelOptions
from batchsent.model.pool import ProcessPool
from batchsent.model.submission import Scorer
from batchsent.run.models import OneModel
from batchsent.run.options import BatchOptions


class ModelOnDevices(OneModel):
    """The model of a command; processes that it spawns live until it is closed."""

    def __init__(self, options: BatchOptions) -> None:
        super().__init__(options)
        self._processes = options.processes

    def check(self) -> None:
        """Refuse options that this model or this machine does not support.

        Raises UsageError or DeviceError.
        """
        options = self._options
        one = check_devices(options.device, options.precision, self._processes)
        self._check(replace(options, device=one))

    def open(self) -> Scorer:
        """Load the model, once. Raises UsageError, ModelError or DeviceError."""
        if isinstance(self._scorer, ProcessPool):
            self._scorer.check_alive()
        if self._scorer is None:
            self._scorer = self._open()
        return self._scorer

    def _open(self) -> Scorer:
        values = {field.name: getattr(self._options, field.name) for field in fields(ModelOptions)}
        options, identity = ModelOptions(**values), self.identity()
        found = choose_devices(options.device, options.precision, self._processes)
        if len(found.names) == 1:
            return open_model(identity, replace(options, device=found.names[0]))
        warnings = [found.left_out] if found.left_out else []
        return ProcessPool(plans_of(identity, options, found.names), warnings)

    def close(self) -> None:
        """End the processes, and free the device."""
        if self._scorer is not None:
            self._scorer.close()
            self._scorer = None
