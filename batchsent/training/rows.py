"""The rows of a training: read, labelled, cleaned, split, sampled, and reported."""

from collections.abc import Sequence

from batchsent.errors import UsageError
from batchsent.evaluation.gold import GoldRule
from batchsent.reporting import Reporter
from batchsent.text import printable
from batchsent.training.crops import add_crops
from batchsent.training.deduplicate import choose_rows
from batchsent.training.examples import Examples, hold_out, sample, select_examples
from batchsent.training.labels import decide_labels
from batchsent.training.options import DATASET, DATASET_SAMPLES, FinetuneOptions
from batchsent.training.plan import Splits
from batchsent.training.read_labelled import (
    Table,
    is_file,
    probabilities_of,
    read_dataset,
    read_file,
    reading_of,
)


def find_rows(settings: FinetuneOptions, reporter: Reporter) -> tuple[list[str], Splits]:
    """Return the class names, and the rows to train, validate and measure on.

    Raises UsageError where nothing is left to train or to measure on, or one class only.
    """
    table, splits = read_table(settings, settings.train, settings.train_split)
    for said in table.warnings:
        reporter.warning(f"{printable(table.name)}: {said['message']} ({said['hint']})")
    rule = decide_labels(table, settings.labels, settings.label_map, settings.stars)
    names = list(rule.labels)
    targets = probabilities_of(table, names) if settings.distill else None
    examples = select_examples(table, rule, targets)
    evaluation = read_evaluation(settings, rule, splits)
    examples, rows = clean(examples, evaluation)
    train_count = wanted_rows(settings.train_samples, settings, DATASET_SAMPLES[0])
    if evaluation is None:
        examples, evaluation = hold_out(examples.take(rows), settings.hold_out, settings.seed)
        eval_count = wanted_rows(settings.eval_samples, settings, DATASET_SAMPLES[1])
        evaluation = sample(evaluation, eval_count, settings.seed)
        examples = sample(examples, train_count, settings.seed)
        reporter.notice(
            f"{settings.hold_out:.0%} of {printable(table.name)} is held out to measure on"
        )
    else:
        examples = sample(examples, train_count, settings.seed, rows)
    validation = None
    if settings.early_stopping is not None or settings.trials is not None:
        examples, validation = hold_out(examples, settings.hold_out, settings.seed)
    if settings.crops:
        kept_out = [side for side in (validation, evaluation) if side is not None]
        examples = add_crops(examples, kept_out, settings.crops, settings.seed)
    found = Splits(examples, validation, evaluation)
    tell(found, names, reporter)
    if len(set(examples.labels)) < 2:
        raise UsageError(
            "the training rows are all of one class",
            hint="give more rows, or correct --label-column and --labels",
        )
    return names, found


def wanted_rows(asked: int | None, settings: FinetuneOptions, usual: int) -> int | None:
    """Return how many rows are sampled: as asked, of the default data set the usual number.

    None stands for all.
    """
    if asked is None and settings.train == DATASET:
        return usual
    return asked or None


def read_evaluation(
    settings: FinetuneOptions, rule: GoldRule, splits: Sequence[str]
) -> Examples | None:
    """Return the rows of --eval, or of another split of the data set.

    None where they are to be held out of the training rows.
    """
    name, split = settings.eval, settings.eval_split or "test"
    if name is None and not is_file(settings.train):
        others = [other for other in ("test", "validation") if other in splits]
        if settings.eval_split is None and not others:
            return None
        name, split = settings.train, settings.eval_split or others[0]
    if name is None:
        return None
    table, _ = read_table(settings, name, split)
    count = wanted_rows(settings.eval_samples, settings, DATASET_SAMPLES[1])
    return sample(evaluation_examples(table, rule), count, settings.seed)


def clean(examples: Examples, evaluation: Examples | None) -> tuple[Examples, list[int]]:
    """Return the examples, with what is wrong with some noted, and the rows to train on.

    Raises UsageError where no row is left.
    """
    rows, left_out = choose_rows(examples, evaluation)
    if not rows:
        raise UsageError(
            f"{printable(examples.facts['name'])}: no row is left to train on: "
            f"{describe_left_out(left_out) or 'there is none'}",
            hint="give other rows with --train, or leave --eval out to hold some out",
        )
    noted = examples.facts["left_out"] | left_out
    return examples.take(range(len(examples.texts)), left_out=noted), rows


def tell(splits: Splits, names: list[str], reporter: Reporter) -> None:
    """Say what rows there are, by class, and what was left out of their source."""
    sides = {
        "train on": splits.train,
        "choose by": splits.validation,
        "measure on": splits.evaluation,
    }
    for verb, side in sides.items():
        if side is None:
            continue
        counts = side.counts(names)
        by_class = ", ".join(f"{count:,} {printable(name)}" for name, count in counts.items())
        left = describe_left_out(side.facts["left_out"])
        cropped = f"; {side.facts['crops']:,} are crops" if "crops" in side.facts else ""
        left_out = f"; left out of {side.facts['rows_read']:,}: {left}" if left else ""
        source = printable(side.facts["name"])
        reporter.notice(
            f"{verb} {len(side.texts):,} rows of {source}: {by_class}{cropped}{left_out}"
        )


def describe_left_out(counts: dict[str, int]) -> str:
    """Return the counts of rows that were left out, with their reasons."""
    return ", ".join(
        f"{count:,} {reason.replace('_', ' ')}" for reason, count in counts.items() if count
    )


def evaluation_examples(table: Table, rule: GoldRule) -> Examples:
    """Return the rows to measure on. Raises UsageError when there are none."""
    examples = select_examples(table, rule)
    if not examples.texts:
        raise UsageError(
            f"{printable(table.name)}: no row has a text and a label to measure on",
            hint="name others with --eval",
        )
    return examples


def read_table(settings: FinetuneOptions, name: str, split: str) -> tuple[Table, list[str]]:
    """Read labelled rows from a file or a data set, with the data set's split names."""
    reading = reading_of(settings)
    label = settings.label_column
    if is_file(name):
        return read_file(name, reading, label, with_probabilities=settings.distill), []
    return read_dataset(
        name,
        config=settings.dataset_config,
        revision=settings.dataset_revision,
        split=split,
        reading=reading,
        label_column=label,
        keep_numbers=settings.labels is not None,
    )
