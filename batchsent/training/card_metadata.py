"""The metadata in front of a model card, as the Hub reads it, and what the base model's gives."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchsent.errors import ModelError
from batchsent.model.files import MAX_SETTINGS_BYTES, read_file
from batchsent.text import printable

CARD = "README.md"
# The Hub's word for a licence that is not named.
UNKNOWN = "unknown"
# The figures that go to the Hub: key in metrics.json's evaluation, the Hub's name for it, ours.
FIGURES = (
    ("precision", "precision", "macro precision"),
    ("recall", "recall", "macro recall"),
    ("f1", "f1", "macro F1"),
)


@dataclass(frozen=True)
class BaseCard:
    """What the card of a base model says that holds for what is made from it."""

    language: str | list[str] | None = None
    license: str | None = None
    base_model: str | list[str] | None = None  # Hub ids


def read_base_card(folder: Path) -> BaseCard:
    """Read the metadata of a base model's card; what is absent or damaged is None."""
    import huggingface_hub
    import yaml  # type: ignore[import-untyped]  # it ships no types

    try:
        text = read_file(folder / CARD, MAX_SETTINGS_BYTES).decode("utf-8", "replace")
        data = huggingface_hub.ModelCard(text, ignore_metadata_errors=True).data
    except (FileNotFoundError, ModelError, ValueError, TypeError, yaml.YAMLError):
        return BaseCard()
    found: dict[str, Any] = {}
    for name in ("language", "license", "base_model"):
        value = getattr(data, name, None)
        if isinstance(value, str) or (name != "license" and is_words(value)):
            found[name] = value
    return BaseCard(**found)


def is_words(value: Any) -> bool:
    """Tell whether a value is a list of words."""
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def metadata(document: dict[str, Any], name: str, base_card: BaseCard) -> str:
    """Return the card's metadata as YAML: base model, data, language, licence and figures.

    `document` is metrics.json, `name` what the model is called.
    """
    import huggingface_hub

    base, data = document["base_model"], document["data"]
    sides = (data["train"], data["eval"])
    datasets = sorted({side["name"] for side in sides if side["kind"] == "dataset"})
    card = huggingface_hub.ModelCardData(
        model_name=printable(name),
        language=base_card.language,
        license=base_card.license or UNKNOWN,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["sentiment", "batchsent"],
        metrics=["accuracy", "precision", "recall", "f1"],
        base_model=base["name"] if base["kind"] == "hub" else base_card.base_model,
        datasets=datasets or None,
        eval_results=list(results(document)),
    )
    return str(card.to_yaml())


def results(document: dict[str, Any]) -> Iterator[Any]:
    """Yield the figures for the Hub's model-index, those of rows that the base model has not seen.

    Where it has seen them all, the figures are named after that.
    """
    from huggingface_hub import EvalResult

    side, seen = document["data"]["eval"], document["seen"]
    evaluation = seen["evaluation_of_others"] or document["evaluation"]
    remark = ""
    if seen["rows"]:
        remark = " on rows that the base model has not seen"
        if seen["evaluation_of_others"] is None:
            remark = " on rows that the base model has seen"
    figures = [("accuracy", "accuracy", evaluation["accuracy"])]
    for key, hub_name, ours in FIGURES:
        figures.append((hub_name, ours, evaluation["macro"][key]))
    for hub_name, ours, value in figures:
        yield EvalResult(
            task_type="text-classification",
            # The Hub wants the id of a data set here; a file has none, so its format stands for it.
            dataset_type=side["name"] if side["kind"] == "dataset" else file_type(side["name"]),
            dataset_name=printable(side["name"]),
            dataset_config=side.get("config"),
            dataset_split=side.get("split"),
            dataset_revision=side.get("revision"),
            metric_type=hub_name,
            metric_name=ours + remark,
            metric_value=round(value, 4),
        )


def file_type(name: str) -> str:
    """Return what kind of file the evaluation rows are of, such as csv."""
    return printable(Path(name).suffix.lstrip(".").lower() or "file")
