"""The model of a run, which is loaded only when there is something to score."""

import dataclasses
import threading
from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import Scores
from batchsent.model.cascade import check_cascade, open_model, threshold_of
from batchsent.model.loading import EMBEDDED, Cascade, ModelIdentity, identify
from batchsent.model.options import CascadeOptions, NamedModelOptions, check_model_options
from batchsent.model.scorer import ModelScorer
from batchsent.model.submission import LocalScorer, Prepared, Scorer
from batchsent.row_texts import Texts
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

    def __init__(self, options: NamedModelOptions) -> None:
        self._options = options
        self._identity: ModelIdentity | None = None
        self._scorer: Scorer | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process looks at the model's files itself.
        return type(self), (self._options,)

    def identity(self) -> ModelIdentity:
        """Return which model it is, without loading it. Raises ModelError."""
        if self._identity is None:
            options = self._options
            self._identity = identify(options.model, options.revision)
            if isinstance(options, CascadeOptions):
                below = threshold_of(options)
                if options.cascade is not None:
                    cascade = Cascade(identify(options.cascade), below)
                    self._identity = dataclasses.replace(self._identity, cascade=cascade)
        return self._identity

    def check(self) -> None:
        """Refuse options that this model or this machine does not support.

        Raises UsageError or DeviceError.
        """
        self._check(self._options)

    def _check(self, options: NamedModelOptions) -> None:
        check_model_options(self.identity(), options)
        if self.identity().cascade is not None:
            check_cascade(self.identity(), options)

    def open(self) -> Scorer:
        """Load the model, once. Raises ModelError or DeviceError."""
        if self._scorer is None:
            self._scorer = open_model(self.identity(), self._options)
        return self._scorer


class ThreadSafeModel(OneModel):
    """The model that the options name, for all threads of a process."""

    def __init__(self, options: NamedModelOptions) -> None:
        super().__init__(options)
        self._lock = threading.Lock()
        self._shared: SharedScorer | None = None

    def open(self) -> Scorer:
        """Load the model, once. Raises ModelError or DeviceError."""
        with self._lock:
            if self._shared is None:
                self._shared = SharedScorer(cast(LocalScorer, super().open()))
            return self._shared


class OpenModel:
    """A model that a program has loaded, for as many runs as it likes."""

    def __init__(self, scorer: ModelScorer) -> None:
        self._scorer, self._shared = scorer, SharedScorer(scorer)

    def identity(self) -> ModelIdentity:
        """Return which model it is."""
        return self._scorer.identity

    def check(self) -> None:
        """Accept the options: they were checked when the model was loaded."""

    def open(self) -> Scorer:
        """Return the model."""
        return self._shared


class SharedScorer(LocalScorer):
    """A scorer that several threads use: a reader is scored while the program asks for more."""

    def __init__(self, scorer: LocalScorer) -> None:
        self._scorer, self.labels = scorer, scorer.labels
        # Two, because texts are tokenized while those before them are scored.
        self._preparing, self._scoring = threading.Lock(), threading.Lock()

    def prepare(self, texts: Texts, known: NDArray[np.bool_] | None = None) -> Prepared:
        """Tokenize a chunk."""
        with self._preparing:
            return self._scorer.prepare(texts, known)

    def score(
        self,
        prepared: Prepared,
        *,
        done: Scores | None = None,
        stop: Callable[[], bool] | None = None,
        on_batch: Callable[[float], None] | None = None,
    ) -> Scores:
        """Score a chunk; rows that `stop` left undone are PENDING."""
        with self._scoring:
            return self._scorer.score(prepared, done=done, stop=stop, on_batch=on_batch)

    def facts(self) -> dict[str, Any]:
        """Return the summary's sections "model" and "device"."""
        return self._scorer.facts()

    def begin_counts(self) -> None:
        """Let what is counted begin anew."""
        with self._scoring:
            self._scorer.begin_counts()

    def close(self) -> None:
        """Free the device."""
        self._scorer.close()


def describe(scorer: Scorer) -> list[str]:
    """Return what was chosen for the user, with the reasons."""
    facts = scorer.facts()
    model, device = facts["model"], facts["device"]
    labels = ", ".join(map(printable, scorer.labels[:6]))
    model_line = f"model {printable(model.get('source'))} ({labels})"
    if model.get("source") == EMBEDDED:
        model_line += ", which comes with batchsent; --model names another"
    lines = [model_line]
    if rule := model.get("early_exit"):
        lines.append(
            f"early exit, for speed: a text whose score is {rule['threshold']:g} or more after "
            f"{rule['layer']} layers of the model is not run through the others"
        )
    if cascade := model.get("cascade"):
        lines.append(
            f"cascade: {printable(cascade['source'])} scores every text, the model those that get "
            f"less than {cascade['below']:g}"
        )
    on = printable(device.get("description", device.get("name")))
    if processes := device.get("devices"):
        on = f"{len(processes)} processes, each on {on}"
    device_line = (
        f"device {on}; precision {model.get('precision')} ({model.get('precision_reason')})"
    )
    return [*lines, device_line]
