"""Compare labels with gold labels: of a scored file, or of a model on a labelled file."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import BLANK, SCORED, Chunk, Scores
from batchsent.errors import GateFailed, InputError, UsageError
from batchsent.evaluation import gates, summary
from batchsent.evaluation.advice import advise
from batchsent.evaluation.gold import GoldRule, check_judged
from batchsent.evaluation.tally import Tally
from batchsent.formats import ReadOptions, Source, open_source
from batchsent.formats.reading import is_text_name
from batchsent.model.loading import identify
from batchsent.model.options import ModelOptions
from batchsent.model.scorer import ModelScorer
from batchsent.options import build, option
from batchsent.reporting import Reporter
from batchsent.text import printable

SCHEMA = "batchsent.evaluation/1"

# A column with more different values than this holds no labels.
MOST_LABELS = 1_000
BLOCK_ROWS = 8_192
# The winner of n labels has 1/n at least, but for rounding.
LEAST_WINNER = 1 - 1e-5
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
        warnings = [*source.warnings(), *advise(sections, facts)]
        return _document(source, facts, sections, warnings)


def _of_scored(path: str, settings: EvaluateOptions, reporter: Reporter) -> dict[str, Any]:
    """Judge the label column of a scored file.

    The readers give a text column and one other, so the file is read side by side as often as there
    are columns needed beside each other; what they yield is cut into the same blocks of rows.
    """
    if path == "-":
        raise UsageError(
            "a scored file is read more than once, which stdin cannot be",
            hint="save it to a file first",
        )
    label_column, score_column = settings.prefix + "label", settings.prefix + "score"
    with ExitStack() as stack:

        def opened(text_column: str, other_column: str | None) -> Source:
            options = replace(settings, text_column=text_column, text_column_index=None)
            return stack.enter_context(
                closing(open_source(path, options, gold_column=other_column))
            )

        try:
            scored = opened(label_column, score_column)
        except UsageError as error:  # it knows nothing of prefixes
            raise UsageError(
                error.message, hint="say which columns batchsent wrote with --prefix"
            ) from error
        labels = _labels(path, settings, opened(label_column, None))
        gold = _gold_rule(labels, settings)
        text_column = _text_column(scored.columns, settings)
        judged = opened(text_column or label_column, _gold_column(settings))
        named = [f"{settings.prefix}prob_{label}" for label in labels]
        # Of two labels the score tells both probabilities; of more only columns of their own do.
        known = len(labels) != 2 and all(name in scored.columns for name in named)
        others = [opened(label_column, name) for name in named] if known else []
        cut_column = settings.prefix + "truncated"
        cuts = [opened(label_column, cut_column)] if cut_column in scored.columns else []

        tally = Tally(
            labels,
            gold,
            unsure_below=settings.unsure_below,
            winners_only=len(labels) != 2 and not known,
        )
        streams = [_pairs(source) for source in (scored, judged, *others, *cuts)]
        first_row = 0
        while block := list(islice(streams[0], BLOCK_ROWS)):
            texts_gold, *rest = ([*islice(stream, BLOCK_ROWS)] for stream in streams[1:])
            said, score = [label for label, _ in block], [cell for _, cell in block]
            beside = [[cell for _, cell in column] for column in rest]
            scores = _scores(
                said, score, beside[: len(others)], beside[len(others) :], labels, first_row
            )
            texts: list[str | None] = [text if text_column else None for text, _ in texts_gold]
            tally.add(Chunk(first_row, texts, None, [cell for _, cell in texts_gold]), scores)
            first_row += len(block)
            reporter.progress(first_row, None)
        sections = tally.sections()
        sections["text"]["truncated_share"] = None  # how much was cut is not in the file
        evaluation = sections["evaluation"]
        if text_column is None:
            evaluation["by_length"] = []
        if not cuts:
            evaluation["whole"] = evaluation["truncated"] = None
        return _document(judged, None, sections, [*judged.warnings(), *advise(sections)])


def _document(
    source: Source, model: dict[str, Any] | None, sections: dict[str, Any], warnings: list[Any]
) -> dict[str, Any]:
    kept = {name: sections[name] for name in ("rows", "predictions", "evaluation")}
    return {"schema": SCHEMA, "input": source.facts(), "model": model, "warnings": warnings, **kept}


def _gold_column(settings: EvaluateOptions) -> str | None:
    return settings.gold if settings.gold is not None else settings.gold_stars


def _gold_rule(labels: tuple[str, ...], settings: EvaluateOptions) -> GoldRule:
    return GoldRule.parse(labels, settings.gold_map, settings.stars)


def _text_column(columns: list[str], settings: EvaluateOptions) -> str | None:
    """Return the text column, for the figures by length; None where it cannot be told."""
    if settings.text_column is not None:
        return settings.text_column
    found = [column for column in columns if is_text_name(column)]
    return found[0] if len(found) == 1 else None


def _labels(path: str, settings: EvaluateOptions, source: Source) -> tuple[str, ...]:
    """Return the labels in the model's order, as far as it is known.

    Raises InputError for a column that cannot be one of labels, UsageError for names that cannot be
    labels.
    """
    if settings.labels is not None:
        named = tuple(label.strip() for label in settings.labels.split(","))
        if not all(named) or len(set(named)) < len(named):
            raise UsageError(
                "--labels names a label twice, or none", hint="such as --labels NEGATIVE,POSITIVE"
            )
        return named
    found: set[str] = set()
    for chunk in source.chunks():
        found.update(text for text in set(chunk.texts) if text)
        if len(found) > MOST_LABELS:
            raise InputError(
                f"{source.name}: the column {printable(settings.prefix)}label holds more than "
                f"{MOST_LABELS:,} labels",
                hint="say which columns batchsent wrote with --prefix",
            )
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


def _labels_of_summary(path: str) -> tuple[str, ...]:
    """Return the labels that the summary beside a file names.

    None where there is no such summary.
    """
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


def _pairs(source: Source) -> Iterator[tuple[str | None, Any]]:
    for chunk in source.chunks():
        yield from zip(
            chunk.texts, repeat(None) if chunk.gold is None else chunk.gold, strict=False
        )


def _scores(
    said: list[str | None],
    score: list[Any],
    others: list[list[Any]],
    cuts: list[list[Any]],
    labels: tuple[str, ...],
    first_row: int,
) -> Scores:
    """Put the scores of a block together again, as the model gave them."""
    rows = len(said)
    number = {label: i for i, label in enumerate(labels)}
    scored = np.array([bool(label) for label in said], dtype=bool)
    places = np.nonzero(scored)[0]
    try:
        winners = np.array([number[said[row]] for row in places.tolist()], dtype=np.intp)  # type: ignore[index]  # a text
    except KeyError as error:
        raise InputError(
            f"the label '{printable(error.args[0])}' is none of "
            f"{', '.join(map(printable, labels[:20]))}",
            hint="name all of them with --labels",
        ) from error
    best = _floats([score[row] for row in places.tolist()], places, first_row)
    probabilities = np.full((rows, len(labels)), np.nan, dtype=np.float32)
    if others:
        for column, cells in enumerate(others):
            probabilities[places, column] = _floats(
                [cells[row] for row in places.tolist()], places, first_row
            )
    elif len(labels) == 2:
        # float32 softmax may give 0.5 and 0.49999997: the other label's share must not become a
        # tie.
        probabilities[places] = np.minimum(1 - best, np.nextafter(best, np.float32(0)))[:, None]
        probabilities[places, winners] = best
    else:
        probabilities[places] = 0
        probabilities[places, winners] = best
    most = probabilities[places].max(axis=1, initial=0)
    wrong = (most > best) | (best < LEAST_WINNER / len(labels) if labels else False)
    if wrong.any():
        row = first_row + int(places[wrong.argmax()]) + 1
        raise InputError(
            f"row {row:,}: its label cannot have the highest probability with a score of "
            f"{best[wrong.argmax()]:.6g}",
            hint="the score must be the probability of the label; were the columns changed since "
            "they were written?",
        )
    nothing = np.zeros(rows, dtype=np.int32)
    truncated = nothing
    if cuts:
        truncated = np.array(
            [str(cell).strip().lower() in TRUE_WORDS for cell in cuts[0]], dtype=np.int32
        )
    status = np.where(scored, SCORED, BLANK).astype(np.uint8)
    return Scores(probabilities, nothing, truncated, status, distinct=0)


def _floats(cells: list[Any], places: NDArray[np.intp], first_row: int) -> NDArray[np.float32]:
    """Return probabilities as float32: the decimals of a CSV read back exactly."""
    try:
        values = np.array(cells, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.array([_float(cell) for cell in cells])
    bad = np.nonzero(~((values >= 0) & (values <= 1)))[0]
    if len(bad):
        raise InputError(
            f"row {first_row + int(places[bad[0]]) + 1:,}: '{printable(str(cells[bad[0]])[:60])}' "
            "is not a probability",
            hint="say which columns batchsent wrote with --prefix",
        )
    return values.astype(np.float32)


def _float(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return float("nan")
