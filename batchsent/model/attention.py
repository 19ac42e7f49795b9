"""Attention within each text of a pack: text by text on any device, in one kernel on CUDA."""

import inspect
from collections.abc import Callable
from itertools import groupby
from typing import Any, Protocol

from batchsent.model.packs import Pack
from batchsent.model.positions import Positions, distances


class Attention(Protocol):
    """Computes attention within each text."""

    def __call__(
        self,
        queries: Any,
        keys: Any,
        values: Any,
        pack: Pack,
        positions: Positions,
        *,
        first_only: bool,
    ) -> Any:
        """Return (queries, heads, width) of that and twice (tokens, heads, width).

        There is a query for every token or, with `first_only`, one for the first token of each
        text, in whose window all tokens then are. Rotary positions are in queries and keys already.
        """


def attention_by_length(
    queries: Any, keys: Any, values: Any, pack: Pack, positions: Positions, *, first_only: bool
) -> Any:
    """Attend text by text, neighbours of equal length together; on any device, made for CPUs."""
    import torch

    results, token, text = [], 0, 0
    for length, run in groupby(pack.lengths.tolist()):
        texts = len(list(run))
        here = slice(token, token + texts * length)
        with_query = slice(text, text + texts) if first_only else here
        q = by_head(queries[with_query], texts)
        k, v = by_head(keys[here], texts), by_head(values[here], texts)
        results.append(_attend(q, k, v, positions).transpose(1, 2).flatten(0, 1))
        token += texts * length
        text += texts
    if len(results) == 1:
        return results[0]
    return torch.cat(results)


def by_head(states: Any, texts: int) -> Any:
    """Return (texts, heads, tokens, width) of (texts * tokens, heads, width), as a view."""
    return states.unflatten(0, (texts, -1)).transpose(1, 2)


def _attend(queries: Any, keys: Any, values: Any, positions: Positions) -> Any:
    """Return (texts, heads, queries, width) of texts of equal length."""
    from torch.nn.functional import scaled_dot_product_attention

    window = positions.window
    if window is not None and keys.shape[2] > window + 1:
        return _attend_in_window(queries, keys, values, window, positions.scale)
    bias = None if positions.bias is None else positions.bias(queries, keys)
    return scaled_dot_product_attention(
        queries, keys, values, attn_mask=bias, scale=positions.scale
    )


def _attend_in_window(
    queries: Any, keys: Any, values: Any, window: int, scale: float | None
) -> Any:
    """Attend to keys up to `window` tokens away, block by block of the queries."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    length, block = keys.shape[2], 2 * window
    results = []
    for start in range(0, length, block):
        end = min(length, start + block)
        first, last = max(0, start - window), min(length, end + window)
        after = distances(end - start, last - first, queries.device) + (first - start)
        results.append(
            scaled_dot_product_attention(
                queries[:, :, start:end],
                keys[:, :, first:last],
                values[:, :, first:last],
                attn_mask=after.abs() <= window,
                scale=scale,
            )
        )
    return torch.cat(results, dim=2)


class VarlenAttention:
    """Attend in one CUDA kernel over the whole pack: float16 or bfloat16, capability 8.0 up."""

    def __init__(self, kernel: Callable[..., Any] | None = None) -> None:
        """Take a `kernel` with the signature of torch's varlen_attn, which is the default."""
        if kernel is None:
            from torch.nn.attention.varlen import varlen_attn

            kernel = varlen_attn
        self.kernel = kernel

    def __call__(
        self,
        queries: Any,
        keys: Any,
        values: Any,
        pack: Pack,
        positions: Positions,
        *,
        first_only: bool,
    ) -> Any:
        """Return (queries, heads, width)."""
        assert positions.bias is None, "the kernel adds nothing to the scores"
        settings: dict[str, Any] = {}
        if positions.scale is not None:
            settings["scale"] = positions.scale
        query_starts, longest_query = pack.starts, pack.longest
        if first_only:
            # The kernel lays a window along the end of the keys, not along their beginning.
            query_starts, longest_query = pack.query_starts, 1
        elif positions.window is not None:
            settings["window_size"] = (positions.window, positions.window)
        return self.kernel(
            queries,
            keys,
            values,
            query_starts,
            pack.starts,
            longest_query,
            pack.longest,
            **settings,
        )


def has_varlen() -> bool:
    """Tell whether this torch has attention over packed sequences, with the arguments used here."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    parameters = list(inspect.signature(varlen_attn).parameters)
    wanted = ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    return parameters[:7] == wanted and {"scale", "window_size"} <= set(parameters)
