"""Simulate dumps of known shares: counted, corrected and EMQ shares, expected and true accuracy.

    python examples/corrected_shares.py test.parquet
    python examples/corrected_shares.py test.parquet --model MODEL --resamples 100

The labelled reviews, and one sentence of each, are scored once (kept in --work). Dumps with a share
of positive rows from 10 % to 90 % are then drawn from them, each row once, and given to what a run
computes. How often the interval holds the true share is counted twice: with the held-out rows of
the model, which are always the same, and with 1,000 held-out rows drawn anew from the reviews for
each dump, none of them in it. The second is what a 95 % interval promises.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import crops
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import batchsent
from batchsent.chunk import SCORED, Scores
from batchsent.evaluation.without_labels import WithoutLabels
from batchsent.model import held_out
from batchsent.model.calibration import apply_temperature
from batchsent.model.loading import identify
from batchsent.training.held_out import count_held_out

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
HELD_OUT = 1_000  # rows drawn anew
SEED = 42


@dataclass(frozen=True)
class Rows:
    """Labelled rows with the model's raw and calibrated probabilities."""

    raw: np.ndarray  # (rows, 2) float32
    calibrated: np.ndarray  # (rows, 2) float32
    gold: np.ndarray  # (rows,) 0 negative, 1 positive

    def draw(self, positive: int, rows: int, among: np.ndarray, random: Any) -> np.ndarray:
        """Return the numbers of so many positive and other rows `among` these, each once."""
        chosen = []
        for label, count in ((1, positive), (0, rows - positive)):
            chosen.append(random.choice(among[self.gold[among] == label], count, replace=False))
        return np.concatenate(chosen)


@click.command()
@click.argument("reviews")
@click.option("--model", default="embedded", show_default=True, help="Model folder or Hub id.")
@click.option("--rows", default=1_000, show_default=True, help="Rows of a dump.")
@click.option("--resamples", default=500, show_default=True, help="Dumps of each share.")
@click.option("--work", default="corrected-shares-work", help="Folder of the scored reviews.")
def main(reviews: str, model: str, rows: int, resamples: int, work: str) -> None:
    """Print a table of shares and one of accuracies, of reviews and of one sentence of each.

    REVIEWS is a Parquet file with text and label (0 negative, 1 positive).
    """
    identity = identify(None if model == "embedded" else model)
    counts = held_out.read(identity.path, weights_sha256=identity.weights_sha256)
    if counts is None:
        raise click.UsageError(f"{model} has no {held_out.FILE}")
    place = Path(work)
    place.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(reviews, columns=["text", "label"])
    kinds = {"reviews": table, "one sentence": crops.crop_table(table, 1, 1, crops.SEED)}
    found = {}
    for kind, labelled in kinds.items():
        scored = score(labelled, model, place / f"{kind.replace(' ', '-')}.parquet")
        known = Rows(scored[0], apply_temperature(scored[0], counts.temperature), scored[1])
        for share in SHARES:
            redraw = kind == "reviews"
            found[kind, share] = simulate(known, share, rows, resamples, counts, redraw=redraw)
    click.echo(f"{resamples} dumps of {rows:,} rows for each line; {counts.rows:,} held-out rows\n")
    print_tables(found, resamples)


def score(labelled: pa.Table, model: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities (rows, 2) of labelled texts and their labels; scored if need be."""
    pq.write_table(labelled, path)
    output = path.with_suffix(".scored.parquet")
    batchsent.batch(path, output, model=model, probabilities=True, prefix="pred_", overwrite=True)
    scored = pq.read_table(output)
    each = [scored[f"pred_prob_{label}"].to_numpy() for label in ("NEGATIVE", "POSITIVE")]
    return np.stack(each, axis=1).astype(np.float32), scored["label"].to_numpy()


def simulate(
    known: Rows,
    share: float,
    rows: int,
    resamples: int,
    counts: held_out.HeldOut,
    *,
    redraw: bool,
) -> dict[str, float]:
    """Return the mean figures of dumps with this share of positive rows."""
    random = np.random.default_rng([SEED, round(100 * share)])
    everything = np.arange(len(known.gold))
    positive = round(share * rows)
    sums: dict[str, list[float]] = {}
    for _ in range(resamples):
        dump = known.draw(positive, rows, everything, random)
        section = section_of(known.calibrated[dump], counts.calibrated)
        figures = figures_of(section, share)
        figures["counted"] = float((known.raw[dump].argmax(axis=1) == 1).mean())
        figures["expected"] = section["expected_accuracy"]
        figures["true"] = float((known.raw[dump].argmax(axis=1) == known.gold[dump]).mean())
        if redraw:
            apart = random.choice(everything, HELD_OUT, replace=False)
            others = np.setdiff1d(everything, apart)
            again = count_held_out(
                ("NEGATIVE", "POSITIVE"),
                known.raw[apart],
                known.gold[apart],
                temperature=counts.temperature,
            )
            dump = known.draw(positive, rows, others, random)
            anew = figures_of(section_of(known.calibrated[dump], again.calibrated), share)
            figures |= {f"{name} anew": value for name, value in anew.items()}
        for name, value in figures.items():
            sums.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in sums.items()}


def section_of(probabilities: np.ndarray, calibrated: np.ndarray) -> dict[str, Any]:
    """Return what a run says of rows with these calibrated probabilities."""
    nothing = np.zeros(len(probabilities), np.int32)
    status = np.full(len(probabilities), SCORED, np.uint8)
    counted = WithoutLabels(("NEGATIVE", "POSITIVE"), calibrated)
    counted.add(Scores(probabilities, nothing, nothing, status, len(probabilities)))
    return counted.section()


def figures_of(section: dict[str, Any], share: float) -> dict[str, float]:
    """Return the figures of the corrected share of positive rows, those that there are."""
    corrected = section["corrected"]
    figures = {"passed": float(corrected["why_not"] is None)}
    figures |= corrected["drift"]
    if corrected["labels"]:
        entry = corrected["labels"][1]
        low, high = entry["interval"]
        figures |= {
            "corrected": entry["share"],
            "emq": entry["emq"],
            "half": (high - low) / 2,
            "inside": float(low <= share <= high),
        }
    return figures


def print_tables(found: dict[tuple[str, float], dict[str, float]], resamples: int) -> None:
    """Print the mean figures as tables in Markdown."""
    click.echo(
        "| texts | true | counted | corrected | interval | EMQ | drift (limit) | corrected in | "
        "interval holds | with held-out rows drawn anew |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    for (kind, share), figures in found.items():
        cells = [kind, f"{share:.0%}", f"{figures['counted']:.1%}"]
        if "corrected" in figures:
            cells += [f"{figures['corrected']:.1%}", f"± {100 * figures['half']:.1f}"]
            cells += [f"{figures['emq']:.1%}"]
        else:
            cells += ["-", "-", "-"]
        cells += [f"{figures['distance']:.3f} ({figures['limit']:.3f})"]
        cells += [f"{round(figures['passed'] * resamples)} of {resamples}"]
        for name in ("inside", "inside anew"):
            cells.append(f"{figures[name]:.1%}" if name in figures else "-")
        click.echo(f"| {' | '.join(cells)} |")
    click.echo("\n| texts | true share | expected accuracy | true accuracy |\n|---|---|---|---|")
    for (kind, share), figures in found.items():
        click.echo(f"| {kind} | {share:.0%} | {figures['expected']:.3f} | {figures['true']:.3f} |")


if __name__ == "__main__":
    main()
