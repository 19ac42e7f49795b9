"""`batchsent predict`: label and score of a few texts, or of each line of stdin."""

import json
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchsent.errors import UsageError
from batchsent.evaluation.polarity import sides_of
from batchsent.filenames import is_regular
from batchsent.model.options import NamedModelOptions
from batchsent.options import build, option
from batchsent.reporting import Reporter
from batchsent.standard_streams import check_stdin
from batchsent.text import printable

if TYPE_CHECKING:
    from batchsent.commands.predict import Prediction

# Read at once: far more than a pipe holds.
BLOCK_BYTES = 1 << 20
# One word that ends as a dump does is a misspelt path and not a review.
FILE_NAME = re.compile(r"\S+\.(csv|tsv|parquet|arrow|jsonl)(\.gz|\.zst)?", re.IGNORECASE)


@dataclass(frozen=True)
class PredictOptions(NamedModelOptions):
    """How a few texts are scored."""

    sentences: bool = option(
        False,
        "Also print label and score of each sentence; in colour on a terminal where they are "
        "clearly positive or negative.",
    )
    polarity_labels: str | None = option(
        None,
        "With --sentences: the negative and the positive label, where the model calls them "
        "otherwise.",
        metavar="negative=LABEL,positive=LABEL",
    )


def predictions(
    texts: Sequence[str], *, reporter: Reporter | None = None, **options: Any
) -> Iterator[tuple[str, "Prediction"]]:
    """Yield each text with its prediction.

    Without texts, each line of stdin: those that have arrived are scored together. Options are
    those of PredictOptions. Warns, at the end, of texts for which the model gave no finite number,
    and raises ModelError where it gave none for any. Raises UsageError for the name of a file.
    """
    settings = build(PredictOptions, options)
    reporter = reporter or Reporter()
    for text in texts:
        check_no_file(text, settings.model)
    if not texts:
        check_stdin()
        if sys.stdin.isatty():
            raise UsageError("there is no text", hint="give texts, or pipe lines in")
    reporter.notice("loading the model")
    # These take a second, which the user is told of first.
    from batchsent.commands.predict import STATUS, Model
    from batchsent.model.loading import identify
    from batchsent.model.scorer import ModelScorer
    from batchsent.run.nonfinite import describe_nonfinite

    identity = identify(settings.model, settings.revision)
    if settings.sentences:
        sides_of(identity.labels, settings.polarity_labels)  # refused before the model loads
    model = Model(ModelScorer.open(identity, settings, always_check=False))
    for said in model.scorer.facts()["device"]["warnings"]:
        reporter.warning(said)
    counts = dict.fromkeys(STATUS.values(), 0)
    batches = [list(texts)] if texts else arrived_lines(sys.stdin.buffer)
    first = not texts
    for batch in batches:
        if first and is_json_object(batch[0]):
            reporter.warning(
                "the lines are JSON objects, and each is scored as it stands, names and quotes "
                "included: to score their texts, pipe them into batchsent batch - --input-format "
                "jsonl -o -"
            )
        first = False
        found = model.predict(
            batch, sentences=settings.sentences, polarity_labels=settings.polarity_labels
        )
        for text, prediction in zip(batch, found, strict=True):
            counts[prediction.status] += 1
            yield text, prediction
    lacking = describe_nonfinite(counts["nonfinite"], counts["scored"], "texts")
    if lacking is not None:
        reporter.warning(lacking)


def is_json_object(line: str) -> bool:
    """Tell whether a line is a JSON object, which a person does not write as a review."""
    try:
        return line.lstrip().startswith("{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def check_no_file(text: str, model: str | None) -> None:
    """Raise UsageError for the name of a file: its rows are meant, not the words of its name."""
    named = "" if model is None else f" --model {shlex.quote(printable(model))}"
    name = printable(text)
    if is_regular(text):
        scored = shlex.quote(f"scored_{name.rpartition('/')[2]}")
        raise UsageError(
            f"{name} is a file: predict takes texts",
            hint=f"use batch: batchsent batch {shlex.quote(name)} -o {scored}{named}",
        )
    if FILE_NAME.fullmatch(text):
        raise UsageError(
            f"there is no file {name}, and predict takes texts",
            hint="check the path for batchsent batch; to score these very words, pipe them in",
        )


def arrived_lines(stream: Any) -> Iterator[list[str]]:  # typeshed's stdin.buffer has no read1
    """Yield the lines of a stream in lists: all that have arrived, as soon as one has.

    Undecodable bytes are for the model to read as U+FFFD, not a reason to stop.
    """
    rest = b""
    while block := stream.read1(BLOCK_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        if lines:
            yield [decode(line) for line in lines]
    if rest:
        yield [decode(rest)]


def decode(line: bytes) -> str:
    """Return a line as text, without its end."""
    return line.decode("utf-8", "replace").rstrip("\r\n")
