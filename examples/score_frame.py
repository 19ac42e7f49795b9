"""Score a frame in five lines."""

import sys

import pandas as pd

import batchsent

reviews = pd.read_csv("examples/reviews.csv", dtype={"id": str}, keep_default_na=False)
scored = batchsent.load(sys.argv[1]).score_frame(reviews, text_column="text")
print(scored.groupby("label")["score"].describe())
