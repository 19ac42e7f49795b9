"""The encoder of the model that comes with batchsent, cut out of a larger vocabulary."""

from collections import Counter
from pathlib import Path
from typing import Any

SEED = 42


def cut_out(encoder: str, texts: list[str], output: Path, layers: int, pieces_kept: int) -> None:
    """Write a DistilBERT of the encoder's first layers and the commonest word pieces of the texts."""
    import torch
    import transformers

    torch.manual_seed(SEED)
    whole = transformers.AutoModel.from_pretrained(encoder, add_pooling_layer=False).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    pieces = needed_pieces(tokenizer, texts, pieces_kept)
    old = whole.state_dict()
    new = {
        "embeddings.word_embeddings.weight": old["embeddings.word_embeddings.weight"][
            tokenizer.convert_tokens_to_ids(pieces)
        ],
        # DistilBERT knows no second sentence: what marks the first is added to every place.
        "embeddings.position_embeddings.weight": old["embeddings.position_embeddings.weight"]
        + old["embeddings.token_type_embeddings.weight"][0],
        "embeddings.LayerNorm.weight": old["embeddings.LayerNorm.weight"],
        "embeddings.LayerNorm.bias": old["embeddings.LayerNorm.bias"],
    }
    names = {
        "attention.self.query": "attention.q_lin",
        "attention.self.key": "attention.k_lin",
        "attention.self.value": "attention.v_lin",
        "attention.output.dense": "attention.out_lin",
        "attention.output.LayerNorm": "sa_layer_norm",
        "intermediate.dense": "ffn.lin1",
        "output.dense": "ffn.lin2",
        "output.LayerNorm": "output_layer_norm",
    }
    for layer in range(layers):
        for theirs, ours in names.items():
            for part in ("weight", "bias"):
                new[f"transformer.layer.{layer}.{ours}.{part}"] = old[
                    f"encoder.layer.{layer}.{theirs}.{part}"
                ]
    config = transformers.DistilBertConfig(
        vocab_size=len(pieces),
        max_position_embeddings=whole.config.max_position_embeddings,
        dim=whole.config.hidden_size,
        hidden_dim=whole.config.intermediate_size,
        n_layers=layers,
        n_heads=whole.config.num_attention_heads,
        # Soft targets of 75,000 reviews leave little to learn by heart; dropout only costs time.
        dropout=0.0,
        attention_dropout=0.0,
        seq_classif_dropout=0.1,
    )
    compact = transformers.DistilBertModel(config)
    compact.load_state_dict(new)
    compact.save_pretrained(output)
    transformers.BertTokenizerFast(
        vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=True, model_max_length=512
    ).save_pretrained(output)


def needed_pieces(tokenizer: Any, texts: list[str], count: int) -> list[str]:
    """Return special tokens, the single characters that occur, and the commonest other pieces, in
    their old order.
    """
    counts: Counter[int] = Counter()
    for first in range(0, len(texts), 1_000):
        for encoding in tokenizer.backend_tokenizer.encode_batch_fast(texts[first : first + 1_000]):
            counts.update(encoding.ids)
    names = {number: piece for piece, number in tokenizer.get_vocab().items()}
    special = list(tokenizer.all_special_ids)
    # Without its characters a word whose pieces were cut would be unknown.
    characters = [
        n for n, piece in names.items() if len(piece.removeprefix("##")) == 1 and piece.isascii()
    ]
    kept = dict.fromkeys([*special, *characters, *(n for n, _ in counts.most_common())])
    return [names[n] for n in sorted(list(kept)[:count])]
