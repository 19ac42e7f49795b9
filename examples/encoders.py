"""How far each architecture without padding is from transformers' own forward pass, and how fast.

Usage: python examples/encoders.py [--reviews 16] [--rounds 2] [ARCHITECTURE ...]

The models have the sizes of the published base models and random weights. Seconds are those of the
processor; of several rounds in turn the fastest counts.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import bench
import made_up_reviews
import numpy as np
import torch
import transformers

from batchsent.model.batches import plan_batches
from batchsent.model.budget import default_budget
from batchsent.model.encoder import packed_encoder, stock_encoder
from batchsent.model.loading import LoadedModel, identify, load_model
from batchsent.model.packing import Tokens
from batchsent.model.tokens import make_text_encoder

WIDE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
DEBERTA = {
    "num_hidden_layers": 12,
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
SIZES: dict[str, dict[str, Any]] = {
    "DistilBert": {},
    "Electra": WIDE | {"embedding_size": 768},
    "Albert": WIDE,
    "MPNet": {"max_position_embeddings": 514},
    "DebertaV2": WIDE | DEBERTA,  # version 3
    "ModernBert": SPECIAL | {"cls_token_id": 2, "sep_token_id": 3},
}


def make_model(folder: Path, name: str, tokenizer: Any) -> LoadedModel:
    """Write a model with random weights and load it."""
    torch.manual_seed(0)
    settings = SIZES[name] | {"vocab_size": 30_522, "num_labels": 2}
    config = getattr(transformers, f"{name}Config")(**settings)
    getattr(transformers, f"{name}ForSequenceClassification")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_model(identify(str(folder)), device="cpu", precision="float32", max_length=512)


def run(encoder: Any, tokens: Tokens, budget: int) -> tuple[np.ndarray, float]:
    """Return the logits (texts, 2) and the processor seconds that they took."""
    found = np.empty((len(tokens.lengths), 2), np.float32)
    start = time.process_time()
    for batch in plan_batches(tokens.lengths, budget, encoder.shape):
        found[batch] = encoder.logits(tokens.take(batch), tokens.lengths[batch]).numpy()
    return found, time.process_time() - start


def main() -> None:
    """Print a line for each architecture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architectures", nargs="*", default=list(SIZES), metavar="ARCHITECTURE")
    parser.add_argument("--reviews", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    texts = made_up_reviews.made_up_reviews(options.reviews)
    print(f"{'':12}{'packed s':>10}{'stock s':>10}{'ratio':>8}{'largest difference':>20}")
    with tempfile.TemporaryDirectory() as folder:
        bench.made_up_model(Path(folder) / "tokenizer", texts)
        tokenizer = transformers.AutoTokenizer.from_pretrained(Path(folder) / "tokenizer")
        for name in options.architectures:
            model = make_model(Path(folder) / name, name, tokenizer)
            tokens = make_text_encoder(model.tokenizer, 512).encode(texts)
            packed, stock = packed_encoder(model), stock_encoder(model)
            seconds: dict[bool, list[float]] = {True: [], False: []}
            logits = {}
            for _ in range(options.rounds):
                for is_packed, encoder in ((True, packed), (False, stock)):
                    logits[is_packed], took = run(encoder, tokens, default_budget(model))
                    seconds[is_packed].append(took)
            ours, theirs = min(seconds[True]), min(seconds[False])
            difference = float(np.abs(logits[True] - logits[False]).max())
            print(f"{name:12}{ours:>10.2f}{theirs:>10.2f}{theirs / ours:>8.2f}{difference:>20.1e}")


if __name__ == "__main__":
    main()
