"""Compare labels with gold labels: of a scored file, or of a model on a labelled file."""

import functools
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchsent.chunk import SCORED, Chunk, Scores
from batchsent.commands.audit import audit
from batchsent.commands.scored_file import ScoredColumns, find_labels
from batchsent.errors import GateFailed, UsageError
from batchsent.evaluation import gates
from batchsent.evaluation.advice import advise, warning
from batchsent.evaluation.gold import GoldRule, check_judged
from batchsent.evaluation.quality import Quality
from batchsent.evaluation.summary import prefix_of_run, text_columns_of_run
from batchsent.evaluation.tally import Tally
from batchsent.formats import ReadOptions, Source, open_source
from batchsent.formats.opening import check_read_options
from batchsent.formats.text_names import chosen_by_model
from batchsent.model.calibration import calibrated
from batchsent.model.canaries import open_scorer
from batchsent.model.loading import identify
from batchsent.model.options import ModelOptions
from batchsent.model.reliability import reliability_of
from batchsent.options import build, option
from batchsent.reporting import Reporter
from batchsent.training.measure import seen_section
from batchsent.training.seen import SeenTexts, say_seen, seen_by

SCHEMA = "batchsent.evaluation/1"


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
        "",
        "What the names of the label and score columns begin with [default: as in the run].",
        group="Common",
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
    audit: str | None = option(
        None,
        "Judge all of FILE by the rows that sample drew from it and a person labelled.",
        metavar="LABELLED_FILE",
        group="Common",
    )


def evaluate(
    file: str | Path, *, reporter: Reporter | None = None, **options: Any
) -> dict[str, Any]:
    """Judge the labels of a scored file by a gold column; the options are those of EvaluateOptions.

    Reads the columns `label` and `score`, and `prob_<label>` and `truncated` where the file has
    them; with `model` the file's texts are scored instead, and nothing is written. Returns rows,
    predictions, evaluation and warnings in the form of a summary; with `audit` what
    commands/audit.py says of the file.

    Raises UsageError and InputError for what cannot be judged, GateFailed where a figure is under
    `fail_under`, with the document as its attribute `document`.
    """
    settings = build(EvaluateOptions, options)
    check_read_options(settings, [str(file), *([settings.audit] if settings.audit else [])])
    if gates.needs_temperature(settings.fail_under) and settings.model is None:
        raise UsageError(
            f"--fail-under {gates.EXPECTED} requires --model: a scored file does not say whether "
            "its scores are calibrated",
            hint=f"use it with batchsent batch, or leave {gates.EXPECTED} out",
        )
    if settings.audit is not None:
        return _by_audit(str(file), settings.audit, settings, reporter)
    if (settings.gold is None) == (settings.gold_stars is None):
        raise UsageError(
            "name one column to judge by",
            hint="--gold COLUMN, or --gold-stars COLUMN with --stars RULE",
        )
    if (settings.gold_stars is None) != (settings.stars is None):
        raise UsageError(
            "--gold-stars and --stars require each other",
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
    return _passed(document, document["evaluation"], settings)


def _passed(
    document: dict[str, Any], evaluation: dict[str, Any] | None, settings: EvaluateOptions
) -> dict[str, Any]:
    """Return a document whose figures reach every floor. Raises GateFailed with it otherwise."""
    predictions = document.get("predictions")
    failures = gates.failed_minimums(evaluation, settings.fail_under, predictions)
    if failures:
        message = "; ".join(failure["message"] for failure in failures)
        raise GateFailed(message, document=document, failures=failures)
    return document


def _by_audit(
    path: str, labelled: str, settings: EvaluateOptions, reporter: Reporter | None
) -> dict[str, Any]:
    """Judge a scored file by the labelled rows of its sample."""
    for name in ("model", "gold_stars", "stars", "unsure_below"):
        if getattr(settings, name) is not None:
            raise UsageError(
                f"--{name.replace('_', '-')} cannot be used with --audit",
                hint="leave it out: an audit compares the label column with the sample",
            )
    # Of these figures an audit has the accuracy only.
    figures: dict[str, Any] = {place[0]: None for place in gates.FLOORS.values()}
    gates.failed_minimums(figures, settings.fail_under)
    labels = find_labels([path], settings, settings.prefix, settings.labels)
    document = audit(
        path,
        labelled,
        settings,
        GoldRule.parse(labels, settings.gold_map),
        prefix=settings.prefix,
        gold=settings.gold,
        reporter=reporter,
    )
    accuracy = document["audit"]["accuracy"]["value"]
    return _passed(document, {**figures, "accuracy": accuracy}, settings)


def _of_model(
    path: str, model: str, settings: EvaluateOptions, reporter: Reporter
) -> dict[str, Any]:
    """Score the texts of a labelled file, writing nothing, and judge what the model says."""
    # Found after the file was opened, since a model of the Hub is fetched: a wrong path is cheaper.
    identified = functools.cache(lambda: identify(model, settings.revision))
    opened = open_source(
        path,
        settings,
        gold_column=_gold_column(settings),
        usual=lambda: identified().text_columns,
    )
    with closing(opened) as source:
        identity, text = identified(), source.text_columns
        if text is not None and chosen_by_model(settings, text, identity.text_columns):
            reporter.notice(text.as_chosen_by_model())
        known = reliability_of(identity, settings)
        gold = _gold_rule(identity.labels, settings)
        new_rows = NewRows(seen_by(identity.path), identity.labels, gold)
        tally = Tally(
            identity.labels,
            gold,
            unsure_below=settings.unsure_below,
            without_labels=known.counts(identity.labels),
        )
        scorer = open_scorer(identity, settings)
        with closing(scorer):
            for said in scorer.facts()["device"]["warnings"]:
                reporter.warning(said)
            for chunk in source.chunks():
                scores, likely = scorer.score(scorer.prepare(chunk.texts)), None
                if known.temperature is not None:
                    likely = calibrated(scores, known.temperature)
                tally.add(chunk, scores, likely)
                new_rows.add(chunk, scores)
                tally.reject(len(chunk.rejected))
                reporter.progress(chunk.start_row + chunk.rows, None)
            facts = scorer.facts()["model"]
        sections = tally.sections()
        judged = sections["evaluation"]["rows"]
        seen = seen_section(new_rows.seen, judged, new_rows.quality)
        warnings = [*source.warnings(), *advise(sections, facts)]
        if seen["rows"]:
            warnings.append(warning("seen", say_seen(seen["rows"], judged, "model")))
        return _document(source, facts, sections, warnings, seen)


class NewRows:
    """Judges the rows whose texts the model has not learned, as far as its folder tells."""

    def __init__(self, seen: SeenTexts, labels: tuple[str, ...], gold: GoldRule) -> None:
        self.seen, self.gold = seen, gold
        self.quality = Quality(labels)

    def add(self, chunk: Chunk, scores: Scores) -> None:
        """Judge the rows of a chunk that are scored, have a gold label and are new to the model."""
        assert chunk.gold is not None
        gold = self.gold.numbers(chunk.gold)
        new = (scores.status == SCORED) & (gold >= 0)
        new &= ~self.seen.contains(text or "" for text in chunk.texts)
        self.quality.add(
            gold[new],
            scores.winners[new],
            scores.probabilities[new],
            np.zeros(int(new.sum()), dtype=np.int64),  # figures by length are not asked for here
            scores.truncated_tokens[new] > 0,
        )


def _of_scored(path: str, settings: EvaluateOptions, reporter: Reporter) -> dict[str, Any]:
    """Judge the label column of a scored file."""
    if path == "-" and settings.labels is None:
        raise UsageError(
            "a scored file is read twice, which stdin cannot be: once to find its labels",
            hint="name all labels of the model with --labels, or save the file first",
        )
    labels = find_labels([path], settings, settings.prefix, settings.labels)
    gold = _gold_rule(labels, settings)
    opened = open_source(
        path,
        settings,
        gold_column=_gold_column(settings),
        needs_text=False,
        usual=lambda: text_columns_of_run(path),
    )
    with closing(opened) as source:
        prefix = prefix_of_run(path, source.columns, settings.prefix)
        columns = ScoredColumns.find(source, labels, prefix)
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


def _document(
    source: Source,
    model: dict[str, Any] | None,
    sections: dict[str, Any],
    warnings: list[Any],
    seen: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what evaluate says; `seen` is for a model, as a scored file does not hold its own."""
    kept = {name: sections[name] for name in ("rows", "predictions", "evaluation")}
    return {
        "schema": SCHEMA,
        "input": source.facts(),
        "model": model,
        "warnings": warnings,
        **kept,
        "seen": seen,
    }


def _gold_column(settings: EvaluateOptions) -> str | None:
    return settings.gold if settings.gold is not None else settings.gold_stars


def _gold_rule(labels: tuple[str, ...], settings: EvaluateOptions) -> GoldRule:
    return GoldRule.parse(labels, settings.gold_map, settings.stars)
