"""Score the reviews of a Dask frame, partition by partition; a process loads the model once.

Usage: python examples/dask_reviews.py INPUT.csv OUTPUT_FOLDER [MODEL]
"""

import sys

import dask.dataframe as dd

import batchsent

reviews = dd.read_csv(sys.argv[1], dtype=str, keep_default_na=False)
scorer = batchsent.BatchScorer(*sys.argv[3:4])
# Of a frame without rows the scorer gives one with its columns, so the model is not loaded for it.
scored = reviews.map_partitions(scorer, meta=scorer(reviews._meta))
scored.to_parquet(sys.argv[2])
