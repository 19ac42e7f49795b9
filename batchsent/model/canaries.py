"""Canaries: 64 texts with the logits that a model gave them when it was made, scored before a run.

A model folder's `canaries.json` has them. Another machine, number format or version of a library
that gives other answers is found before a row of the user's is scored. The texts are made up: none
is a review of the user's, since a model folder may be published.

Logits are kept centred: those of a text add up to 0. That is what its probabilities determine.
"""

import itertools
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import SCORED, Scores
from batchsent.errors import ModelError
from batchsent.evaluation import summary
from batchsent.model.encoder import LEAST_SPREAD
from batchsent.model.files import read_own_json
from batchsent.model.loading import ModelIdentity, identify
from batchsent.model.options import ModelOptions
from batchsent.model.scorer import ModelScorer
from batchsent.precisions import PRECISIONS

FILE = "canaries.json"
SCHEMA = "batchsent.canaries/1"
ABOUT = (
    "Made-up texts and the centred logits that this model gave them in float32. A run scores them "
    "first and stops where it gets others."
)
TEXTS_MOST, CHARACTERS_MOST, LABELS_MOST = 1_000, 10_000, 10_000
# The smallest probability that counts, 1e-30: below it float32 loses digits.
LEAST_PROBABILITY = 1e-30
LARGEST_LOGIT = 1e3

_SUBJECTS = ("It", "The film", "This phone", "The room on the third floor", "Their service", "She")
_PREDICATES = (
    "is great.",
    "was not what I had hoped for!",
    "works, after two weeks of waiting for a replacement",
    "fell apart on the first day; I want my money back.",
    "is fine, I suppose...",
    "could not be better",
    "made me laugh and cry, and I would come again at any time.",
    "costs 49.99 and is worth 5",
)
_UNUSUAL = (
    "!",
    "10/10",
    "😀😀😀",
    "AWFUL. JUST AWFUL.",
    "Line one<br /><br />line two &amp; more",
    "naïve café, façade, Ærøskøbing",
    "素晴らしい映画でした",
    "Отличный фильм, всем советую",
    "http://example.com/?q=good+film#top",
    "so   many\tspaces\nand lines",
    "don't, won't, can't: it's the dog's",
    "a" * 60,
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "(((brackets))) [and] {others} <of> all",
    "0 1 2 3 4 5 6 7 8 9",
    "We liked the first half. The second half was slow, and the ending made no sense. " * 8,
)
TEXTS = (*map(" ".join, itertools.product(_SUBJECTS, _PREDICATES)), *_UNUSUAL)


@dataclass(frozen=True)
class Canaries:
    """Texts, and the logits that a model gave them."""

    texts: tuple[str, ...]
    logits: NDArray[np.float64]  # (texts, labels) centred; NaN where a text has no score
    weights_sha256: str | None = None


def write_canaries(folder: Path) -> Canaries:
    """Score the canaries with a finished model folder, in float32 on the CPU, and write them there.

    Raises ModelError or DeviceError.
    """
    options = ModelOptions(device="cpu", precision="float32")
    with closing(ModelScorer.open(identify(str(folder)), options)) as scorer:
        return _write(folder, scorer)


def _write(folder: Path, scorer: ModelScorer) -> Canaries:
    logits = centred_logits(scorer.score_apart(TEXTS))
    found = Canaries(TEXTS, logits, scorer.identity.weights_sha256)
    document = {
        "schema": SCHEMA,
        "about": ABOUT,
        "weights_sha256": found.weights_sha256,
        "labels": list(scorer.labels),
        "texts": list(found.texts),
        "logits": [
            None if np.isnan(row).any() else [round(float(value), 6) for value in row]
            for row in found.logits
        ],
    }
    (folder / FILE).write_bytes(summary.dumps(document))
    return found


def read(
    folder: Path, labels: Sequence[str], *, weights_sha256: str | None = None
) -> Canaries | None:
    """Read the canaries of a model folder; None where it has none.

    Raises ModelError for a file that is damaged, or belongs to other weights or labels.
    """
    hint = "copy or download the model again, or remove the file"

    def parse(document: Mapping[str, Any]) -> Canaries:
        return _parse(document, labels)

    return read_own_json(folder / FILE, SCHEMA, hint, parse, weights_sha256)


def _parse(document: Mapping[str, Any], labels: Sequence[str]) -> Canaries:
    """Return what a document says. Raises a built-in error for one that no model gives."""
    texts, rows = tuple(document["texts"]), document["logits"]
    if not 0 < len(texts) == len(rows) <= TEXTS_MOST or len(labels) > LABELS_MOST:
        raise ValueError(f"it has {len(texts)} texts and {len(rows)} rows of logits")
    if not all(isinstance(text, str) and len(text) <= CHARACTERS_MOST for text in texts):
        raise ValueError("one of its texts is missing or too long")
    if document["labels"] != list(labels):
        raise ValueError("it is about other labels than the model's")
    logits = np.full((len(texts), len(labels)), np.nan)
    for row, given in enumerate(rows):
        if given is not None:
            logits[row] = np.array(given, dtype=np.float64)
            if not (np.abs(logits[row]) < LARGEST_LOGIT).all():
                raise ValueError("a logit of it is not finite, or no model gives it")
    return Canaries(texts, logits, document["weights_sha256"])


def open_scorer(identity: ModelIdentity, options: ModelOptions) -> ModelScorer:
    """Load a model and score its canaries, where its folder has some.

    Raises UsageError, ModelError or DeviceError as `ModelScorer.open` does, and ModelError for
    answers outside the tolerance.
    """
    canaries = read(identity.path, identity.labels, weights_sha256=identity.weights_sha256)
    scorer = ModelScorer.open(identity, options)
    if canaries is not None:
        scorer.canaries = compare(canaries, scorer)
    return scorer


def compare(canaries: Canaries, scorer: ModelScorer) -> dict[str, Any]:
    """Score the canaries and say how far the logits are from those in the folder.

    Returns the summary's section `model.canaries`. The difference is a share of the spread
    (standard deviation) of the folder's logits, as in the check of the forward pass. Texts that the
    scorer reads in part or in windows are left out: their logits depend on its options. Raises
    ModelError where a difference is larger than the tolerance of the precision, or no number.
    """
    scores = scorer.score_apart(canaries.texts)
    # The folder's logits were computed at its own length, which --max-length may exceed.
    length = min(scorer.max_length, scorer.identity.max_length)
    whole = scores.n_tokens + scores.truncated_tokens < length
    known = ~np.isnan(canaries.logits).any(axis=1) & whole
    found, wanted = centred_logits(scores)[known], canaries.logits[known]
    spread = max(float(wanted.std()), LEAST_SPREAD) if len(wanted) else 1.0
    difference = float(np.abs(found - wanted).max(initial=0)) / spread
    flips = int((found.argmax(axis=1) != wanted.argmax(axis=1)).sum())
    precision = scorer.device.precision
    tolerance = PRECISIONS[precision].tolerance
    if not difference <= tolerance:
        how = "are not numbers" if np.isnan(difference) else f"differ by {difference:.2g}"
        raise ModelError(
            f"the model gives other answers here than where it was made: the logits of its "
            f"{len(wanted)} test texts {how}, {tolerance:g} of their spread is allowed in "
            f"{precision}; {flips} labels changed",
            hint="try --precision float32 or --device cpu; where the folder was changed on "
            f"purpose, remove {FILE} from it",
        )
    return {
        "texts": len(wanted),
        "largest_difference": round(difference, 6),
        "tolerance": tolerance,
        "label_flips": flips,
    }


def centred_logits(scores: Scores) -> NDArray[np.float64]:
    """Return (texts, labels) logits that add up to 0; NaN where a text has no score."""
    logits = np.log(np.maximum(scores.probabilities.astype(np.float64), LEAST_PROBABILITY))
    logits -= logits.mean(axis=1, keepdims=True)
    logits[scores.status != SCORED] = np.nan
    return logits
