"""The labels of scored files in the order of the model, as far as it is known."""

from collections.abc import Sequence
from contextlib import closing

from batchsent.errors import InputError, UsageError
from batchsent.evaluation import summary
from batchsent.formats.reading import ReadOptions
from batchsent.formats.scored_rows import ScoredFile
from batchsent.text import printable


def labels_of(
    paths: Sequence[str], options: ReadOptions, prefix: str, named: str | None
) -> tuple[str, ...]:
    """Return the labels of scored files of one kind of model.

    They are those `named` by --labels; else those of a summary beside one of the files, or of its
    prob_ columns, where these have every label that the files have; else the labels found, sorted.
    The files are read for that. Raises InputError where only one label is found, UsageError for
    names that cannot be labels.
    """
    if named is not None:
        labels = tuple(label.strip() for label in named.split(","))
        if not all(labels) or len(set(labels)) < len(labels):
            raise UsageError(
                "--labels names a label twice, or an empty one",
                hint="such as --labels NEGATIVE,POSITIVE",
            )
        return labels
    found: set[str] = set()
    known: list[tuple[str, ...]] = []
    for path in paths:
        with closing(ScoredFile(path, options, prefix, {})) as scored:
            for _ in scored.rows():
                pass
            found |= scored.labels
            known += [_of_summary(path), _of_columns(scored.source.columns, prefix)]
    for labels in known:
        if found <= set(labels):
            return labels
    if len(found) == 1:
        raise InputError(
            f"{printable(paths[0])}: {printable(next(iter(found)))} is the only label in it, so "
            "the others cannot be told",
            hint="name all labels of the model with --labels",
        )
    return tuple(sorted(found))


def _of_summary(path: str) -> tuple[str, ...]:
    """Return the labels that the summary beside a file names, none where there is no summary."""
    try:
        labels = summary.read(f"{path}.summary.json")["model"].get("labels")
    except InputError:
        return ()
    usable = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    return tuple(labels) if usable and len(set(labels)) == len(labels) else ()


def _of_columns(columns: Sequence[str], prefix: str) -> tuple[str, ...]:
    """Return the labels that have a prob_ column, in the model's order."""
    start = f"{prefix}prob_"
    return tuple(column.removeprefix(start) for column in columns if column.startswith(start))
