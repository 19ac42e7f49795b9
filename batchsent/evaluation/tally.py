"""Count the rows of a run chunk by chunk, in constant memory, for the sections of the summary."""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.chunk import BLANK, PENDING, SCORED, Chunk, Scores
from batchsent.evaluation.bins import FIXED, Lengths, count, fixed, share
from batchsent.evaluation.familiarity import FamiliarityTally
from batchsent.evaluation.gates import check_score
from batchsent.evaluation.gold import LEFT_OUT, MISSING, UNMATCHED, GoldRule
from batchsent.evaluation.polarity import NeutralTally
from batchsent.evaluation.quality import LABELS_IN_FULL, Quality
from batchsent.evaluation.sentences import SentenceTally
from batchsent.evaluation.without_labels import WithoutLabels
from batchsent.row_texts import characters
from batchsent.text import visible

SCORE_BINS = 50

# Gold values that match no label: how many distinct ones are counted and shown, and with how many
# characters.
UNMATCHED_COUNTED = 1_000
UNMATCHED_SHOWN = 20
UNMATCHED_CHARACTERS = 60


class Tally:
    """The counts of one run.

    Each chunk is added once, in order; `sections` may be called at any time. With a `gold` rule
    every chunk must have its gold cells, and the sections hold an evaluation. Rows whose score is
    below `unsure_below` are counted as unsure. `winners_only` says that the probabilities other
    than the winner's are unknown and given as 0. With `sentences` every chunk must have
    the scores of its sentences. With `without_labels` the sections hold the expected accuracy and
    the corrected shares. Raises UsageError for an `unsure_below` that is
    not between 0 and 1.
    """

    def __init__(
        self,
        labels: tuple[str, ...],
        gold: GoldRule | None = None,
        *,
        unsure_below: float | None = None,
        winners_only: bool = False,
        sentences: SentenceTally | None = None,
        without_labels: WithoutLabels | None = None,
        familiarity: FamiliarityTally | None = None,
        neutral: NeutralTally | None = None,
    ) -> None:
        check_score("--unsure-below", unsure_below)
        self.labels = tuple(labels)
        self.gold = gold
        self.unsure_below = unsure_below
        self.by_status = np.zeros(4, dtype=np.int64)
        self.rejected = 0
        self.distinct = 0
        # of a cascade: rows with the score of the fast model, and of the main one; no reused rows
        self.cascade_rows = (0, 0)
        self.characters = Lengths()
        self.tokens = Lengths()
        self.truncated_rows = 0
        self.truncated_tokens = 0
        self.score_counts = np.zeros((len(self.labels), SCORE_BINS), dtype=np.int64)
        self.score_sums = np.zeros(len(self.labels), dtype=np.int64)  # in 1 / FIXED
        self.unsure = 0
        self.sentences = sentences
        self.without_labels = without_labels
        self.familiarity = familiarity
        self.neutral = neutral
        self.quality: Quality | None = None
        if gold is not None:
            self.quality = Quality(self.labels, unsure_below, winners_only=winners_only)
        self.gold_counts = {"missing": 0, "left_out": 0, "unmatched": 0, "not_scored": 0}
        self.unmatched: dict[str, int] = {}
        self.unmatched_others = 0

    def add(self, chunk: Chunk, scores: Scores, calibrated: Scores | None = None) -> None:
        """Count a finished chunk.

        `calibrated` are its calibrated scores, None where the model has no temperature.
        """
        status = scores.status
        assert len(status) == chunk.rows
        assert not (status == PENDING).any()
        self.by_status += count(status, 4)
        self.distinct += scores.distinct
        if scores.escalated is not None:
            scored = status == SCORED
            if scores.reused is not None:
                scored &= ~scores.reused
            decided, escalated = self.cascade_rows
            self.cascade_rows = (
                decided + int((scored & ~scores.escalated).sum()),
                escalated + int((scored & scores.escalated).sum()),
            )

        lengths = np.maximum(characters(chunk.texts), 0)
        self._add_lengths(lengths, scores)
        self._add_scores(scores)
        if self.sentences is not None:
            self.sentences.add(scores)
        if self.without_labels is not None and calibrated is not None:
            self.without_labels.add(calibrated)
        gold = None
        if self.gold is not None and self.quality is not None:
            assert chunk.gold is not None
            numbers = gold = self.gold.numbers(chunk.gold)
            self._count_gold(chunk.gold, numbers, status == SCORED)
            judged = (status == SCORED) & (numbers >= 0)
            self.quality.add(
                numbers[judged],
                scores.winners[judged],
                scores.probabilities[judged],
                lengths[judged],
                scores.truncated_tokens[judged] > 0,
            )
        if self.neutral is not None:
            self.neutral.add(scores, gold)

    def _add_lengths(self, lengths: NDArray[np.int64], scores: Scores) -> None:
        """Count the lengths of the texts: `lengths` (rows,) in characters."""
        has_text = scores.status != BLANK
        truncated = scores.truncated_tokens.astype(np.int64)
        self.characters.add(lengths[has_text])
        self.tokens.add((scores.n_tokens + truncated)[has_text])
        if self.familiarity is not None and scores.odd_pieces is not None:
            self.familiarity.add(scores.odd_pieces, scores.n_tokens)
        self.truncated_rows += int((truncated > 0).sum())
        self.truncated_tokens += int(truncated.sum())

    def _add_scores(self, scores: Scores) -> None:
        """Count the scores of scored rows by label and bin."""
        scored, n = scores.status == SCORED, len(self.labels)
        winners, score = scores.winners[scored], scores.best[scored]
        in_bins = (score.astype(np.float64) * SCORE_BINS).astype(np.int64)
        in_bins = np.minimum(in_bins, SCORE_BINS - 1)
        both = count(winners * SCORE_BINS + in_bins, n * SCORE_BINS)
        self.score_counts += both.reshape(n, SCORE_BINS)
        self.score_sums += count(winners, n, fixed(score))
        if self.unsure_below is not None:
            self.unsure += int((score < self.unsure_below).sum())

    def reject(self, rows: int) -> None:
        """Count rows that were left out of the output because they could not be read."""
        self.rejected += rows

    def rows(self) -> dict[str, int]:
        """Return what became of every row; unlike the other sections it is cheap."""
        _, scored, blank, nonfinite = (int(rows) for rows in self.by_status)
        written = scored + blank + nonfinite
        return {
            "read": written + self.rejected,
            "scored": scored,
            "blank": blank,
            "rejected": self.rejected,
            "nonfinite": nonfinite,
            "written": written,
            "distinct": self.distinct,
        }

    def sections(self) -> dict[str, Any]:
        """Return the sections rows, text, predictions, sentences and evaluation of the summary.

        read = scored + blank + rejected + nonfinite; written = read - rejected. Lengths and
        distinct texts are those of rows with text.
        """
        rows = self.rows()
        return {
            "rows": rows,
            "text": self._text(),
            "predictions": self._predictions(rows["scored"]),
            "sentences": self.sentences and self.sentences.section(rows["scored"]),
            "evaluation": self._evaluation(),
        }

    def _text(self) -> dict[str, Any]:
        tokens = self.tokens.section()
        rows = tokens["count"]
        return {
            "characters": self.characters.section(),
            # Tokens of the texts, not only those that the model read; of a text that was cut a
            # lower bound.
            "tokens": tokens,
            "truncated_rows": self.truncated_rows,
            "truncated_share": share(self.truncated_rows, rows),
            "tokens_read": tokens["total"] - self.truncated_tokens,
            "tokens_cut_at_least": self.truncated_tokens,
            "unfamiliar": self.familiarity and self.familiarity.section(),
        }

    def _predictions(self, scored: int) -> dict[str, Any]:
        labels: list[dict[str, Any]] = []
        for i, label in enumerate(self.labels):
            rows = int(self.score_counts[i].sum())
            entry: dict[str, Any] = {
                "label": label,
                "count": rows,
                "share": share(rows, scored),
                "mean_score": share(int(self.score_sums[i]) / FIXED, rows),
            }
            if len(self.labels) <= LABELS_IN_FULL:
                entry["score_counts"] = self.score_counts[i].tolist()
            labels.append(entry)
        unlabelled: dict[str, Any] = {"expected_accuracy": None, "corrected": None}
        if self.without_labels is not None:
            unlabelled = self.without_labels.section()
        unsure = unsure_share = None
        if self.unsure_below is not None:
            unsure, unsure_share = self.unsure, share(self.unsure, scored)
        return {
            "labels": labels,
            "mean_score": share(int(self.score_sums.sum()) / FIXED, scored),
            "score_histogram": {
                "edges": [i / SCORE_BINS for i in range(SCORE_BINS + 1)],
                "counts": self.score_counts.sum(axis=0).tolist(),
            },
            "unsure_below": self.unsure_below,
            "unsure": unsure,
            "unsure_share": unsure_share,
            **unlabelled,
            "neutral": self.neutral and self.neutral.section(scored),
        }

    def _count_gold(self, cells: list[Any], numbers: Any, scored: Any) -> None:
        self.gold_counts["missing"] += int((numbers == MISSING).sum())
        self.gold_counts["left_out"] += int((numbers == LEFT_OUT).sum())
        self.gold_counts["not_scored"] += int(((numbers >= 0) & ~scored).sum())
        unmatched = np.nonzero(numbers == UNMATCHED)[0]
        self.gold_counts["unmatched"] += len(unmatched)
        for value, rows in Counter(str(cells[row]) for row in unmatched.tolist()).items():
            # Shortened twice: an escape such as \u202e is shown as six characters.
            shown = visible(value[:UNMATCHED_CHARACTERS])[:UNMATCHED_CHARACTERS]
            if shown in self.unmatched or len(self.unmatched) < UNMATCHED_COUNTED:
                self.unmatched[shown] = self.unmatched.get(shown, 0) + rows
            else:
                self.unmatched_others += rows

    def _evaluation(self) -> dict[str, Any] | None:
        if self.gold is None or self.quality is None:
            return None
        # The commonest first; equal counts by value, so that a resumed run lists the same.
        ranked = sorted(self.unmatched.items(), key=lambda item: (-item[1], item[0]))
        shown, others = ranked[:UNMATCHED_SHOWN], ranked[UNMATCHED_SHOWN:]
        return {
            "gold": {
                **self.gold.facts(),
                **self.gold_counts,
                "unmatched_values": [{"value": value, "count": rows} for value, rows in shown],
                "unmatched_others": self.unmatched_others + sum(rows for _, rows in others),
            },
            **self.quality.section(),
        }
