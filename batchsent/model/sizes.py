"""Check the sizes in a configuration against the weights, before a model is built.

A model's layers are made one by one before its weights are read: ten million of them take hours
and all the memory. The header of the weights shows how many there are.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from batchsent.errors import ModelError
from batchsent.text import printable

# The names of the same numbers in different architectures.
LAYERS = (
    *("num_hidden_layers", "n_layers", "n_layer", "num_layers", "encoder_layers"),
    *("num_encoder_layers", "num_hidden_groups"),
)
WIDTHS = ("hidden_size", "dim", "d_model", "n_embd", "emb_dim")
HEADS = ("num_attention_heads", "n_heads", "n_head", "num_heads", "encoder_attention_heads")
SIZES = (
    *("vocab_size", "embedding_size", "intermediate_size", "hidden_dim", "d_ff", "n_inner"),
    *("ffn_dim", "encoder_ffn_dim", "d_inner"),
)
POSITIONS = ("max_position_embeddings", "n_positions")
# These have a number of heads that does not divide the width.
OWN_HEAD_SIZE = {"head_dim", "d_kv", "d_head", "head_ratio", "attention_head_size"}
# Architectures that run the same layer several times.
SHARED_LAYERS = {"albert"}
# Names of other numbers of parts that are built one by one.
COUNTS = re.compile(
    r"(^|_)(layers?|blocks|block_sizes|block_repeats|groups|experts|heads|depths|stages|hops)$"
)
MOST_PARTS = 1_024
# Up to this many layers are built quickly, and transformers then names the missing weights.
FEW_LAYERS = 64
# Positions may have no table in the weights, but a list of numbers: 16 million take 128 MB.
MOST_POSITIONS = 1 << 24
# Tables whose keys are labels and not names of sizes.
NAMES = {"id2label", "label2id"}
HINT = "copy or download the model again"


def check_sizes(path: Path, config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    """Check the sizes of a configuration, read from `path`, against the shapes of the weights.

    Raises ModelError for a size that is not a whole number, less than 1, or more than the weights
    allow, and for a width that is not a multiple of its heads.
    """
    layers = count_layers(shapes)
    largest = 0
    for shape in shapes.values():
        if shape and min(shape) > 0:
            largest = max(largest, *shape)
    for table in _tables(config):
        for name in LAYERS:
            _check_layers(path, table, name, layers)
        for name in (*WIDTHS, *HEADS, *SIZES):
            _check_number(path, table, name, largest or None)
        for name in POSITIONS:
            _check_number(path, table, name, MOST_POSITIONS)
        for name in table:
            if COUNTS.search(name):
                most = MOST_PARTS
                if name.endswith("experts"):  # they may be the rows of one table
                    most = max(MOST_PARTS, largest)
                _check_count(path, name, table[name], most)
        _check_heads(path, table)


def count_layers(names: Iterable[str]) -> int:
    """Return how many layers the names of weights show, such as encoder.layer.0.output.weight.

    Where several things are numbered, the largest count is returned.
    """
    found: dict[str, set[str]] = {}
    for name in names:
        parts = name.split(".")
        for place, part in enumerate(parts):
            if part.isdigit():
                found.setdefault(".".join(parts[:place]), set()).add(part)
    return max(map(len, found.values()), default=0)


def _tables(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a configuration and the ones nested in it, of the parts of a larger model."""
    waiting = [config]
    while waiting:
        table = waiting.pop()
        yield table
        for name, value in table.items():
            if isinstance(value, dict) and name not in NAMES:
                waiting.append(value)


def _check_layers(path: Path, table: dict[str, Any], name: str, shown: int) -> None:
    """Refuse more layers than the weights have, or than MOST_PARTS where they have no numbers."""
    _check_number(path, table, name, None)
    claimed = table.get(name)
    shared = str(table.get("model_type")) in SHARED_LAYERS and name != "num_hidden_groups"
    if claimed is not None and claimed > FEW_LAYERS and 0 < shown < claimed and not shared:
        raise ModelError(
            f"{printable(path.parent)} lacks weights: {path.name} has {claimed:,} layers ({name}), "
            f"the weights have {shown:,}",
            hint=HINT,
        )
    _check_number(path, table, name, MOST_PARTS)


def _check_number(path: Path, table: dict[str, Any], name: str, most: int | None) -> None:
    value = table.get(name)
    if value is None:  # the architecture's default
        return
    where = f"{printable(path)}: {name} is {printable(str(value)[:40])}"
    if not isinstance(value, int) or isinstance(value, bool):
        raise ModelError(f"{where}, not a whole number", hint=HINT)
    if value < 1:
        raise ModelError(f"{where}, less than 1", hint=HINT)
    if most is not None and value > most:
        raise ModelError(f"{where}, more than the weights allow ({most:,})", hint=HINT)


def _check_count(path: Path, name: str, value: Any, most: int) -> None:
    """Refuse a number of parts, or a list of such numbers, that takes too long to build."""
    numbers = value if isinstance(value, list) else [value]
    for number in numbers:
        if isinstance(number, int | float) and not abs(number) <= most:
            found = printable(str(number)[:40])
            raise ModelError(
                f"{printable(path)}: {printable(name)} is {found}, more than {most:,}", hint=HINT
            )


def _check_heads(path: Path, table: dict[str, Any]) -> None:
    width = next((name for name in WIDTHS if table.get(name) is not None), None)
    heads = next((name for name in HEADS if table.get(name) is not None), None)
    if width is None or heads is None or not OWN_HEAD_SIZE.isdisjoint(table):
        return
    if table[width] % table[heads]:
        raise ModelError(
            f"{printable(path)}: {width} is {table[width]:,}, not a multiple of {table[heads]:,} "
            f"heads ({heads})",
            hint=HINT,
        )
