"""The label names of a model, from its configuration."""

from collections import Counter
from pathlib import Path
from typing import Any

from batchsent.chunk import is_blank
from batchsent.errors import ModelError
from batchsent.text import printable


def read_labels(folder: Path, config: dict[str, Any]) -> tuple[str, ...]:
    """Return the label names in the order of the model's outputs."""
    where = printable(folder / "config.json")
    id2label = config.get("id2label")
    count = config.get("num_labels", 2)
    if id2label is None and isinstance(count, int) and 0 <= count <= 100_000:
        id2label = {i: f"LABEL_{i}" for i in range(count)}
    try:
        by_index = {int(index): _label_name(name) for index, name in id2label.items()}  # type: ignore[union-attr]
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"{where}: id2label is not a table of label names") from error
    if sorted(by_index) != list(range(len(by_index))):
        raise ModelError(f"{where}: id2label does not number its labels 0, 1, 2, ...")
    labels = tuple(by_index[i] for i in range(len(by_index)))
    _check_names(where, labels)
    if len(labels) < 2 or config.get("problem_type") == "regression":
        raise ModelError(
            f"{printable(folder)} predicts {len(labels)} value{'s' * (len(labels) != 1)}, not one "
            "of several labels",
            hint="batchsent requires a classifier with two labels or more",
        )
    if config.get("problem_type") == "multi_label_classification":
        raise ModelError(
            f"{printable(folder)} gives any number of labels to a text (multi-label), batchsent "
            "exactly one",
            hint="give a model trained with problem_type single_label_classification",
        )
    doubles = sorted(name for name, outputs in Counter(labels).items() if outputs > 1)
    if doubles:
        raise ModelError(
            f"{where}: the label name {printable(repr(doubles[0]))} is that of several outputs",
            hint="give each label in id2label another name",
        )
    return labels


def _check_names(where: str, labels: tuple[str, ...]) -> None:
    """Refuse label names that a person cannot read."""
    for name in labels:
        what = None
        if is_blank(name):
            what = "blank"
        elif not name.isprintable():
            what = "not printable"
        if what is not None:
            raise ModelError(
                f"{where}: the label name {printable(repr(name[:40]))} in id2label is {what}",
                hint="give every label a name of printable characters",
            )


def _label_name(value: Any) -> str:
    if not isinstance(value, str | int):
        raise TypeError(f"a label is {value!r}")
    return str(value)
