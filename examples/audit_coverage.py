"""How often the intervals of an audit hold the truth: 2,000 simulated audits of each kind of dump.

    python examples/audit_coverage.py                       200 labels
    python examples/audit_coverage.py --labels 50 200 1000 --sharpness 0.5 1 3

Prints a table: coverage and half width in points of the prediction-powered intervals of accuracy
and share, and of the share by the labels alone.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from batchsent.evaluation.audit import Design, Estimate, labels_alone, prediction_powered
from batchsent.evaluation.sampling import ScoreCounts

LABELS = ("NEGATIVE", "POSITIVE")
AUDITS, DUMP_ROWS = 2_000, 10_000


class Simulation:
    """A dump with known gold labels and as many audits of it as AUDITS, each a draw of its own.

    The score of a row is that of two normal distributions as far apart as the accuracy says; with
    `sharpness` other than 1 the model is more or less sure than it is right.
    """

    def __init__(
        self,
        share: float,
        accuracy: float,
        rows: int = 200,
        sharpness: float = 1.0,
        seed: int = 1,
    ) -> None:
        from scipy.special import ndtri

        random = np.random.default_rng(seed)
        gold = random.random(DUMP_ROWS) < share
        middle = ndtri(accuracy)
        evidence = random.normal(np.where(gold, middle, -middle))
        positive = 1 / (1 + np.exp(-2 * middle * evidence * sharpness))
        said = positive > 0.5
        score = np.where(said, positive, 1 - positive).astype(np.float32)
        self.share, self.accuracy = gold.mean(), (gold == said).mean()
        self.counted, self.mean_score = said.mean(), score.mean(dtype=np.float64)

        labels = [LABELS[int(side)] for side in said]
        counts = ScoreCounts()
        counts.add(labels, score)
        strata = counts.strata(rows)
        numbers = strata.of(labels, score)
        drawn = []
        for stratum, count in enumerate(strata.drawn):
            members = np.flatnonzero(numbers == stratum)
            keys = random.random((AUDITS, len(members)), dtype=np.float32)
            drawn.append(members[np.argpartition(keys, count - 1, axis=1)[:, :count]])
        chosen = np.concatenate(drawn, axis=1)  # (audits, labelled)
        self.design = Design(strata.rows, np.repeat(np.arange(len(strata.rows)), strata.drawn))
        self.gold, self.said, self.score = gold[chosen], said[chosen], score[chosen]

    def of_accuracy(self) -> list[Estimate]:
        """Return the accuracy that each audit finds."""
        right = self.gold == self.said
        wrong = (~right).sum(axis=1)
        return prediction_powered(self.mean_score, right - self.score, self.design, wrong)

    def of_share(self) -> list[Estimate]:
        """Return the share of positive rows that each audit finds."""
        wrong = (self.gold != self.said).sum(axis=1)
        differences = self.gold.astype(float) - self.said
        return prediction_powered(self.counted, differences, self.design, wrong)

    def of_labels_alone(self) -> list[Estimate]:
        """Return the share of positive rows by the labels of each audit alone."""
        return labels_alone(self.gold.astype(float), self.design)


def coverage(estimates: Sequence[Estimate], truth: float) -> float:
    """Return the share of intervals that hold the truth."""
    return float(np.mean([entry.low <= truth <= entry.high for entry in estimates]))


def width(estimates: Sequence[Estimate]) -> float:
    """Return the mean width of the intervals."""
    return float(np.mean([entry.high - entry.low for entry in estimates]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, nargs="+", default=[200])
    parser.add_argument("--sharpness", type=float, nargs="+", default=[1.0])
    parser.add_argument(
        "--accuracies", type=float, nargs="+", default=[0.75, 0.85, 0.92, 0.96, 0.99]
    )
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.3, 0.5, 0.7, 0.9])
    asked = parser.parse_args()
    print("| labels | sharpness | accuracy | share | counted | accuracy | share | labels alone |")
    print("|---|---|---|---|---|---|---|---|")
    for labels in asked.labels:
        for sharpness in asked.sharpness:
            for accuracy in asked.accuracies:
                for share in asked.shares:
                    found = Simulation(share, accuracy, labels, sharpness)
                    cells = [
                        f"{coverage(estimates, truth):.1%} ±{50 * width(estimates):.1f}"
                        for estimates, truth in (
                            (found.of_accuracy(), found.accuracy),
                            (found.of_share(), found.share),
                            (found.of_labels_alone(), found.share),
                        )
                    ]
                    row = (labels, f"{sharpness:g}", accuracy, share, f"{found.counted:.3f}")
                    print("|", " | ".join([*map(str, row), *cells]), "|", flush=True)


if __name__ == "__main__":
    main()
