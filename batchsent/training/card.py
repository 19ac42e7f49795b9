"""The README.md of a model folder, from what metrics.json holds."""

import html
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from batchsent.pages.training import KEPT_BASE
from batchsent.text import printable
from batchsent.training.card_metadata import BaseCard, metadata

# What starts markup within a line of GitHub's Markdown: bare addresses become links there too.
MARKDOWN = re.compile(r"([\\`*_\[\]|~$@:]|(?<=www)\.)", re.IGNORECASE)

# What --long-text reads.
READ = {
    "head": "the first",
    "tail": "the last",
    "head-tail": "a quarter from the start and the rest from the end, in all",
}


def make_card(document: dict[str, Any], name: str, base_card: BaseCard) -> str:
    """Return the model card of a fine-tuned model as Markdown with its metadata in front.

    `document` is metrics.json; `name` is what the model is called: its Hub id or its folder's name.
    Names that come from users or data (labels, files, columns) are inert in it: no HTML, links or
    markup.
    """
    import huggingface_hub

    sections = [
        f"---\n{metadata(document, name, base_card)}\n---\n",
        *heading(document),
        *use(name),
        "## Base model",
        base_sentence(document["base_model"]),
        *pretraining(document),
        *data(document),
        *evaluation(document),
        *comparison(document),
        *training(document),
        "## Limits",
        limits(document),
        "## Licence",
        licence(base_card),
    ]
    if document["torch_save"]:
        sections += state_dict(name, document["options"]["torch_save"])
    # ModelCard reads its own metadata back, which proves that the block in front is sound YAML.
    return str(huggingface_hub.ModelCard("\n\n".join(sections) + "\n"))


def heading(document: dict[str, Any]) -> list[str]:
    """Say what kind of model it is, which labels it gives, and where its weights are the base's."""
    kept = []
    if document["training"]["kept_base"]:
        kept = [KEPT_BASE.format(rows=document["data"]["train"]["rows"])]
    kind = "Sentiment" if is_sentiment(document["labels"]) else "Text"
    return [
        f"# {kind} classifier",
        f"Labels: {', '.join(map(inert, document['labels']))}. Made with batchsent"
        f" {inert(document['versions']['batchsent'])} on {document['created'][:10]}.",
        *kept,
    ]


def use(name: str) -> list[str]:
    """Show the two ways to run it."""
    return [
        "## Use",
        f"    batchsent batch reviews.csv -o scored.csv --model {shlex.quote(printable(name))}",
        "or with transformers:",
        f'    pipeline("text-classification", model={quoted(name)})(["what a lovely film"])',
    ]


def pretraining(document: dict[str, Any]) -> list[str]:
    """Say what unlabelled texts the encoder learned from first, and what came of it."""
    found = document["pretraining"]
    if found is None:
        return []
    kept = ""
    if document["training"]["kept_base"]:
        kept = " The base model's weights were kept in the end: this model has nothing of it."
    head = " The head for that was new." if found["new_head"] else ""
    return [
        "## Pre-training",
        f"Before the labels the encoder learned to guess masked tokens of {found['rows']:,} "
        f"unlabelled texts of {inert(found['name'])} ({found['steps']:,} steps).{head} On "
        f"{found['held_out']:,} texts held out the loss on masked tokens was "
        f"{found['loss_before']:.4f} before and {found['loss_after']:.4f} after (perplexity "
        f"{found['perplexity_before']:,.1f} and {found['perplexity_after']:,.1f}).{kept}",
        f"Left out: {left_out(found)}. SHA-256 of the texts: {found['rows_sha256']}. They had no "
        "labels, so they are not among the hashes of texts that the model has learned.",
    ]


def data(document: dict[str, Any]) -> list[str]:
    """Say what it was trained and measured on, and whether these overlap."""
    train, evaluated = document["data"]["train"], document["data"]["eval"]
    by_class = [
        (f"rows {inert(label)}", f"{rows:,}", f"{evaluated['labels'][label]:,}")
        for label, rows in train["labels"].items()
    ]
    crops = [("crops among them", f"{train['crops']:,}", "none")] if "crops" in train else []
    return [
        "## Data",
        table(
            ("", "training", "evaluation"),
            [
                ("source", inert(train["name"]), inert(evaluated["name"])),
                ("split", inert(train.get("split") or "whole"), inert(split_of(evaluated))),
                ("rows", f"{train['rows']:,}", f"{evaluated['rows']:,}"),
                *by_class,
                *crops,
                ("rows left out", left_out(train), left_out(evaluated)),
                ("commit or SHA-256 of the source", inert(source(train)), inert(source(evaluated))),
                ("SHA-256 of the rows used", train["rows_sha256"], evaluated["rows_sha256"]),
            ],
        ),
        "Texts were read as they are, HTML such as `<br />` included, and scoring does the same.",
        f"No evaluation text is among the training texts. {describe_overlap(document)}".strip(),
        *choosing(document),
    ]


def evaluation(document: dict[str, Any]) -> list[str]:
    """Give the figures, with intervals, and the confusion matrix."""
    metrics, judged = document["metrics"], document["evaluation"]
    figures = []
    for name, value in metrics.items():
        if isinstance(value, float):
            interval = bounds(judged["accuracy_interval"]) if name == "accuracy" else ""
            figures.append((inert(name), f"{value:.4f}", interval))
    found = [
        "## Evaluation",
        table(("metric", "value", "95 % interval"), figures),
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
    ]
    if judged["confusion"]["counts"] is not None:
        labels = [inert(name) for name in document["labels"]]
        rows = []
        for name, counts in zip(labels, judged["confusion"]["counts"], strict=True):
            rows.append((name, *(f"{count:,}" for count in counts)))
        found += [
            "Labels (down) and what the model said (across):",
            table(("", *labels), rows),
        ]
    return [
        *found,
        "Always saying the most frequent class would be right in "
        f"{metrics['majority_baseline']:.4f} of the rows.",
    ]


def comparison(document: dict[str, Any]) -> list[str]:
    """Compare it with its base model."""
    found = document["comparison"]
    if found["why_not"] is not None:
        return [f"There is no comparison with the base model: {inert(found['why_not'])}."]
    base, tuned = found["base"], found["tuned"]
    figures = [("accuracy", base["accuracy"], tuned["accuracy"])]
    for name, words in (("precision", "precision"), ("recall", "recall"), ("f1", "F1")):
        figures.append((f"macro {words}", base["macro"][name], tuned["macro"][name]))
    rows = "the same rows"
    if document["seen"]["rows"]:
        rows = f"the {found['rows']:,} rows that the base model has not seen"
    return [
        "## Beside its base model",
        table(
            (f"on {rows}", "base model", "this model"),
            [(name, f"{before:.4f}", f"{after:.4f}") for name, before, after in figures],
        ),
        f"The accuracy differs by {found['difference']:+.4f} "
        f"(95 %: {bounds(found['difference_interval'], signed=True)}).",
    ]


def training(document: dict[str, Any]) -> list[str]:
    """Give every setting, what came of it, and the versions."""
    settings = document["hyperparameters"] | document["training"]
    versions = [f"{inert(name)} {inert(found)}" for name, found in document["versions"].items()]
    return [
        "## Training",
        table(
            ("setting", "value"),
            [(inert(name), inert(value)) for name, value in settings.items() if value is not None],
        ),
        f"Versions: {', '.join(versions)}.",
    ]


def state_dict(name: str, file: str) -> list[str]:
    """Say how to load the weights that torch.save wrote."""
    return [
        "## State dict",
        "The same weights were also saved with torch.save. They load without running anything "
        "of the file:",
        "    from transformers import AutoModelForSequenceClassification, AutoConfig\n"
        f"    config = AutoConfig.from_pretrained({quoted(name)})\n"
        "    model = AutoModelForSequenceClassification.from_config(config)\n"
        f"    model.load_state_dict(torch.load({quoted(file)}, weights_only=True))",
    ]


def describe_overlap(document: dict[str, Any]) -> str:
    """Say how many evaluation texts the base model has seen, as far as that is known."""
    seen, rows = document["seen"], document["data"]["eval"]["rows"]
    if document["base_model"]["kind"] == "scratch":
        return ""
    unknown = "Which texts the base model has learned is not known: some may be among them."
    if not seen["texts"]:
        return unknown
    known = f"the {seen['texts']:,} texts that the base model was fine-tuned on"
    others = ""
    if not seen["complete"]:
        others = " What was learned before that is not known."
    if not seen["rows"]:
        return f"None is among {known} either, by a comparison of hashes.{others}"
    found = (
        f"{seen['rows']:,} of the {rows:,} evaluation texts are among {known} (by a comparison of "
        f"hashes; {seen['rows_by_chance']:.2g} of them are expected by chance), so the figures on "
        "all rows are too good."
    )
    judged = seen["evaluation_of_others"]
    if judged is None:
        return f"{found} There are no other rows to measure on.{others}"
    return (
        f"{found} On the other {judged['rows']:,} rows the accuracy is {judged['accuracy']:.4f} "
        f"(95 %: {bounds(judged['accuracy_interval'])}).{others}"
    )


def licence(base_card: BaseCard) -> str:
    """Say under which licence the model stands, as far as its base model's card tells."""
    if base_card.license is None:
        return (
            "Not stated: no licence of a base model is known. The data, too, may have terms of "
            "their own."
        )
    return (
        f"That of its base model: {inert(base_card.license)}. The data may have terms of their own."
    )


def choosing(document: dict[str, Any]) -> list[str]:
    """Say what was chosen on rows held out of the training rows."""
    found = document["data"].get("validation")
    if found is None:
        return []
    chosen = []
    # A search gives its rows back for the training that follows; a checkpoint is chosen during it.
    after = ", and trained on in the end"
    if document["trials"]:
        trials = len(document["trials"]["runs"])
        chosen.append(f"learning rate, epochs and batch size by {trials} trials")
    if document["hyperparameters"]["early_stopping"]:
        chosen.append("the checkpoint with the smallest loss")
        after = ""
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
    columns = document["data"]["train"]["columns"][:-1]
    joined = []
    if len(columns) > 1:
        names = ", then ".join(map(inert, columns))
        joined = [f"- Its texts were made of several columns: {names}; config.json has the joint."]
    return "\n".join(
        [
            *joined,
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


def bounds(interval: Sequence[float], *, signed: bool = False) -> str:
    """Return an interval in words."""
    sign = "+" if signed else ""
    return f"{interval[0]:{sign}.4f} to {interval[1]:{sign}.4f}"


def quoted(name: str) -> str:
    """Return a name as it stands in a line of Python."""
    return json.dumps(printable(name))


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def inert(value: object) -> str:
    """Return a value as plain Markdown text: no HTML, markup, link or line break."""
    return MARKDOWN.sub(r"\\\1", html.escape(printable(value), quote=False))
