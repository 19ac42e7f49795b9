"""Reviews made up for measurements: as long as IMDB's, and as many words and rare words."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

VOCABULARY = Path(__file__).parents[1] / "batchsent" / "embedded" / "tokenizer.json"
# IMDB's 50,000 unlabelled reviews have about as many different words; half of them occur once.
WORDS = 200_000
# IMDB's lengths in words: 174 in the middle, 234 on average.
MEDIAN, SPREAD, SHORTEST, LONGEST = 174, 0.74, 8, 2_000
BLOCK = 5_000


@cache
def words() -> tuple[np.ndarray, np.ndarray]:
    """Return words from the most frequent down, and the share of all up to each.

    The frequent ones are those of the embedded model's vocabulary, in its order; each of the others is
    two of them written as one.
    """
    vocabulary = json.loads(VOCABULARY.read_text())["model"]["vocab"]
    known = [word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 1]
    random = np.random.default_rng(0)
    first, second = random.choice(known, (2, WORDS - len(known)))
    found = np.array([*known, *np.char.add(first, second)], dtype=object)
    # Zipf's law, as Mandelbrot corrected it; 2 % of a text are words out of the vocabulary.
    share = np.cumsum((np.arange(len(found)) + 5.0) ** -1.4)
    return found, share / share[-1]


def made_up_reviews(rows: int, seed: int = 0) -> list[str]:
    """Return reviews of 8 to 2,000 words; every eighth word or so ends a part of a sentence."""
    random = np.random.default_rng(seed)
    found, share = words()
    texts: list[str] = []
    while len(texts) < rows:
        size = min(BLOCK, rows - len(texts))
        lengths = np.clip(random.lognormal(np.log(MEDIAN), SPREAD, size), SHORTEST, LONGEST)
        ends = np.cumsum(lengths.astype(int))
        chosen = found[np.searchsorted(share, random.random(ends[-1]))]
        marked = random.random(len(chosen)) < 0.12
        chosen[marked] += random.choice([",", "."], marked.sum()).astype(object)
        drawn = chosen.tolist()
        texts += [
            " ".join(drawn[end - int(length) : end])
            for end, length in zip(ends.tolist(), lengths, strict=True)
        ]
    return texts


def write_reviews(path: Path, rows: int) -> None:
    """Write reviews with a number each to a CSV or Parquet file, as its name says."""
    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    open_writer = pyarrow.csv.CSVWriter if path.suffix == ".csv" else pyarrow.parquet.ParquetWriter
    with open_writer(path, schema) as writer:
        for start in range(0, rows, BLOCK):
            numbers = range(start, min(rows, start + BLOCK))
            texts = made_up_reviews(len(numbers), seed=start)
            writer.write_table(pa.table([numbers, texts], schema=schema))
