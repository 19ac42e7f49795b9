"""Tiny model folders made on the spot, with real tokenizers and real architectures."""

import hashlib
import string
from pathlib import Path

WORDS = [
    "a",
    "an",
    "the",
    "and",
    "or",
    "but",
    "not",
    "no",
    "this",
    "that",
    "movie",
    "film",
    "book",
    "it",
    "was",
    "is",
    "i",
    "we",
    "they",
    "great",
    "good",
    "bad",
    "awful",
    "boring",
    "lovely",
    "terrible",
    "wonderful",
    "hate",
    "love",
    "loved",
    "hated",
    "best",
    "worst",
    "ever",
    "acting",
    "plot",
    "ending",
    "story",
    "music",
    "cast",
    "of",
    "in",
    "on",
    "at",
    "to",
    "for",
    "with",
    "one",
    "two",
    "ten",
    "very",
    "too",
    "really",
    "never",
    "always",
    "again",
    "again",
    "##ing",
    "##ed",
    "##s",
    "##er",
    "##ly",
    "br",
]


SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
# Positions that count from the padding id on.
FROM_PADDING = {
    "max_position_embeddings": 66,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
# transformers' name of each kind of model, and its sizes and settings.
ARCHITECTURES = {
    "distilbert": ("DistilBert", {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}),
    "bert": ("Bert", SIZES),
    "roberta": ("Roberta", SIZES | FROM_PADDING),
    "electra": ("Electra", SIZES | {"embedding_size": 16}),
    "albert": (
        "Albert",
        SIZES | {"embedding_size": 16, "num_hidden_layers": 4, "num_hidden_groups": 2},
    ),
    "roformer": ("RoFormer", SIZES),  # does not run packed
    "mpnet": ("MPNet", SIZES | FROM_PADDING),
    "deberta": (
        "DebertaV2",
        SIZES
        | {
            "relative_attention": True,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": "p2c|c2p",
            "position_biased_input": False,
        },
    ),
    "modernbert": (
        "ModernBert",
        SIZES
        | {
            "num_hidden_layers": 3,
            "global_attn_every_n_layers": 2,
            "local_attention": 16,
            "pad_token_id": 0,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "cls_token_id": 2,
            "sep_token_id": 3,
        },
    ),
}


def make_model(
    folder: Path,
    kind: str = "distilbert",
    *,
    labels: tuple[str, ...] = ("NEGATIVE", "POSITIVE"),
    **config,
):
    """Write a seeded random model and its tokenizer to `folder` and return the folder.

    `kind` is one of ARCHITECTURES. Weights are scaled up so that different texts get clearly
    different scores.
    """
    import torch
    import transformers

    folder = Path(folder)
    name, own = ARCHITECTURES[kind]
    tokenizer = roberta_tokenizer() if own.get("pad_token_id") == 1 else bert_tokenizer()
    id2label = dict(enumerate(labels))
    settings = {
        "id2label": id2label,
        "label2id": {name: i for i, name in id2label.items()},
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 64,
        **own,
        **config,
    }
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(7)
    configuration = getattr(transformers, f"{name}Config")(**settings)
    model = getattr(transformers, f"{name}ForSequenceClassification")(configuration).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and "embeddings" not in name:
                # at the usual 0.02 every text would get the same score to four digits
                weight.mul_(12)
    torch.random.set_rng_state(generator_state)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def bert_tokenizer():
    """A BERT WordPiece tokenizer over WORDS and single characters, at most 64 tokens."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import BertTokenizerFast

    letters = string.ascii_lowercase + string.digits
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.punctuation, *letters]
    vocab += [f"##{c}" for c in letters] + WORDS
    ids = {token: i for i, token in enumerate(dict.fromkeys(vocab))}
    backend = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return BertTokenizerFast(tokenizer_object=backend, do_lower_case=True, model_max_length=64)


def roberta_tokenizer():
    """A byte-level BPE tokenizer trained on WORDS, at most 64 tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import RobertaTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return RobertaTokenizerFast(tokenizer_object=backend, model_max_length=64)


def change_weights(folder: Path, name: str, change):
    """Call `change` with one tensor of a model folder and write the folder's weights again."""
    from safetensors.torch import load_file, save_file

    path = Path(folder) / "model.safetensors"
    weights = load_file(path)
    change(weights[name])
    save_file(weights, path, metadata={"format": "pt"})


def weights(folder):
    """Return a hash of a model's weights: pytest would take minutes to show how their bytes differ."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
