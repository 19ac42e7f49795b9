"""Score the reviews of a Ray Data set on the workers of a cluster, each with the model loaded once.

Usage: python examples/ray_data_reviews.py INPUT.csv OUTPUT_FOLDER [MODEL]
"""

import sys

import ray

from batchsent.ray import Scorer

reviews = ray.data.read_csv(sys.argv[1])
scored = reviews.map_batches(
    Scorer,
    fn_constructor_kwargs={"model": sys.argv[3] if len(sys.argv) > 3 else None},
    batch_format="pyarrow",
    batch_size=8192,
    compute=ray.data.ActorPoolStrategy(size=1),  # and num_gpus=1 where there are GPUs
)
scored.write_parquet(sys.argv[2])
