"""Tiny encoders compared with transformers: texts, what it says of each, and batches through ours."""

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from batchsent.model.batches import plan_batches
from batchsent.model.tokens import make_text_encoder
from tests.models import ARCHITECTURES, WORDS

# The kinds that run packed.
KINDS = tuple(kind for kind in ARCHITECTURES if kind != "roformer")
# Their attention has a bias for the distance of tokens, which CUDA's kernel for packs cannot add.
BIASED = ("mpnet", "deberta")
VARLEN = tuple(kind for kind in KINDS if kind not in BIASED)


def distinct(folder):
    """Give every bias and normalization of a model folder numbers of its own, and return it."""
    path = folder / "model.safetensors"
    random = torch.Generator().manual_seed(5)
    weights = load_file(path)
    for weight in weights.values():
        if weight.dim() == 1:
            weight += 0.2 * torch.randn(weight.shape, generator=random)
    save_file(weights, path, metadata={"format": "pt"})
    return folder


def texts_of_many_lengths(count=40, seed=3):
    """Make texts of 1 to 70 words, so that some are cut and neighbours in a batch differ."""
    random = np.random.default_rng(seed)
    words = [word for word in WORDS if not word.startswith("##")]
    return [" ".join(random.choice(words, size=n)) for n in random.integers(1, 70, count)]


def alone(model, texts):
    """Ask transformers for the logits of each text by itself."""
    rows = []
    with torch.inference_mode():
        for text in texts:
            inputs = model.tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
            rows.append(torch.softmax(model.module(**inputs).logits, dim=-1).numpy())
    return np.concatenate(rows)


def through(encoder, model, texts, budget, shape):
    """Run texts in batches and put the results back by row number."""
    tokens = make_text_encoder(model.tokenizer, 64).encode(texts)
    results = np.full((len(texts), 3), np.nan, dtype=np.float32)
    for rows in plan_batches(tokens.lengths, budget, shape):
        results[rows] = encoder.probabilities(tokens.take(rows), tokens.lengths[rows]).numpy()
    return results


def reference_varlen(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1)
):
    """Do what torch.nn.attention.varlen.varlen_attn does: text i attends to itself only.

    A window is laid along the end of the keys, as the kernel has it.
    """
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert int(cu_seq_q.diff().max()) <= max_q
    assert int(cu_seq_k.diff().max()) <= max_k
    assert int(cu_seq_q[-1]) == len(query)
    assert int(cu_seq_k[-1]) == len(key) == len(value)
    before, after = (10**6 if side < 0 else side for side in window_size)
    out = torch.empty_like(query)
    for i in range(len(cu_seq_q) - 1):
        q = query[cu_seq_q[i] : cu_seq_q[i + 1]].transpose(0, 1)
        k, v = (part[cu_seq_k[i] : cu_seq_k[i + 1]].transpose(0, 1) for part in (key, value))
        scores = q @ k.transpose(1, 2) * (scale or query.shape[-1] ** -0.5)
        place = torch.arange(q.shape[1])[:, None] + k.shape[1] - q.shape[1]
        distance = torch.arange(k.shape[1]) - place
        scores[:, (distance < -before) | (distance > after)] = -torch.inf
        weights = torch.softmax(scores, dim=-1)
        out[cu_seq_q[i] : cu_seq_q[i + 1]] = (weights @ v).transpose(0, 1)
    return out
