"""Score the reviews of a Spark frame with mapInArrow; a Python worker loads the model once.

Usage: spark-submit examples/spark_reviews.py INPUT.csv OUTPUT_FOLDER [MODEL]

batchsent must be installed on every executor. The scorer is tested with iterators of Arrow batches,
as Spark passes them; this script itself has not been run.
"""

import sys

from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

import batchsent

spark = SparkSession.builder.getOrCreate()
reviews = spark.read.csv(sys.argv[1], header=True, multiLine=True, escape='"')
scorer = batchsent.BatchScorer(*sys.argv[3:4])
schema = StructType(list(reviews.schema.fields)).add("label", "string").add("score", "float")
reviews.mapInArrow(scorer.arrow_batches, schema).write.parquet(sys.argv[2])
