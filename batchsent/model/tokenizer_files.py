"""The tokenizer files of a model folder: which they are, and the largest id in them."""

from pathlib import Path

from batchsent.errors import ModelError
from batchsent.model.files import MAX_TEXT_BYTES, read_file, read_json
from batchsent.text import printable

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "bpe.codes",
)
# A tokenizer can be built from any one of these.
VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)


def find_tokenizer_files(folder: Path) -> tuple[Path, ...]:
    """Return the tokenizer files of a folder. Raises ModelError where no tokenizer can be built."""
    files = tuple(folder / name for name in TOKENIZER_FILES if (folder / name).exists())
    if not any(path.name in VOCABULARIES for path in files):
        raise ModelError(
            f"{printable(folder)} has no tokenizer (tokenizer.json, vocab.txt, ...)",
            hint="save it into the same folder: "
            "AutoTokenizer.from_pretrained(BASE_MODEL).save_pretrained(FOLDER)",
        )
    return files


def largest_id(folder: Path) -> int | None:
    """Return the largest token id in the tokenizer files; None where it is not known."""
    if (folder / "tokenizer.json").exists():
        document = read_json(folder / "tokenizer.json", "the tokenizer", MAX_TEXT_BYTES)
        try:
            vocabulary = document["model"]["vocab"]
            if isinstance(vocabulary, list):  # of Unigram models; the others map token to id
                ids = [len(vocabulary) - 1]
            else:
                ids = [int(i) for i in vocabulary.values()]
            ids += [int(token["id"]) for token in document.get("added_tokens") or []]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"{printable(folder / 'tokenizer.json')} is damaged: not a tokenizer",
                hint="save the tokenizer into the folder again",
            ) from error
        return max(ids, default=-1)
    if (folder / "vocab.txt").exists():
        content = read_file(folder / "vocab.txt", MAX_TEXT_BYTES)
        return content.count(b"\n") - content.endswith(b"\n")
    return None
