"""A small model of no base: a WordPiece vocabulary and an untrained compact DistilBERT.

For where no base model can be had. It learns from the given reviews alone, so it is
far from a pretrained encoder.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = 8_000
# Rarer characters (other scripts, emoji of one review) become [UNK] rather than crowd words out of
# the vocabulary.
CHARACTERS = 1_000
POSITIONS = 512


def train_tokenizer(texts: Sequence[str]) -> Any:
    """Return a lower-casing WordPiece tokenizer whose vocabulary was learned from the texts.

    The same texts give the same vocabulary, ids included.
    """
    import tokenizers
    import transformers

    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))  # noqa: S106 (no password)
    # Kept in a variable of its own: asking the tokenizer for it while it trains waits for ever.
    normalizer = backend.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    common = sorted(counts, key=lambda c: (-counts[c], c))
    characters = sorted(c for c in common[:CHARACTERS] if not c.isspace())
    # The trainer numbers characters in the order of a randomly seeded hash table and breaks ties
    # between merges by number: two processes learn two vocabularies. Characters given as special
    # tokens are numbered as given.
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*SPECIAL, *characters, *(f"##{c}" for c in characters)],
        show_progress=False,
    )
    rare = dict.fromkeys(map(ord, common[CHARACTERS:]), " ")
    backend.train_from_iterator(
        (normalizer.normalize_str(text).translate(rare) for text in texts), trainer
    )
    vocabulary = backend.get_vocab()
    # A fresh tokenizer: in the trained one every character is still a special token, split off
    # wherever it stands.
    return transformers.BertTokenizerFast(
        vocab={token: i for i, token in enumerate(sorted(vocabulary, key=vocabulary.__getitem__))},
        do_lower_case=True,
        model_max_length=POSITIONS,
    )


def make_classifier(vocabulary: int, names: Sequence[str]) -> Any:
    """Return an untrained DistilBERT classifier with 2 layers of width 128.

    Its weights come from torch's current random state.
    """
    import transformers

    config = transformers.DistilBertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=POSITIONS,
        dim=128,
        hidden_dim=256,
        n_layers=2,
        n_heads=4,
        # The usual 0.02 is made for 768; at this width one training in twelve never left the loss
        # of a coin toss.
        initializer_range=0.05,
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
        attn_implementation="sdpa",
    )
    return transformers.DistilBertForSequenceClassification(config)
