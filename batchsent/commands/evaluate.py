"""Compare labels with gold labels: of a scored file, or of a model on a labelled file."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchsent.chunk import Chunk, Scores
from batchsent.errors import GateFailed, InputError, UsageError
from batchsent.evaluation import gates, summary
from batchsent.evaluation.advice import advise
from batchsent.evaluation.gold import GoldRule, check_judged
from batchsent.evaluation.tally import Tally
from batchsent.formats import ReadOptions, Source, open_source
from batchsent.formats.reading import find_column
from batchsent.formats.scored_columns import (
    BadCell,
    label_numbers,
    label_texts,
    probabilities,
    to_scores,
    too_low,
)
from batchsent.model.loading import identify
from batchsent.model.options import ModelOptions
from batchsent.model.scorer import ModelScorer
from batchsent.options import build, option
from batchsent.reporting import Reporter
from batchsent.text import printable

SCHEMA = "batchsent.evaluation/1"

# A column with more different values than this holds no labels.
MOST_LABELS = 1_000
TRUE_WORDS = {"true", "1", "1.0"}


@dataclass(frozen=True)
class EvaluateOptions(ReadOptions, ModelOptions):
    """How a file is judged."""

    gold: str | None = option(
        None, "Column with the right labels.", metavar="COLUMN", group="Common"
    )
    gold_map: str | None = option(
        None,
        "What gold values mean: neg=NEGATIVE,pos=POSITIVE.",
        metavar="VALUE=LABEL,...",
        group="Quality",
    )
    gold_stars: str | None = option(
        None,
        "Column with star ratings, taken as weak labels.",
        metavar="COLUMN",
        group="Quality",
    )
    stars: str | None = option(
        None,
        "What stars mean: 1-2:NEGATIVE,4-5:POSITIVE.",
        metavar="FROM-TO:LABEL,...",
        group="Quality",
    )
    prefix: str = option(
        "", "What stands in front of the names of the label and score columns.", group="Common"
    )
    labels: str | None = option(
        None,
        "Label names in the model's order [default: from the summary beside FILE, its prob_ "
        "columns or its labels].",
        metavar="LABEL,...",
        group="Quality",
    )
    unsure_below: float | None = option(
        None,
        "Score under which a row counts as unsure.",
        metavar="SCORE",
        group="Quality",
    )
    fail_under: tuple[str, ...] = option(
        (),
        "Exit with 8 where a figure is lower; may be repeated.",
        metavar="FIGURE=VALUE",
        multiple=True,
        group="Quality",
    )
    model: str | None = option(
        None,
        "Score FILE with this model instead of reading its label column.",
        short="-m",
        metavar="FOLDER|ID",
        group="Common",
    )
    revision: str | None = option(
        None, "Commit, tag or branch of a Hub model.", group="Model and device"
    )


def evaluate(
    file: str | Path, *, reporter: Reporter | None = None, **options: Any
) -> dict[str, Any]:
    """Judge the labels of a scored file by a gold column; the options are those of EvaluateOptions.

    Reads the columns `label` and `score`, and `prob_<label>` and `truncated` where the file has
    them; with `model` the file's texts are scored instead, and nothing is written. Returns rows,
    predictions, evaluation and warnings in the form of a summary.

    Raises UsageError and InputError for what cannot be judged, GateFailed where a figure is under
    `fail_under`, with the document as its attribute `document`.
    """
    settings = build(EvaluateOptions, options)
    if (settings.gold is None) == (settings.gold_stars is None):
        raise UsageError(
            "name one column to judge by",
            hint="--gold COLUMN, or --gold-stars COLUMN with --stars RULE",
        )
    if (settings.gold_stars is None) != (settings.stars is None):
        raise UsageError(
            "--gold-stars and --stars go together",
            hint="for instance --stars 1-2:NEGATIVE,4-5:POSITIVE",
        )
    # a misspelt gate is refused before the file is read
    gates.failed_minimums(None, settings.fail_under)
    gates.check_score("--unsure-below", settings.unsure_below)
    path = str(file)
    if settings.model is None:
        document = _of_scored(path, settings, reporter or Reporter())
    else:
        document = _of_model(path, settings.model, settings, reporter or Reporter())
    if document["rows"]["scored"]:
        check_judged(document["evaluation"], document["input"]["path"])
    failures = gates.failed_minimums(document["evaluation"], settings.fail_under)
    if failures:
        message = "; ".join(failure["message"] for failure in failures)
        raise GateFailed(message, document=document, failures=failures)
    return document


def _of_model(
    path: str, model: str, settings: EvaluateOptions, reporter: Reporter
) -> dict[str, Any]:
    """Score the texts of a labelled file, writing nothing, and judge what the model says."""
    with closing(open_source(path, settings, gold_column=_gold_column(settings))) as source:
        identity = identify(model, settings.revision)
        tally = Tally(
            identity.labels,
            _gold_rule(identity.labels, settings),
            unsure_below=settings.unsure_below,
        )
        scorer = ModelScorer.open(identity, settings)
        with closing(scorer):
            for said in scorer.facts()["device"]["warnings"]:
                reporter.warning(said)
            for chunk in source.chunks():
                tally.add(chunk, scorer.score(scorer.prepare(chunk.texts)))
                tally.reject(len(chunk.rejected))
                reporter.progress(chunk.start_row + chunk.rows, None)
            facts = scorer.facts()["model"]
        sections = tally.sections()
        return _document(source, facts, sections, [*source.warnings(), *advise(sections)])


def _of_scored(path: str, settings: EvaluateOptions, reporter: Reporter) -> dict[str, Any]:
    """Judge the label column of a scored file."""
    if path == "-" and settings.labels is None:
        raise UsageError(
            "a scored file is read twice, which stdin cannot be: once to find its labels",
            hint="name all labels of the model with --labels, or save the file first",
        )
    labels = _labels(path, settings)
    gold = _gold_rule(labels, settings)
    opened = open_source(path, settings, gold_column=_gold_column(settings), needs_text=False)
    with closing(opened) as source:
        columns = ScoredColumns.find(source, labels, settings.prefix)
        tally = Tally(
            labels,
            gold,
            unsure_below=settings.unsure_below,
            winners_only=len(labels) != 2 and not columns.each,
        )
        for chunk in source.chunks(columns.names):
            tally.add(chunk, columns.scores(chunk))
            reporter.progress(chunk.start_row + chunk.rows, None)
        sections = tally.sections()
        sections["text"]["truncated_share"] = None  # how much was cut is not in the file
        evaluation = sections["evaluation"]
        if source.facts()["columns"]["text"] is None:
            evaluation["by_length"] = []
        if columns.truncated is None:
            evaluation["whole"] = evaluation["truncated"] = None
        return _document(source, None, sections, [*source.warnings(), *advise(sections)])


@dataclass(frozen=True)
class ScoredColumns:
    """The columns of a scored file that are judged, by their names."""

    label: str
    score: str
    each: tuple[str, ...]  # prob_<label> of every label; empty where they are not needed or there
    truncated: str | None
    labels: tuple[str, ...]

    @classmethod
    def find(cls, source: Source, labels: tuple[str, ...], prefix: str) -> "ScoredColumns":
        """Find the columns that batchsent wrote. Raises UsageError."""
        label, score, truncated = (prefix + name for name in ("label", "score", "truncated"))
        for name in (label, score):
            check_column(source, name)
        each = tuple(f"{prefix}prob_{name}" for name in labels)
        # Of two labels the score tells both probabilities; of more only columns of their own do.
        if len(labels) == 2 or not set(each) <= set(source.columns):
            each = ()
        return cls(label, score, each, truncated if truncated in source.columns else None, labels)

    @property
    def names(self) -> list[str]:
        """Names of all of them."""
        return [self.label, self.score, *self.each, *([self.truncated] if self.truncated else [])]

    def scores(self, chunk: Chunk) -> Scores:
        """Put the scores of a chunk together again, as the model gave them. Raises InputError."""
        cells, first_row = chunk.columns, chunk.start_row
        try:
            winners = label_numbers(label_texts(cells[self.label]), self.labels)
        except BadCell as bad:
            raise InputError(
                f"the label '{printable(bad.cell)}' is not one of "
                f"{', '.join(map(printable, self.labels[:20]))}",
                hint="name all of them with --labels",
            ) from bad
        given = winners >= 0
        try:
            score = probabilities(cells[self.score], given)
            each = [probabilities(cells[name], given) for name in self.each]
        except BadCell as bad:
            raise InputError(
                f"row {first_row + bad.row + 1:,}: '{printable(str(bad.cell)[:60])}' is not a "
                "probability",
                hint="say which columns batchsent wrote with --prefix",
            ) from bad
        wrong = given & too_low(score, len(self.labels))
        for column in each:
            wrong |= column > score
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(
                f"row {first_row + row + 1:,}: its label cannot have the highest probability with "
                f"a score of {score[row]:.6g}",
                hint="the score must be the probability of the label; were the columns changed "
                "since they were written?",
            )
        truncated = None
        if self.truncated is not None:
            words = [str(cell).strip().lower() for cell in cells[self.truncated]]
            truncated = np.array([word in TRUE_WORDS for word in words], dtype=np.int32)
        return to_scores(
            winners,
            score,
            len(self.labels),
            each=np.stack(each, axis=1) if each else None,
            truncated=truncated,
        )


def check_column(source: Source, name: str) -> None:
    """Refuse a file without a column that batchsent writes. Raises UsageError."""
    try:
        find_column(source.columns, name, "--prefix", source.name)
    except UsageError as error:
        raise UsageError(
            error.message, hint="say which columns batchsent wrote with --prefix"
        ) from error


def _document(
    source: Source, model: dict[str, Any] | None, sections: dict[str, Any], warnings: list[Any]
) -> dict[str, Any]:
    kept = {name: sections[name] for name in ("rows", "predictions", "evaluation")}
    return {"schema": SCHEMA, "input": source.facts(), "model": model, "warnings": warnings, **kept}


def _gold_column(settings: EvaluateOptions) -> str | None:
    return settings.gold if settings.gold is not None else settings.gold_stars


def _gold_rule(labels: tuple[str, ...], settings: EvaluateOptions) -> GoldRule:
    return GoldRule.parse(labels, settings.gold_map, settings.stars)


def _labels(path: str, settings: EvaluateOptions) -> tuple[str, ...]:
    """Return the labels in the model's order, as far as it is known.

    Raises InputError for a column that cannot be one of labels, UsageError for names that cannot be
    labels.
    """
    if settings.labels is not None:
        named = tuple(label.strip() for label in settings.labels.split(","))
        if not all(named) or len(set(named)) < len(named):
            raise UsageError(
                "--labels names a label twice, or an empty one",
                hint="such as --labels NEGATIVE,POSITIVE",
            )
        return named
    with closing(open_source(path, settings, needs_text=False)) as source:
        found = _distinct_labels(source, settings.prefix)
    for known in (_labels_of_summary(path), _labels_of_columns(source.columns, settings.prefix)):
        if found <= set(known):
            return known
    if len(found) == 1:
        raise InputError(
            f"{source.name}: {printable(next(iter(found)))} is the only label in it, so the others "
            "cannot be told",
            hint="name all labels of the model with --labels",
        )
    return tuple(sorted(found))


def _distinct_labels(source: Source, prefix: str) -> set[str]:
    """Return the labels in a label column. Raises UsageError, InputError for too many."""
    column = f"{prefix}label"
    check_column(source, column)
    found: set[str] = set()
    for chunk in source.chunks([column]):
        try:
            found.update(text for text in label_texts(chunk.columns[column]) if text)
        except BadCell as bad:
            raise UsageError(
                f"{source.name}: column {printable(column)} holds "
                f"'{printable(str(bad.cell)[:60])}', which is not text",
                hint="say which columns batchsent wrote with --prefix",
            ) from bad
        if len(found) > MOST_LABELS:
            raise InputError(
                f"{source.name}: the column {printable(column)} holds more than "
                f"{MOST_LABELS:,} labels",
                hint="say which columns batchsent wrote with --prefix",
            )
    return found


def _labels_of_summary(path: str) -> tuple[str, ...]:
    """Return the labels that the summary beside a file names; empty without such a summary."""
    try:
        labels = summary.read(f"{path}.summary.json")["model"].get("labels")
    except InputError:
        return ()
    usable = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    return tuple(labels) if usable and len(set(labels)) == len(labels) else ()


def _labels_of_columns(columns: list[str], prefix: str) -> tuple[str, ...]:
    """Return the labels that have a prob_ column, in the model's order."""
    start = f"{prefix}prob_"
    return tuple(column.removeprefix(start) for column in columns if column.startswith(start))
