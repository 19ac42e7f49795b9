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


def make_model(
    folder: Path,
    kind: str = "distilbert",
    *,
    labels: tuple[str, ...] = ("NEGATIVE", "POSITIVE"),
    **config,
):
    """Write a seeded random model and its tokenizer to `folder` and return the folder.

    `kind` is distilbert, bert or roberta. Weights are scaled up so that different texts get clearly
    different scores.
    """
    import torch
    import transformers

    folder = Path(folder)
    id2label = dict(enumerate(labels))
    shared = {
        "id2label": id2label,
        "label2id": {name: i for i, name in id2label.items()},
        "vocab_size": None,
        "max_position_embeddings": 64,
    }
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    if kind == "roberta":
        tokenizer = roberta_tokenizer()
        shared |= {
            "max_position_embeddings": 66,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
        }
    else:
        tokenizer = bert_tokenizer()
    shared["vocab_size"] = len(tokenizer)
    if kind == "distilbert":
        settings = transformers.DistilBertConfig(
            **{**shared, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64} | config
        )
        model_class = transformers.DistilBertForSequenceClassification
    elif kind == "bert":
        settings = transformers.BertConfig(**{**shared, **sizes} | config)
        model_class = transformers.BertForSequenceClassification
    else:
        settings = transformers.RobertaConfig(**{**shared, **sizes} | config)
        model_class = transformers.RobertaForSequenceClassification
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(7)
    model = model_class(settings).eval()
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
