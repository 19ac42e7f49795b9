"""The model as a function of batches, for engines that send functions to their workers."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np

from batchsent.options import build
from batchsent.python_words import python_words, words_of

if TYPE_CHECKING:
    import pyarrow as pa

    from batchsent.run.models import OneModel
    from batchsent.run.options import NamedFrameOptions

# The models of this process: an engine makes a copy of its function for each task, and the copies
# of one process share the model.
_models: "dict[NamedFrameOptions, OneModel]" = {}
_lock = threading.Lock()


class BatchScorer:
    """Scores batches of rows: what Spark, Dask and Ray Data call in their workers.

    It is pickled without the model, which is loaded with the first batch that has rows, once in a
    process. Options are those of `load` and of `score_frame`. Raises UsageError for a name that is
    no option.

    >>> scorer = BatchScorer("my-model", text_column="review")  # doctest: +SKIP
    >>> frame.map_partitions(scorer, meta=scorer(frame._meta))  # Dask  # doctest: +SKIP
    >>> frame.mapInArrow(scorer.arrow_batches, schema)  # Spark  # doctest: +SKIP
    """

    def __init__(self, model: str | PathLike[str] | None = None, **options: Any) -> None:
        from batchsent.run.options import NamedFrameOptions

        source = None if model is None else fspath(model)
        with python_words(words_of(NamedFrameOptions)):
            self._options = build(NamedFrameOptions, {"model": source, **options})

    def __call__(self, batch: Any) -> Any:
        """Return a batch of the same kind with the columns label and score after its own.

        A batch is a frame of pandas or polars, a table or record batch of pyarrow, or a dictionary
        of numpy arrays. One without rows needs no model, so it tells Dask what to expect. Raises
        UsageError, ModelError or DeviceError.
        """
        from batchsent.run.streaming import score_frame, without_rows

        if isinstance(batch, Mapping):
            return self._score_arrays(batch)
        with python_words(words_of(type(self._options))):
            if hasattr(batch, "__len__") and not len(batch):
                return without_rows(batch, self._model(), self._options)
            return score_frame(batch, self._model(), self._options)

    def arrow_batches(self, batches: "Iterable[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        """Yield the rows of record batches with the new columns: a function for `mapInArrow`.

        The batches are read in another thread, a few in advance, and may come out in other sizes.
        """
        import pyarrow as pa

        found = iter(batches)
        first = next(found, None)
        if first is not None:
            yield from self(pa.RecordBatchReader.from_batches(first.schema, chain([first], found)))

    def load(self) -> None:
        """Load the model now. Raises UsageError, ModelError or DeviceError."""
        with python_words(words_of(type(self._options))):
            self._model().open()

    def _model(self) -> "OneModel":
        """Return the model of this process."""
        from batchsent.run.models import ThreadSafeModel

        with _lock:
            return _models.setdefault(self._options, ThreadSafeModel(self._options))

    def _score_arrays(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Return columns as numpy arrays with the new ones; a missing label is None."""
        import pandas as pd

        # Other columns may hold images or vectors, which are no columns of a frame.
        rows = pd.DataFrame({n: column for n, column in columns.items() if np.ndim(column) == 1})
        scored = self(rows)
        added = {name: scored[name] for name in scored.columns[len(rows.columns) :]}
        return dict(columns) | {
            name: column.to_numpy()
            if column.dtype.kind in "biuf"
            else np.array([None if pd.isna(cell) else cell for cell in column], object)
            for name, column in added.items()
        }
