"""Labelled files and data sets of the Hub -> texts and label cells."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.errors import BatchsentError, InputError, UsageError
from batchsent.filenames import expand, is_folder, is_regular
from batchsent.files.hashing import sha256_of
from batchsent.formats import ReadOptions, open_source
from batchsent.formats.catalog import SUFFIXES
from batchsent.formats.reading import find_column, list_columns
from batchsent.formats.scored_columns import BadCell, filled, probabilities
from batchsent.formats.streams import COMPRESSIONS
from batchsent.formats.text_names import LOOKED_AT, find_text_columns, joint_of
from batchsent.model.loading import COMMIT
from batchsent.options import flag_of
from batchsent.text import first_line, printable
from batchsent.text_columns import join_texts
from batchsent.training.options import FinetuneOptions

LABEL_NAMES = ("label", "labels", "sentiment")
PROBABILITY_SLACK = 1e-3  # float16 and cut decimals
PROBABILITY = "prob_"  # begins the names of a teacher's columns, before the label
# Names that mean a file, so that a misspelt one is not looked up on the Hub.
FILE_SUFFIXES = {*SUFFIXES, *COMPRESSIONS}
OPTION = re.compile(r"(?<!\S)--[a-z-]+")


@dataclass(frozen=True)
class Table:
    """Rows as they were read: texts and cells of the label column, all in memory."""

    name: str  # what messages and the model card call it; never a path
    texts: Sequence[str | None]  # (rows,)
    cells: Sequence[Any]  # (rows,) str, int, float, bool or None
    facts: dict[str, Any]  # where it came from, with a hash
    # (rows,) cells of each column prob_LABEL by its name; None where the source has no such columns
    probabilities: Mapping[str, Sequence[Any]] | None = None
    warnings: Sequence[Mapping[str, str]] = ()  # of how the file could be read


def is_file(name: str) -> bool:
    """Tell whether `name` means a file of this machine.

    Folders and everything else are data sets.
    """
    path = expand(name)
    return is_regular(path) or (path.suffix.lower() in FILE_SUFFIXES and not is_folder(path))


def reading_of(settings: FinetuneOptions) -> ReadOptions:
    """Return how files of labelled rows are read."""
    return ReadOptions(
        text_column=settings.text_column,
        text_joint=settings.text_joint,
        delimiter=settings.delimiter,
        encoding=settings.encoding,
    )


def read_file(
    name: str,
    reading: ReadOptions,
    label_column: str | None,
    *,
    with_probabilities: bool = False,
) -> Table:
    """Read the texts and labels of a CSV, TSV, JSON lines, Parquet or Arrow file, gzip or zstd too.

    Cells of CSV and JSON lines stay text: ``NA`` is a text, ``007`` keeps its zeros.
    `with_probabilities` keeps the columns ``prob_LABEL`` too. Raises InputError for a file that
    cannot be read as its suffix says, UsageError for a column it does not have.
    """
    path = expand(name)
    texts: list[str | None] = []
    cells: list[Any] = []
    with offering_own_options(), closing(open_source(str(path), reading)) as source:
        label = choose_label(source.columns, label_column, source.name)
        each = [column for column in source.columns if column.startswith(PROBABILITY)]
        taught: dict[str, list[Any]] = {column: [] for column in each if with_probabilities}
        for chunk in source.chunks([label, *taught]):
            texts += chunk.texts
            cells += chunk.columns[label]
            for column, found in taught.items():
                found += chunk.columns[column]
        facts, warnings = source.facts(), source.warnings()
        assert source.text_columns is not None
        columns = [*source.text_columns.names, label]
    known = {
        "kind": "file",
        "name": path.name,
        "bytes": path.stat().st_size,
        # A Parquet source does not read from end to end, so its bytes are hashed here.
        "sha256": facts["sha256"] or sha256_of(path),
        "columns": columns,
    }
    return Table(path.name, texts, cells, known, taught, warnings)


@contextmanager
def offering_own_options() -> Iterator[None]:
    """Leave out of the hints of errors in the block what needs an option that finetune lacks."""
    try:
        yield
    except BatchsentError as error:
        own = {flag_of(field) for field in dataclasses.fields(FinetuneOptions)}
        # Pieces of a hint, each with what joins it to the one before.
        pieces = re.split(r"(?=, or |; )", error.hint or "")
        possible = [piece for piece in pieces if own.issuperset(OPTION.findall(piece))]
        error.hint = re.sub(r"^(, or|;) ", "", "".join(possible)) or None
        raise


def probabilities_of(table: Table, labels: Sequence[str]) -> NDArray[np.float32]:
    """Return (rows, labels) what the columns ``prob_LABEL`` of a table hold.

    Rows without numbers are NaN. Raises UsageError where the table was not read from a file with
    these columns, InputError for cells that are not probabilities.
    """
    name, taught = printable(table.name), table.probabilities
    if taught is None:
        raise UsageError(
            "--distill takes a file",
            hint="write one with batch --probabilities",
        )
    columns = []
    for label in labels:
        column = PROBABILITY + label
        if column not in taught:
            raise UsageError(
                f"{name} has no column called {printable(column)}",
                hint="--distill reads what batch --probabilities writes, a column for each label",
            )
        try:
            columns.append(probabilities(taught[column], filled(taught[column])))
        except BadCell as bad:
            raise InputError(
                f"{name}: row {bad.row + 1}: column {printable(column)}: "
                f"'{printable(str(bad.cell)[:60])}' is not a probability",
                hint="give the probabilities of one teacher as batch --probabilities writes them",
            ) from bad
    found = np.stack(columns, axis=1)
    sums = found.sum(axis=1)
    wrong = np.abs(sums - 1) > PROBABILITY_SLACK  # never where there are no numbers
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{name}: row {row + 1}: the columns prob_LABEL are {found[row].tolist()}, which do "
            "not make 1",
            hint="give the probabilities of one teacher as batch --probabilities writes them",
        )
    return found


def choose_label(columns: Sequence[str], wanted: str | None, name: str) -> str:
    """Return the label column: the named one, or the one obvious one.

    Raises UsageError where there is not exactly one.
    """
    if wanted is not None:
        return columns[find_column(list(columns), wanted, "--label-column", name)]
    found = [column for column in columns if column.strip().lower() in LABEL_NAMES]
    if len(found) != 1:
        problem = "more than one column" if found else "no column"
        raise UsageError(
            f"{name} has {problem} called {', '.join(LABEL_NAMES)}; its columns are "
            f"{list_columns(list(columns))}",
            hint="name the column of the labels with --label-column",
        )
    return found[0]


def read_dataset(
    name: str,
    *,
    config: str | None,
    revision: str | None,
    split: str,
    reading: ReadOptions,
    label_column: str | None,
    keep_numbers: bool = False,
) -> tuple[Table, list[str]]:
    """Load one split of a Hub data set or folder, with the names of all its splits.

    `split` is what `datasets.load_dataset` takes, ``train[:10%]`` included. Class numbers become
    the names that the data set gives them, unless `keep_numbers`. Raises InputError when it cannot
    be had, UsageError for a column.
    """
    import datasets
    from huggingface_hub import errors as hub

    where = f"data set {printable(name)}, split {printable(split)}"
    try:
        data = datasets.load_dataset(name, config, split=split, revision=revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError, hub.HTTPError) as error:  # type: ignore[attr-defined]
        raise InputError(
            f"{where}: {first_line(error)}",
            hint="check the name, the split and the network; a file of your own goes with --train "
            "FILE",
        ) from error
    named = [
        data.column_names[position]
        for position in find_text_columns(
            data.column_names, reading, where, lambda: first_values(data[:LOOKED_AT])
        )
    ]
    label = choose_label(data.column_names, label_column, where)
    table = data.with_format("arrow")[:]
    columns = []
    for text in named:
        columns.append(table[text].to_pylist())
        if not all(isinstance(value, str | None) for value in columns[-1]):
            raise UsageError(
                f"{where}: column {printable(text)} is not text", hint="name another --text-column"
            )
    texts = join_texts(columns, joint_of(reading, len(named)))
    cells = list(data[label])
    feature = data.features[label]
    if isinstance(feature, datasets.ClassLabel):
        # -1 is the Hub's sign for "no label", as in test splits of contests.
        said = feature.int2str if not keep_numbers else int
        cells = [None if cell is None or cell < 0 else said(cell) for cell in cells]
    local = is_folder(expand(name))
    facts = {
        "kind": "folder" if local else "dataset",
        "name": expand(name).resolve().name if local else name,
        "config": data.info.config_name,
        "split": split,
        "revision": revision if local else commit_of(data) or revision,
        "columns": [*named, label],
    }
    return Table(facts["name"], texts, cells, facts), list(data.info.splits or {})


def commit_of(data: Any) -> str | None:
    """Return the Hub commit of a data set: its cache folder is named after it."""
    folders = [Path(file["filename"]).parent.name for file in data.cache_files]
    return next((name for name in folders if COMMIT.fullmatch(name)), None)


def first_values(rows: Mapping[str, list[Any]]) -> dict[str, list[str]]:
    """Return the strings of each column of some rows."""
    return {
        column: [value for value in found if isinstance(value, str)]
        for column, found in rows.items()
    }
