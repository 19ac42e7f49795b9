"""Held-out rows, counted for held_out.json: what a run later holds the scores of a dump against."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import SCORED
from batchsent.evaluation.familiarity import limit_of
from batchsent.evaluation.score_cells import BINS, cell_numbers
from batchsent.model import calibration, held_out
from batchsent.model.calibration import apply_temperature
from batchsent.model.held_out import HeldOut
from batchsent.model.loading import identify
from batchsent.model.options import ModelOptions
from batchsent.model.scorer import ModelScorer
from batchsent.model.tokens import make_text_encoder

SLICE_ROWS = 512
COUNTED_TOKENS = 512  # of each text: more do not change its share of odd pieces by much


def count_held_out(
    labels: Sequence[str],
    probabilities: NDArray[np.float32],
    gold: NDArray[np.int64],
    *,
    temperature: float,
    weights_sha256: str | None = None,
    odd_pieces_above: float | None = None,
) -> HeldOut:
    """Count rows by right label, label given and its probability.

    `probabilities` (rows, labels) are the softmax without a temperature, `gold` (rows,) the numbers
    of the right labels.
    """
    return HeldOut(
        labels=tuple(labels),
        temperature=temperature,
        calibrated=_by_gold(apply_temperature(probabilities, temperature), gold),
        raw=_by_gold(probabilities, gold),
        weights_sha256=weights_sha256,
        odd_pieces_above=odd_pieces_above,
    )


def odd_pieces_limit(tokenizer: Any, texts: Sequence[str]) -> float | None:
    """Return the share of odd pieces above which a text is unlike these; None if it is not known.

    Texts are counted whole, however much of them the model reads.
    """
    tokens = make_text_encoder(tokenizer, COUNTED_TOKENS).encode(texts)
    if tokens.odd_pieces is None:
        return None
    return limit_of(tokens.odd_pieces, tokens.n_tokens)


def write_held_out(folder: Path, texts: Sequence[str], gold: Sequence[int]) -> HeldOut:
    """Score labelled rows with a finished model folder and write its held_out.json.

    No step of the training may have used the rows. `gold` are numbers of the model's labels; texts
    without a score are left out. The temperature is that of the folder's calibration.json, or 1.
    Raises ModelError or DeviceError.
    """
    identity = identify(str(folder))
    fitted = calibration.read(folder, weights_sha256=identity.weights_sha256)
    probabilities, right = [], []
    with closing(ModelScorer.open(identity, ModelOptions())) as scorer:
        for start in range(0, len(texts), SLICE_ROWS):
            stop = start + SLICE_ROWS
            scores = scorer.score(scorer.prepare([*texts[start:stop]]))
            scored = scores.status == SCORED
            probabilities.append(scores.probabilities[scored])
            right.append(np.array(gold[start:stop], dtype=np.int64)[scored])
    found = count_held_out(
        identity.labels,
        np.concatenate(probabilities),
        np.concatenate(right),
        temperature=1.0 if fitted is None else fitted.temperature,
        weights_sha256=identity.weights_sha256,
        odd_pieces_above=odd_pieces_limit(scorer.tokenizer, texts),
    )
    (folder / held_out.FILE).write_bytes(held_out.dumps(found))
    return found


def _by_gold(probabilities: NDArray[np.float32], gold: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the counts (labels, predicted, BINS) of rows with these probabilities."""
    labels = probabilities.shape[1]
    counts = np.zeros((labels, labels * BINS), dtype=np.int64)
    np.add.at(counts, (gold, cell_numbers(probabilities)), 1)
    return counts.reshape(labels, labels, BINS)
