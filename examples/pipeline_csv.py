"""What one writes without batchsent: a CSV through transformers.pipeline into another CSV.

    python examples/pipeline_csv.py MODEL reviews.csv scored.csv

All rows are in memory, and a run that is interrupted begins anew. The bench times it as a whole
command beside `batchsent batch`.
"""

import csv
import sys
from pathlib import Path

import transformers

BATCH_SIZE = 8  # the fastest of 1, 8 and 32 on a CPU


def main(model: str, source: str, target: str) -> None:
    """Score the column text."""
    with Path(source).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    classify = transformers.pipeline("text-classification", model=model, device="cpu")
    texts = [row["text"] for row in rows]
    found = classify(texts, batch_size=BATCH_SIZE, truncation=True)
    with Path(target).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "label", "score"])
        writer.writeheader()
        for row, scored in zip(rows, found, strict=True):
            writer.writerow(row | scored)


if __name__ == "__main__":
    main(*sys.argv[1:])
