"""For people who use Ray already: `batchsent.ray.Scorer` scores the batches of a Ray Data set."""

from os import PathLike
from typing import Any

from batchsent.commands.batch_scorer import BatchScorer


class Scorer(BatchScorer):
    """Scores the batches of `Dataset.map_batches`; each of its workers loads the model once.

    >>> reviews.map_batches(  # doctest: +SKIP
    ...     Scorer, fn_constructor_kwargs={"model": "my-model"}, batch_format="pyarrow",
    ...     batch_size=4096, num_gpus=1, compute=ray.data.ActorPoolStrategy(size=8),
    ... )
    """

    def __init__(self, model: str | PathLike[str] | None = None, **options: Any) -> None:
        """Load the model; arguments are those of BatchScorer.

        Raises UsageError, ModelError or DeviceError.
        """
        super().__init__(model, **options)
        self.load()
