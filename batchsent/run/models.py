"""The model of a run, which is loaded only when there is something to score."""

from typing import Protocol

from batchsent.model.canaries import open_scorer
from batchsent.model.loading import EMBEDDED, ModelIdentity, identify
from batchsent.model.options import check_model_options
from batchsent.model.scorer import Scorer
from batchsent.run.options import BatchOptions
from batchsent.text import printable


class Models(Protocol):
    """Gives a run its model."""

    def identity(self) -> ModelIdentity:
        """Return which model it is, without loading it."""

    def check(self) -> None:
        """Refuse options that this model or machine does not support; does not load the model."""

    def open(self) -> Scorer:
        """Load the model, once."""


class OneModel:
    """The model that the options name."""

    def __init__(self, options: BatchOptions) -> None:
        self._options = options
        self._identity: ModelIdentity | None = None
        self._scorer: Scorer | None = None

    def identity(self) -> ModelIdentity:
        """Return which model it is, without loading it. Raises ModelError."""
        if self._identity is None:
            self._identity = identify(self._options.model, self._options.revision)
        return self._identity

    def check(self) -> None:
        """Refuse options that this model or this machine does not support.

        Raises UsageError or DeviceError.
        """
        check_model_options(self.identity(), self._options)

    def open(self) -> Scorer:
        """Load the model, once. Raises ModelError or DeviceError."""
        if self._scorer is None:
            self._scorer = open_scorer(self.identity(), self._options)
        return self._scorer


def describe(scorer: Scorer) -> list[str]:
    """Return what was chosen for the user, with the reasons."""
    facts = scorer.facts()
    model, device = facts["model"], facts["device"]
    labels = ", ".join(map(printable, scorer.labels[:6]))
    model_line = f"model {printable(model.get('source'))} ({labels})"
    if model.get("source") == EMBEDDED:
        model_line += ", which comes with batchsent; --model names another"
    device_line = (
        f"device {printable(device.get('description', device.get('name')))}; "
        f"precision {model.get('precision')} ({model.get('precision_reason')})"
    )
    return [model_line, device_line]
