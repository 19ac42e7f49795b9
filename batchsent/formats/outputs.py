"""The columns that a run adds and the files beside its output: their names and their order."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from batchsent.chunk import SCORED, Scores
from batchsent.evaluation.polarity import NEUTRAL, is_neutral, polarity, sides_of
from batchsent.formats.sentence_columns import sentence_columns, sentence_fields
from batchsent.formats.streams import compression_of
from batchsent.options import option

# The folder beside an output that a run keeps its work in, and the file in it that lists what the
# run is about to give its name.
WORK_ENDING = ".batchsent"
COMMITTING = "committing.json"


@dataclass(frozen=True)
class ColumnOptions:
    """Which columns are added."""

    prefix: str = option(
        "", "Put this in front of the names of the new columns.", affects="writing", group="Common"
    )
    probabilities: bool = option(
        False,
        "Add the probability of every label as prob_LABEL.",
        affects="writing",
        group="Columns",
    )
    details: bool = option(False, "Add n_tokens and truncated.", affects="writing", group="Columns")
    sentences: bool = option(
        False,
        "Judge every sentence too: add n_sentences, n_positive, n_negative and mixed, with "
        "--details also the strongest positive and negative sentence and where they are.",
        affects="writing",
        group="Columns",
    )
    polarity: bool = option(
        False,
        "Add a column polarity: p(positive) - p(negative), from -1 to 1.",
        affects="writing",
        group="Columns",
    )
    polarity_labels: str | None = option(
        None,
        "The negative and the positive label, where the model calls them otherwise.",
        metavar="negative=LABEL,positive=LABEL",
        affects="writing",
        group="Columns",
    )
    neutral_band: float | None = option(
        None,
        "Label rows NEUTRAL whose polarity is nearer to 0 than this, such as 0.3; adds the column "
        "polarity.",
        metavar="P",
        affects="writing",
        group="Columns",
    )
    unsure_below: float | None = option(
        None,
        "Add a column unsure, true where the score is lower, and judge coverage by it.",
        metavar="SCORE",
        affects="writing",
        group="Columns",
    )

    @property
    def writes_polarity(self) -> bool:
        """Whether there is a column polarity: it tells which side a neutral row leans to."""
        return self.polarity or self.neutral_band is not None


@dataclass(frozen=True)
class OutputOptions(ColumnOptions):
    """Which columns are added, what is noted of the run, and which tables are written beside it."""

    no_receipt: bool = option(
        False,
        "Leave out the receipt: model, options and input's SHA-256 in the metadata of a Parquet or "
        "Arrow output.",
        affects="writing",
        group="Run",
    )
    group_by: str | None = option(
        None,
        "Also write counts, shares and mean score per value of this column, with gold labels "
        "accuracy too, to OUTPUT's name with .groups.",
        metavar="COLUMN",
        affects="writing",
        group="Quality",
    )
    disagreements: str | None = option(
        None,
        "With --gold or --gold-stars: write the 1,000 rows furthest from them to this CSV.",
        metavar="FILE",
        affects="writing",
        group="Quality",
    )


def added_schema(labels: tuple[str, ...], options: ColumnOptions) -> pa.Schema:
    """Return the new columns."""
    fields = [("label", pa.string()), ("score", pa.float32())]
    if options.writes_polarity:
        fields += [("polarity", pa.float32())]
    if options.probabilities:
        fields += [(f"prob_{label}", pa.float32()) for label in labels]
    if options.details:
        fields += [("n_tokens", pa.int32()), ("truncated", pa.bool_())]
    if options.unsure_below is not None:
        fields += [("unsure", pa.bool_())]
    if options.sentences:
        fields += sentence_fields(details=options.details)
    return pa.schema([(options.prefix + name, kind) for name, kind in fields])


def added_batch(
    scores: Scores, labels: tuple[str, ...], schema: pa.Schema, options: ColumnOptions
) -> pa.RecordBatch:
    """Return the new columns of a chunk.

    Label, score, polarity and probabilities are null where there is no score. The score of a
    neutral row is that of the label it leans to.
    """
    scored = scores.status == SCORED
    winners, best, names = scores.winners, scores.best, list(labels)
    columns = [pa.array(best, pa.float32(), mask=~scored)]
    if options.writes_polarity:
        values = polarity(scores.probabilities, sides_of(labels, options.polarity_labels))
        columns += [pa.array(values, pa.float32(), mask=~scored)]
        if options.neutral_band is not None:
            names.append(NEUTRAL)
            winners = np.where(is_neutral(values, options.neutral_band), len(labels), winners)
    columns.insert(0, pa.array(names, pa.string()).take(pa.array(winners, mask=~scored)))
    if options.probabilities:
        columns += [
            pa.array(scores.probabilities[:, n], pa.float32(), mask=~scored)
            for n in range(len(labels))
        ]
    if options.details:
        columns += [
            pa.array(scores.n_tokens, pa.int32()),
            pa.array(scores.truncated_tokens > 0, pa.bool_()),
        ]
    if options.unsure_below is not None:
        columns += [pa.array(best < options.unsure_below, pa.bool_(), mask=~scored)]
    if options.sentences:
        assert scores.sentences is not None
        positive, negative = sides_of(labels, options.polarity_labels)
        columns += sentence_columns(
            scores.sentences, len(winners), positive, negative, details=options.details
        ).values()
    return pa.record_batch(columns, schema=schema)


def side_table_paths(output: Path, options: OutputOptions) -> dict[str, Path]:
    """Return where the tables that were asked for go, by what they are."""
    paths = {}
    if options.group_by:
        inner = output.with_suffix("") if compression_of(output) else output
        suffixes = output.name[len(inner.stem) :]
        paths["groups"] = output.with_name(f"{inner.stem}.groups{suffixes}")
    if options.disagreements:
        paths["disagreements"] = Path(options.disagreements)
    return paths


def path_beside(output: Path, ending: str) -> Path:
    """Return the path of a file that belongs to an output."""
    return output.with_name(output.name + ending)
