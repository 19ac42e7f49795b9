"""How much of packs of one size is filler.

    python examples/filler.py test-5k.parquet

The lengths are those of the file's texts, cut at 512 tokens of the embedded model, in chunks of 8,192
rows as a run has them; and made-up lengths of sentences.
"""

import sys

import numpy as np
import pyarrow.parquet as pq

from batchsent.model.batches import plan_batches
from batchsent.model.loading import identify, load_model
from batchsent.model.tokens import make_text_encoder

ROWS, LONGEST = 8_192, 512
SIZES = (4_096, 8_192, 16_384, 32_768, 131_072)


def main() -> None:
    """Print the table."""
    tokenizer = load_model(identify(None), device="cpu").tokenizer
    texts = pq.read_table(sys.argv[1], columns=["text"])["text"].to_pylist()[:ROWS]
    random = np.random.default_rng(0)
    reviews = make_text_encoder(tokenizer, LONGEST).encode(texts).lengths
    sentences = np.clip(random.lognormal(3.1, 0.6, ROWS).astype(np.int64), 3, LONGEST)
    print("| tokens of a pack |" + "".join(f" {size:,} |" for size in SIZES))
    print("|---" * (len(SIZES) + 1) + "|")
    for name, lengths in (("reviews", reviews), ("sentences", sentences)):
        cells = []
        for size in SIZES:
            packs = plan_batches(lengths, size, "constant")
            cells.append(f" {1 - lengths.sum() / (len(packs) * size):.1%} |")
        print(f"| {len(lengths):,} {name} of {lengths.mean():.0f} tokens |{''.join(cells)}")


if __name__ == "__main__":
    main()
