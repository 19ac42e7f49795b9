"""The README.md of a model folder, from what metrics.json holds.

Knows nothing of training and reads no file.
"""

import html
import re
from collections.abc import Iterable
from typing import Any

from batchsent.text import printable

# What starts markup within a line of GitHub's Markdown: bare addresses become links there too.
MARKDOWN = re.compile(r"([\\`*_\[\]|~$@:]|(?<=www)\.)", re.IGNORECASE)

# What --long-text reads.
READ = {
    "head": "the first",
    "tail": "the last",
    "head-tail": "a quarter from the start and the rest from the end, in all",
}


def make_card(document: dict[str, Any]) -> str:
    """Return the model card of a fine-tuned model as Markdown with its metadata in front.

    Names that come from users or data (labels, files, columns) are inert in it: no HTML, links or
    markup.
    """
    import huggingface_hub

    train, evaluated = document["data"]["train"], document["data"]["eval"]
    metrics, base = document["metrics"], document["base_model"]
    data = huggingface_hub.ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["sentiment", "batchsent"],
        metrics=["accuracy", "precision", "recall", "f1"],
        base_model=base["name"] if base["kind"] == "hub" else None,
        datasets=sorted({side["name"] for side in (train, evaluated) if side["kind"] == "dataset"})
        or None,
    )
    sections = [
        f"---\n{data.to_yaml()}\n---\n",
        f"# {'Sentiment' if is_sentiment(document['labels']) else 'Text'} classifier",
        f"Labels: {', '.join(inert(name) for name in document['labels'])}. Made with batchsent"
        f" {inert(document['versions']['batchsent'])} on {document['created'][:10]}.",
        "## Use",
        "    batchsent batch reviews.csv -o scored.csv --model FOLDER",
        "or with transformers:",
        '    pipeline("text-classification", model="FOLDER")(["what a lovely film"])',
        "## Base model",
        base_sentence(base),
        "## Data",
        table(
            ("", "training", "evaluation"),
            [
                ("source", inert(train["name"]), inert(evaluated["name"])),
                ("split", inert(train.get("split") or "whole"), inert(split_of(evaluated))),
                ("rows", f"{train['rows']:,}", f"{evaluated['rows']:,}"),
                *(
                    (f"rows {inert(n)}", f"{c:,}", f"{evaluated['labels'][n]:,}")
                    for n, c in train["labels"].items()
                ),
                ("rows left out", left_out(train), left_out(evaluated)),
                ("commit or SHA-256 of the source", inert(source(train)), inert(source(evaluated))),
                ("SHA-256 of the rows used", train["rows_sha256"], evaluated["rows_sha256"]),
            ],
        ),
        "Texts were read as they are, HTML such as `<br />` included, and scoring does the same. "
        "No evaluation text is among the training texts.",
        *choosing(document),
        "## Evaluation",
        table(
            ("metric", "value"),
            [
                (inert(name), f"{value:.4f}")
                for name, value in metrics.items()
                if isinstance(value, float)
            ],
        ),
        table(
            ("class", "precision", "recall", "F1", "rows"),
            [
                (
                    inert(name),
                    *(f"{row[key]:.4f}" for key in ("precision", "recall", "f1")),
                    f"{row['support']:.0f}",
                )
                for name, row in metrics["per_class"].items()
            ],
        ),
        "Always saying the most frequent class would be right in "
        f"{metrics['majority_baseline']:.4f} of the rows.",
        "## Training",
        table(
            ("setting", "value"),
            [
                (inert(name), inert(value))
                for name, value in (document["hyperparameters"] | document["training"]).items()
                if value is not None
            ],
        ),
        "Versions: "
        + ", ".join(f"{inert(name)} {inert(v)}" for name, v in document["versions"].items())
        + ".",
        "## Limits",
        limits(document),
    ]
    if document["torch_save"]:
        sections += [
            "## State dict",
            "The same weights were also saved with torch.save. They load without running anything "
            "of the file:",
            "    from transformers import AutoModelForSequenceClassification, AutoConfig\n"
            '    config = AutoConfig.from_pretrained("FOLDER")\n'
            "    model = AutoModelForSequenceClassification.from_config(config)\n"
            '    model.load_state_dict(torch.load("FILE", weights_only=True))',
        ]
    # ModelCard reads its own metadata back, which proves that the block in front is sound YAML.
    return str(huggingface_hub.ModelCard("\n\n".join(sections) + "\n"))


def choosing(document: dict[str, Any]) -> list[str]:
    """Say what was chosen on rows held out of the training rows."""
    found = document["data"].get("validation")
    if found is None:
        return []
    chosen = (
        [f"learning rate, epochs and batch size by {len(document['trials']['runs'])} trials"]
        if document["trials"]
        else []
    )
    chosen += (
        ["the checkpoint with the smallest loss"]
        if document["hyperparameters"]["early_stopping"]
        else []
    )
    # A search gives its rows back for the training that follows; a checkpoint is chosen during it.
    after = "" if document["hyperparameters"]["early_stopping"] else ", and trained on in the end"
    return [
        f"{found['rows']:,} rows ({found['held_out']:.0%} of the training data) were held out to "
        f"choose {' and '.join(chosen)}{after}; the figures below are of other rows."
    ]


def limits(document: dict[str, Any]) -> str:
    """Return what the model is not good for, as a list."""
    length = document["hyperparameters"]["max_length"]
    cut, rows = document["training"]["train_rows_cut"], document["data"]["train"]["rows"]
    part = READ[document["hyperparameters"].get("long_text", "head")]
    seen = "" if cut is None else f" ({cut:,} of {rows:,} training texts were longer)"
    return "\n".join(
        [
            f"- It reads {part} {length:,} tokens of a text{seen}; the rest has no say.",
            "- The figures above hold for texts like the evaluation data. Other products, "
            "languages, lengths or times can be worse: measure on some labelled texts of your "
            "own.",
            "- Every text gets one of its labels, also mixed or unrelated ones; a low score is "
            "the only sign of it.",
            "- Irony, quotations and names can mislead it, and it repeats the biases of its base "
            "model and data.",
            "- It judges texts. Do not decide about people with it.",
        ]
    )


def base_sentence(base: dict[str, Any]) -> str:
    """Say what the model was made from."""
    if base["kind"] == "scratch":
        return (
            "None: trained from scratch on the training data alone (a compact DistilBERT with its "
            "own WordPiece vocabulary). It knows no more of the language than those texts."
        )
    weights = base["weights_sha256"]
    if base["kind"] == "embedded":
        return f"The model that comes with batchsent; SHA-256 of its weights: {weights}."
    commit = f", commit {inert(base['revision'])}" if base["revision"] else ""
    where = "from the Hugging Face Hub" if base["kind"] == "hub" else "a local folder"
    return f"{inert(base['name'])} ({where}{commit}); SHA-256 of its weights: {weights}."


def left_out(side: dict[str, Any]) -> str:
    """Say which rows of a side were not used."""
    reasons = [
        f"{count:,} {reason.replace('_', ' ')}"
        for reason, count in side["left_out"].items()
        if count
    ]
    return ", ".join(reasons) or "none"


def split_of(side: dict[str, Any]) -> str:
    """Say which part of its source the evaluation is."""
    if side.get("held_out"):
        return f"{side['held_out']:.0%} held out of the training data"
    return side.get("split") or "whole"


def source(side: dict[str, Any]) -> str:
    """Return the commit or the hash that identifies the source of a side."""
    return str(side.get("sha256") or side.get("revision") or "unknown")


def is_sentiment(labels: Iterable[str]) -> bool:
    """Tell whether the classes are those of sentiment."""
    return {name.casefold() for name in labels} <= {"negative", "neutral", "positive"}


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def inert(value: object) -> str:
    """Return a value as plain Markdown text: no HTML, markup, link or line break."""
    return MARKDOWN.sub(r"\\\1", html.escape(printable(value), quote=False))
