"""Labelled reviews -> examples to learn from, with what was left out and why; knows nothing of models or training.

All rows are held in memory: Hugging Face's Trainer shuffles them, and labelled reviews are few beside the dump.
"""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batchsent.chunk import is_blank
from batchsent.errors import InputError, UsageError, printable
from batchsent.evaluation.gold import LEFT_OUT, MISSING, UNMATCHED, GoldRule

TEXT_COLUMNS = ("text", "review")
LABEL_COLUMNS = ("label", "labels", "sentiment")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

# What label columns say, and what the classes are then called. Compared without case.
NEGATIVE, NEUTRAL, POSITIVE = {"neg", "negative"}, {"neu", "neutral"}, {"pos", "positive"}

# A class of one or two reviews teaches nothing; a "label" that is nearly always new is an id or a date.
MOST_CLASSES = 100


@dataclass(frozen=True)
class Table:
    """Rows as they were read: texts and cells of the label column."""

    name: str  # what messages and the model card call it; never a path
    texts: Sequence[str | None]  # (rows,)
    cells: Sequence[Any]  # (rows,) str, int, float, bool or None
    facts: dict[str, Any]  # where it came from, with a hash


@dataclass(frozen=True)
class Examples:
    """Rows that can be learned from or measured on."""

    texts: list[str]  # (rows,) none blank
    labels: list[int]  # (rows,) class numbers
    facts: dict[str, Any]  # where they came from, what was left out

    def take(self, rows: Sequence[int], **facts: Any) -> "Examples":
        """Return the examples of the given row numbers, in that order."""
        return Examples([self.texts[i] for i in rows], [self.labels[i] for i in rows], self.facts | facts)

    def counts(self, names: Sequence[str]) -> dict[str, int]:
        """Return how many examples each class has."""
        found = Counter(self.labels)
        return {name: found[i] for i, name in enumerate(names)}

    def sha256(self) -> str:
        """Return a hash over exactly these texts and class numbers, in this order."""
        digest = hashlib.sha256()
        for text, label in zip(self.texts, self.labels, strict=True):
            data = text.encode("utf-8", "surrogatepass")
            digest.update(b"%d %d " % (label, len(data)))
            digest.update(data)
        return digest.hexdigest()


def is_file(name: str) -> bool:
    """Tell whether `name` means a file or folder of this machine and not a data set of the Hub."""
    return Path(name).exists() or Path(name).suffix.lower() in SUFFIXES


def check_file(name: str, option: str) -> None:
    """Refuse a labelled file that is not there or of no known kind. Raises InputError or UsageError."""
    path = Path(name)
    if path.is_dir():
        return
    if not path.exists():
        raise InputError(f"{option}: there is no file {printable(name)}", hint="check the path")
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"{option}: {printable(path.name)} has no known suffix", hint=f"known are {', '.join(SUFFIXES)}"
        )


def read_file(path: Path, text_column: str | None, label_column: str | None) -> Table:
    """Read the texts and labels of a CSV, TSV, JSONL or Parquet file.

    CSV cells stay text: ``NA`` is a text, ``007`` keeps its zeros. Raises InputError for a file that cannot be read
    as its suffix says, UsageError for a column it does not have.
    """
    readers = {
        ".csv": read_csv,
        ".tsv": read_csv,
        ".jsonl": read_jsonl,
        ".ndjson": read_jsonl,
        ".parquet": read_parquet,
    }
    try:
        texts, cells, columns = readers[path.suffix.lower()](path, text_column, label_column)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{printable(path)}: cannot be read: {error.strerror or error}") from error
    facts = {"kind": "file", "name": path.name, "bytes": path.stat().st_size, "sha256": sha256, "columns": columns}
    return Table(path.name, texts, cells, facts)


def read_csv(path: Path, text_column: str | None, label_column: str | None) -> tuple[list[Any], list[Any], list[str]]:
    """Read two columns of a CSV or TSV file as text."""
    csv.field_size_limit(2**31 - 1)  # the default of 128 kB is less than some reviews
    # Bytes that are no UTF-8 become U+FFFD: one broken review must not keep the others from being learned.
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            header = next(reader, [])
            columns = choose_columns(path.name, header, text_column, label_column)
            text, label = (header.index(column) for column in columns)
            texts, cells = [], []
            for record in reader:
                if not record:
                    continue
                if len(record) != len(header):
                    raise InputError(
                        f"{printable(path)}: line {reader.line_num}: {len(record)} fields, but the header has"
                        f" {len(header)}",
                        hint="mend the line; a comma or a quote in a text needs quotes around the field",
                    )
                texts.append(record[text])
                cells.append(record[label])
        except csv.Error as error:
            raise InputError(f"{printable(path)}: line {reader.line_num}: {error}") from error
    return texts, cells, columns


def read_jsonl(path: Path, text_column: str | None, label_column: str | None) -> tuple[list[Any], list[Any], list[str]]:
    """Read two keys of a file with one JSON object a line; a key that a line lacks is null there."""
    records = []
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise InputError(f"{printable(path)}: line {number} is no JSON: {error}") from error
            if not isinstance(record, dict):
                raise InputError(f"{printable(path)}: line {number} is no JSON object")
            records.append(record)
    keys = list(dict.fromkeys(key for record in records for key in record))
    text, label = columns = choose_columns(path.name, keys, text_column, label_column)
    for number, record in enumerate(records, start=1):
        if not isinstance(record.get(text), str | None):
            raise InputError(f"{printable(path)}: object {number}: {printable(text)!r} is no text")
    return [record.get(text) for record in records], [record.get(label) for record in records], columns


def read_parquet(
    path: Path, text_column: str | None, label_column: str | None
) -> tuple[list[Any], list[Any], list[str]]:
    """Read two columns of a Parquet file."""
    try:
        with pq.ParquetFile(path) as file:
            columns = choose_columns(path.name, file.schema_arrow.names, text_column, label_column)
            table = file.read(columns=columns)
    except pa.ArrowException as error:
        raise InputError(f"{printable(path)}: is no readable Parquet file: {printable(error)}") from error
    text, label = (table.column(name) for name in columns)
    return texts_of(text, path.name, columns[0]), label.to_pylist(), columns


def texts_of(column: Any, name: str, column_name: str) -> list[str | None]:
    """Return the texts of an Arrow column. Raises UsageError when it holds no text."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise UsageError(
            f"{printable(name)}: column {printable(column_name)!r} holds {printable(column.type)}, not text",
            hint="name the column of the reviews with --text-column",
        )
    texts: list[str | None] = column.to_pylist()
    return texts


def choose_columns(name: str, columns: Sequence[str], text: str | None, label: str | None) -> list[str]:
    """Return the columns of texts and of labels, chosen where the user named none.

    Raises UsageError when there is no obvious one, or the named one is absent or there twice.
    """
    chosen = []
    for option, given, usual in (("text", text, TEXT_COLUMNS), ("label", label, LABEL_COLUMNS)):
        candidates = [given] if given is not None else [column for column in usual if column in columns]
        if len(candidates) != 1 or list(columns).count(candidates[0]) != 1:
            wanted = " or ".join(map(printable, candidates or usual))
            problem = "which column is it" if len(candidates) > 1 else "there is no single column"
            listed = ", ".join(printable(column) for column in columns[:30]) or "none"
            raise UsageError(
                f"{printable(name)}: {problem}: {wanted}? Its columns: {listed}",
                hint=f"name the column with --{option}-column",
            )
        chosen.append(candidates[0])
    return chosen


def read_dataset(
    name: str,
    *,
    config: str | None,
    revision: str | None,
    split: str,
    text_column: str | None,
    label_column: str | None,
    keep_numbers: bool = False,
) -> tuple[Table, list[str]]:
    """Load one split of a Hub data set (or a folder of data files) and return it with the names of all its splits.

    `split` is what `datasets.load_dataset` takes, ``train[:10%]`` included. Class numbers become the names that the
    data set gives them, unless `keep_numbers`. Raises InputError when it cannot be had, UsageError for a column.
    """
    import datasets

    try:
        data = datasets.load_dataset(name, config, split=split, revision=revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"data set {printable(name)}, split {printable(split)}: {printable(first_line)}",
            hint="check the name, the split and the network; a file of your own goes with --train FILE",
        ) from error
    text, label = columns = choose_columns(name, data.column_names, text_column, label_column)
    texts = texts_of(data.with_format("arrow")[:][text], name, text)
    cells = list(data[label])
    feature = data.features[label]
    if isinstance(feature, datasets.ClassLabel) and not keep_numbers:
        # -1 is the Hub's sign for "no label", as in test splits of contests.
        cells = [feature.int2str(cell) if cell is not None and cell >= 0 else None for cell in cells]
    facts = {
        "kind": "folder" if Path(name).exists() else "dataset",
        "name": Path(name).name if Path(name).exists() else name,
        "config": data.info.config_name,
        "split": split,
        "revision": revision_of(data.info) or revision,
        "columns": columns,
    }
    return Table(facts["name"], texts, cells, facts), list(data.info.splits or {})


def revision_of(info: Any) -> str | None:
    """Return the commit a Hub data set was read from; its files are recorded as hf://datasets/NAME@COMMIT/PATH."""
    for address in info.download_checksums or {}:
        _, at, rest = address.rpartition("@")
        if at and address.startswith("hf://"):
            return str(rest.partition("/")[0])
    return None


def decide_labels(table: Table, labels: str | None, mapping: str | None, stars: str | None) -> GoldRule:
    """Decide what the classes are called and how the cells of the label column map to them.

    Without options 0/1, neg/pos and negative/positive are NEGATIVE and POSITIVE (with neutral: NEUTRAL between
    them), and anything else is its own sorted values. Raises UsageError when that makes fewer than two classes, or
    so many that the column cannot be the label.
    """
    names = [name.strip() for name in labels.split(",")] if labels is not None else []
    if labels is None and mapping is not None:
        names = [entry.rpartition("=")[2].strip() for entry in mapping.split(",")]
    elif labels is None and stars is not None:
        names = [entry.partition(":")[2].strip() for entry in stars.split(",")]
    elif labels is None:
        names = natural_labels(table)
    elif not all(names) or len(set(names)) < len(names):
        raise UsageError(f"--labels {printable(labels)!r}: empty or repeated names", hint="write --labels A,B,C")
    names = [name for name in dict.fromkeys(names) if name]
    if len(names) < 2:
        found = ", ".join(map(printable, names)) or "no label at all"
        raise UsageError(
            f"{printable(table.name)}: only one class: {found}" if names else f"{printable(table.name)}: {found}",
            hint="a classifier needs reviews of at least two classes; is --label-column the right one?",
        )
    return GoldRule.parse(names, mapping, stars)


def natural_labels(table: Table) -> list[str]:
    """Return the class names that the label column suggests by itself."""
    # 1, 1.0, True and "1" say the same; "01" does not.
    values = Counter(spelling(cell) for cell in table.cells)
    values.pop(None, None)
    folded = {str(value).strip().casefold() for value in values}
    if folded <= {"0", "1"} and len(folded) == 2:
        return ["NEGATIVE", "POSITIVE"]
    if folded <= NEGATIVE | NEUTRAL | POSITIVE:
        triple = ((NEGATIVE, "NEGATIVE"), (NEUTRAL, "NEUTRAL"), (POSITIVE, "POSITIVE"))
        return [name for words, name in triple if words & folded]
    if len(values) > MOST_CLASSES:
        raise UsageError(
            f"{printable(table.name)}: the label column has {len(values):,} different values in"
            f" {len(table.cells):,} rows",
            hint="name the right one with --label-column, or the classes with --labels, --label-map or --stars",
        )
    return sorted((str(value) for value in values), key=lambda value: (as_number(value), value))


def spelling(cell: Any) -> str | None:
    """Return a cell of the label column as a class name; None where it is empty."""
    if cell is None or (isinstance(cell, float) and np.isnan(cell)):
        return None
    if isinstance(cell, bool) or (isinstance(cell, float) and cell.is_integer()):
        cell = int(cell)
    return str(cell).strip() or None


def as_number(value: str) -> float:
    """Return the number that a class name is, infinity where it is none: numbers sort before words."""
    try:
        return float(value)
    except ValueError:
        return float("inf")


def select_examples(table: Table, rule: GoldRule) -> Examples:
    """Keep the rows that have a text and a class, and count the others by reason.

    Raises UsageError for label values that the rule does not cover: silence would be a smaller, wrong data set.
    """
    # An unhashable cell (a list in JSONL) is no label; its text says so in the error.
    cells = [cell if isinstance(cell, str | int | float | None) else str(cell) for cell in table.cells]
    numbers = rule.numbers(cells).tolist()
    unknown = Counter(str(cell) for cell, number in zip(cells, numbers, strict=True) if number == UNMATCHED)
    if unknown:
        listed = ", ".join(f"{printable(value[:40])!r} ({count:,})" for value, count in unknown.most_common(8))
        raise UsageError(
            f"{printable(table.name)}: {unknown.total():,} rows have labels that are none of"
            f" {', '.join(map(printable, rule.labels))}: {listed}",
            hint="say what they mean with --label-map VALUE=LABEL,... (VALUE= leaves rows out) or --stars",
        )
    rows = [i for i, text in enumerate(table.texts) if numbers[i] >= 0 and not is_blank(text)]
    left_out = {
        "without_label": numbers.count(MISSING),
        "outside_rule": numbers.count(LEFT_OUT),
        "without_text": sum(numbers[i] >= 0 and is_blank(text) for i, text in enumerate(table.texts)),
    }
    texts = [str(table.texts[i]) for i in rows]
    facts = table.facts | {"rows_read": len(numbers), "left_out": left_out}
    return Examples(texts, [numbers[i] for i in rows], facts)


def sample(examples: Examples, count: int | None, seed: int) -> Examples:
    """Take a seeded random `count` of the examples; all of them where `count` is None or as large."""
    if count is None:
        return examples
    # The rows that datasets.Dataset.shuffle(seed).select(range(count)) takes: notebooks get the same sample.
    return examples.take(np.random.default_rng(seed).permutation(len(examples.texts))[:count].tolist())


def hold_out(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """Split off a seeded share of every class for evaluation, at least one example a class.

    Copies of one text go to the same side: a review that was learned by heart measures nothing. Raises UsageError
    for a class that has too few different texts for both sides.
    """
    generator = np.random.default_rng(seed)
    held: list[int] = []
    labels = np.array(examples.labels)
    first_row: dict[str, int] = {}
    first = np.array([first_row.setdefault(text, i) for i, text in enumerate(examples.texts)])
    for label in sorted(set(examples.labels)):
        distinct = np.unique(first[labels == label])
        if len(distinct) < 2:
            raise UsageError(
                "a class with a single text cannot be learned and measured",
                hint="give a file of its own with --eval FILE, or more examples",
            )
        count = min(max(1, round(share * len(distinct))), len(distinct) - 1)
        held += generator.permutation(distinct)[:count].tolist()
    chosen = np.isin(first, held)
    # Evaluation in file order: it has nothing to gain from a shuffle, and the eye finds the rows again.
    evaluated, trained = np.flatnonzero(chosen).tolist(), np.flatnonzero(~chosen).tolist()
    return examples.take(trained), examples.take(evaluated, held_out=share)


def overlap(train: Examples, evaluated: Examples) -> int:
    """Count the evaluation texts that were also trained on."""
    known = set(train.texts)
    return sum(text in known for text in evaluated.texts)


def describe(examples: Examples, names: Sequence[str]) -> dict[str, Any]:
    """Return what metrics.json says of a side: source, rows, classes and a hash of exactly what was used."""
    return examples.facts | {
        "rows": len(examples.texts),
        "labels": examples.counts(names),
        "rows_sha256": examples.sha256(),
    }


def batched(texts: Sequence[str], size: int = 1_000) -> Iterator[list[str]]:
    """Yield the texts in lists of `size`."""
    for start in range(0, len(texts), size):
        yield list(texts[start : start + size])
