"""The model of a run on a cluster: its workers load it, this process only tells which it is."""

import contextlib
import dataclasses
from types import TracebackType
from typing import Self

from batchsent.model.cascade import check_cascade
from batchsent.model.loading import ModelIdentity
from batchsent.model.options import check_model_options
from batchsent.reporting import Reporter
from batchsent.run.models import Models
from batchsent.run.options import BatchOptions
from batchsent.run.ray_chunks import AT_ONCE, ChunkWorker, ClusterScorer
from batchsent.run.ray_cluster import joined_cluster
from batchsent.run.ray_pool import Pool
from batchsent.run.ray_worker import Needs


class ClusterModels:
    """The model for a run whose texts are scored on a cluster, which is left at the end."""

    def __init__(self, models: Models, options: BatchOptions, reporter: Reporter) -> None:
        self.of_worker, self._options, self._reporter = models, options, reporter
        self._stack = contextlib.ExitStack()
        self._scorer: ClusterScorer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def identity(self) -> ModelIdentity:
        """Return which model it is, without loading it. Raises ModelError."""
        return self.of_worker.identity()

    def check(self) -> None:
        """Refuse options that this model does not support; each worker checks its device.

        Raises UsageError.
        """
        anywhere = dataclasses.replace(self._options, device="auto", precision="auto")
        check_model_options(self.identity(), anywhere)
        if self.identity().cascade is not None:
            check_cascade(self.identity(), anywhere)

    def open(self) -> ClusterScorer:
        """Join the cluster and wait until a worker has loaded the model.

        Raises BatchsentError where none can.
        """
        if self._scorer is None:
            cluster = self._stack.enter_context(joined_cluster(self._options))
            self._reporter.notice(cluster.describe(cluster.workers))
            scorer = ClusterScorer()
            pool = Pool(
                cluster,
                ChunkWorker,
                Needs.of(self.of_worker, self._options),
                self._reporter,
                workers=cluster.workers,
                at_once=AT_ONCE,
                on_start=scorer.take,
            )
            self._stack.callback(pool.close)
            scorer.use(pool, cluster.workers)
            self._scorer = scorer
        return self._scorer
