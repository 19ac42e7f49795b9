"""Count a run as its chunks pass, in constant memory; knows nothing of files, models and time."""

from collections import Counter
from typing import Any

import numpy as np

from batchsent.chunk import BLANK, PENDING, SCORED, Chunk, Scores
from batchsent.evaluation.bins import FIXED, Lengths, count, fixed
from batchsent.evaluation.gates import check_score
from batchsent.evaluation.gold import LEFT_OUT, MISSING, UNMATCHED, GoldRule
from batchsent.evaluation.quality import LABELS_IN_FULL, Quality
from batchsent.text import printable

SCORE_BINS = 50

# Gold values that match no label: counted up to so many distinct ones, so many shown, cut at so
# many characters.
UNMATCHED_COUNTED = 1_000
UNMATCHED_SHOWN = 20
UNMATCHED_CHARACTERS = 60


class Tally:
    """The counts of one run.

    Each chunk is added once, in order; `sections` may be asked at any time. With a `gold` rule
    every chunk must carry its gold cells, and the sections hold an evaluation. Rows whose score is
    under `unsure_below` are counted as unsure. `winners_only` says that the probabilities other
    than the winner's are unknown and given as 0. Raises UsageError for an `unsure_below` that is no
    score.
    """

    def __init__(
        self,
        labels: tuple[str, ...],
        gold: GoldRule | None = None,
        *,
        unsure_below: float | None = None,
        winners_only: bool = False,
    ) -> None:
        check_score("--unsure-below", unsure_below)
        self.labels = tuple(labels)
        self.gold = gold
        self.unsure_below = unsure_below
        self.by_status = np.zeros(4, dtype=np.int64)
        self.rejected = 0
        self.distinct = 0
        self.characters = Lengths()
        self.tokens = Lengths()
        self.truncated_rows = 0
        self.truncated_tokens = 0
        self.score_counts = np.zeros((len(self.labels), SCORE_BINS), dtype=np.int64)
        self.score_sums = np.zeros(len(self.labels), dtype=np.int64)  # in 1 / FIXED
        self.unsure = 0
        self.quality = (
            None if gold is None else Quality(self.labels, unsure_below, winners_only=winners_only)
        )
        self.gold_counts = {"missing": 0, "left_out": 0, "unmatched": 0, "not_scored": 0}
        self.unmatched: dict[str, int] = {}
        self.unmatched_others = 0

    def add(self, chunk: Chunk, scores: Scores) -> None:
        """Count a finished chunk."""
        status = scores.status
        assert len(status) == chunk.rows
        assert not (status == PENDING).any()
        self.by_status += count(status, 4)
        self.distinct += scores.distinct

        lengths = np.array(
            [0 if text is None else len(text) for text in chunk.texts], dtype=np.int64
        )
        has_text = status != BLANK
        self.characters.add(lengths[has_text])
        cut = scores.truncated_tokens.astype(np.int64)
        self.tokens.add((scores.n_tokens + cut)[has_text])
        truncated = cut > 0
        self.truncated_rows += int(truncated.sum())
        self.truncated_tokens += int(cut.sum())

        scored = status == SCORED
        n = len(self.labels)
        winners = scores.winners[scored]
        probabilities = scores.probabilities[scored]
        score = scores.best[scored]
        place = np.minimum((score.astype(np.float64) * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
        self.score_counts += count(winners * SCORE_BINS + place, n * SCORE_BINS).reshape(
            n, SCORE_BINS
        )
        self.score_sums += count(winners, n, fixed(score))
        if self.unsure_below is not None:
            self.unsure += int((score < self.unsure_below).sum())

        if self.gold is not None and self.quality is not None:
            assert chunk.gold is not None
            numbers = self.gold.numbers(chunk.gold)
            self._count_gold(chunk.gold, numbers, scored)
            matched = numbers >= 0
            judged = scored & matched
            among = matched[scored]
            self.quality.add(
                numbers[judged],
                winners[among],
                probabilities[among],
                lengths[judged],
                truncated[judged],
            )

    def reject(self, rows: int) -> None:
        """Count rows that were left out of the output because they could not be read."""
        self.rejected += rows

    def rows(self) -> dict[str, int]:
        """Return where every row went, at once; the other sections take a moment to compute."""
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
        """Return the sections rows, text, predictions and evaluation of the summary.

        read = scored + blank + rejected + nonfinite; written = read - rejected. Lengths and
        distinct texts are those of rows that have text. Sizes do not depend on the number of rows.
        """
        rows = self.rows()
        return {
            "rows": rows,
            "text": self._text(),
            "predictions": self._predictions(rows["scored"]),
            "evaluation": self._evaluation(),
        }

    def _text(self) -> dict[str, Any]:
        tokens = self.tokens.section()
        rows = tokens["count"]
        return {
            "characters": self.characters.section(),
            # As long as the text is, not as much as the model read; a lower bound where the text
            # was cut.
            "tokens": tokens,
            "truncated_rows": self.truncated_rows,
            "truncated_share": self.truncated_rows / rows if rows else None,
            "tokens_read": tokens["total"] - self.truncated_tokens,
            "tokens_cut_at_least": self.truncated_tokens,
        }

    def _predictions(self, scored: int) -> dict[str, Any]:
        in_full = len(self.labels) <= LABELS_IN_FULL
        labels: list[dict[str, Any]] = []
        for i, label in enumerate(self.labels):
            rows = int(self.score_counts[i].sum())
            entry: dict[str, Any] = {
                "label": label,
                "count": rows,
                "share": rows / scored if scored else None,
                "mean_score": int(self.score_sums[i]) / FIXED / rows if rows else None,
            }
            if in_full:
                entry["score_counts"] = self.score_counts[i].tolist()
            labels.append(entry)
        known = self.unsure_below is not None and scored > 0
        return {
            "labels": labels,
            "mean_score": int(self.score_sums.sum()) / FIXED / scored if scored else None,
            "score_histogram": {
                "edges": [i / SCORE_BINS for i in range(SCORE_BINS + 1)],
                "counts": self.score_counts.sum(axis=0).tolist(),
            },
            "unsure_below": self.unsure_below,
            "unsure": self.unsure if self.unsure_below is not None else None,
            "unsure_share": self.unsure / scored if known else None,
        }

    def _count_gold(self, cells: list[Any], numbers: Any, scored: Any) -> None:
        self.gold_counts["missing"] += int((numbers == MISSING).sum())
        self.gold_counts["left_out"] += int((numbers == LEFT_OUT).sum())
        self.gold_counts["not_scored"] += int(((numbers >= 0) & ~scored).sum())
        unmatched = np.nonzero(numbers == UNMATCHED)[0]
        self.gold_counts["unmatched"] += len(unmatched)
        for value, rows in Counter(str(cells[row]) for row in unmatched.tolist()).items():
            # Cut twice: an escape such as \u202e is six characters of what is shown.
            shown = printable(value[:UNMATCHED_CHARACTERS])[:UNMATCHED_CHARACTERS]
            if shown in self.unmatched or len(self.unmatched) < UNMATCHED_COUNTED:
                self.unmatched[shown] = self.unmatched.get(shown, 0) + rows
            else:
                self.unmatched_others += rows

    def _evaluation(self) -> dict[str, Any] | None:
        if self.gold is None or self.quality is None:
            return None
        # The commonest first; equal counts by value, so that a resumed run lists the same.
        ranked = sorted(self.unmatched.items(), key=lambda item: (-item[1], item[0]))
        shown = ranked[:UNMATCHED_SHOWN]
        return {
            "gold": {
                **self.gold.facts(),
                **self.gold_counts,
                "unmatched_values": [{"value": value, "count": rows} for value, rows in shown],
                "unmatched_others": self.unmatched_others
                + sum(rows for _, rows in ranked[UNMATCHED_SHOWN:]),
            },
            **self.quality.section(),
        }
