"""Scores as the columns that a run adds."""

import numpy as np
import pyarrow as pa

from batchsent.chunk import SCORED, Scores
from batchsent.run.options import BatchOptions


def added_schema(labels: tuple[str, ...], options: BatchOptions) -> pa.Schema:
    """Return the new columns."""
    fields = [("label", pa.string()), ("score", pa.float32())]
    if options.probabilities:
        fields += [(f"prob_{label}", pa.float32()) for label in labels]
    if options.details:
        fields += [("n_tokens", pa.int32()), ("truncated", pa.bool_())]
    if options.unsure_below is not None:
        fields += [("unsure", pa.bool_())]
    return pa.schema([(options.prefix + name, kind) for name, kind in fields])


def added_batch(scores: Scores, labels: tuple[str, ...], schema: pa.Schema, options: BatchOptions) -> pa.RecordBatch:
    """Return the new columns of a chunk; label, score and probabilities are null where there is no score."""
    scored = scores.status == SCORED
    winners = scores.winners
    names = pa.array(labels, pa.string()).take(pa.array(winners, mask=~scored))
    best = scores.probabilities[np.arange(len(winners)), np.maximum(winners, 0)]
    columns = [names, pa.array(best, pa.float32(), mask=~scored)]
    if options.probabilities:
        columns += [pa.array(scores.probabilities[:, n], pa.float32(), mask=~scored) for n in range(len(labels))]
    if options.details:
        columns += [pa.array(scores.n_tokens, pa.int32()), pa.array(scores.tokens_cut > 0, pa.bool_())]
    if options.unsure_below is not None:
        columns += [pa.array(best < options.unsure_below, pa.bool_(), mask=~scored)]
    return pa.record_batch(columns, schema=schema)
