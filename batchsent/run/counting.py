"""The tally of a run: what its options and its model ask to be counted for the summary."""

from batchsent.evaluation.familiarity import FamiliarityTally
from batchsent.evaluation.polarity import NeutralTally
from batchsent.evaluation.sentences import SentenceTally
from batchsent.evaluation.tally import Tally
from batchsent.run.options import BatchOptions
from batchsent.run.plan import RunPlan


def make_tally(plan: RunPlan, options: BatchOptions) -> Tally:
    """Return the tally of a run, with nothing counted yet."""
    labels = plan.identity.labels
    sentences = neutral = None
    if plan.sides is not None and options.sentences:
        sentences = SentenceTally(*plan.sides)
    if plan.sides is not None and options.neutral_band is not None:
        outside = held_out_outside(plan, options)
        neutral = NeutralTally(labels, plan.sides, options.neutral_band, outside)
    known = plan.reliability.held_out
    familiarity = None
    if known is not None and known.odd_pieces_above is not None:
        familiarity = FamiliarityTally(known.odd_pieces_above)
    return Tally(
        labels,
        plan.gold,
        unsure_below=options.unsure_below,
        sentences=sentences,
        neutral=neutral,
        without_labels=plan.reliability.counts(labels),
        familiarity=familiarity,
    )


def held_out_outside(plan: RunPlan, options: BatchOptions) -> tuple[int, int, int] | None:
    """Return how many of the model's held-out rows lie outside the neutral band.

    With how many of these are right, and how many there are in all; None where the model has none.
    """
    assert options.neutral_band is not None
    found = plan.reliability.held_out
    if found is None:
        return None
    # Of two labels the higher probability p has a polarity of 2p - 1.
    score = (1 + options.neutral_band) / 2
    kept, right = found.at_least(score, calibrated=options.calibrated)
    return kept, right, found.rows
