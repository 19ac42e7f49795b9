"""What the figures of a run should make its owner do."""

import re
from collections.abc import Mapping
from typing import Any

from batchsent.precisions import PRECISIONS

# A run is worth a word from these shares of its rows up.
MANY_TRUNCATED = 0.10
MANY_BLANK = 0.10
MANY_UNMATCHED = 0.01
POORLY_CALIBRATED = 0.10
ENOUGH_ROWS = 100
MANY_UNFAMILIAR, ENOUGH_UNFAMILIAR = 0.05, 20
# Gold values that match no label and are numbers are ratings.
RATING = re.compile(r"\d+([.,]\d+)?")


def warning(code: str, message: str, hint: str | None = None) -> dict[str, str | None]:
    """Make one warning of a summary: a code for programs, a message and what to do for people."""
    return {"code": code, "message": message, "hint": hint}


def advise(
    sections: Mapping[str, Any], model: Mapping[str, Any] | None = None
) -> list[dict[str, str | None]]:
    """Return the warnings that the sections of `Tally.sections` call for, most serious first.

    `model` is the summary's section of that name, where the model is known: what it does already is
    not proposed. Messages hold counts and shares, never a value of the user's.
    """
    rows, text = sections["rows"], sections["text"]
    evaluation = sections["evaluation"]
    used = model or {}
    if not rows["read"]:
        return [warning("no_rows", "no row was read", "see whether the input is what you expect")]
    return [
        *_about_scores(rows, sections["predictions"], used.get("precision")),
        *(_about_gold(evaluation) if evaluation is not None else []),
        *_about_rows(rows),
        *_about_long_texts(text, used.get("long_text")),
        *_about_unfamiliar(text.get("unfamiliar")),
    ]


def _about_unfamiliar(found: Mapping[str, Any] | None) -> list[dict[str, str | None]]:
    if not found or found["judged"] < ENOUGH_UNFAMILIAR or found["share"] <= MANY_UNFAMILIAR:
        return []
    rows = ", ".join(f"{row:,}" for row in found.get("first_rows", []))
    first = f"; the first are in rows {rows}" if rows else ""
    return [
        warning(
            "unfamiliar",
            f"the model does not know many words of {found['rows']:,} of {found['judged']:,} texts "
            f"({found['share']:.1%}; very short ones are not counted{first}): another language, "
            "code, numbers or noise",
            "their labels are guesses: check that the text column is the one you meant, use a "
            "model for their language, or leave them out",
        )
    ]


def _about_scores(
    rows: Mapping[str, Any], predictions: Mapping[str, Any], precision: str | None
) -> list[dict[str, str | None]]:
    found = []
    mend = "use another copy of the model: this one has no number in float32 either"
    known = None if precision is None else PRECISIONS[precision]
    # Half precision runs such rows once more in float32 by itself.
    if known is None or (known.opt_in and not known.is_half):
        mend = "score with --precision float32"
    if rows["nonfinite"]:
        found.append(
            warning(
                "nonfinite",
                f"the model gave no number for {rows['nonfinite']:,} rows; they have no label",
                mend,
            )
        )
    used = [label for label in predictions["labels"] if label["count"]]
    if rows["scored"] >= ENOUGH_ROWS and len(used) == 1 and len(predictions["labels"]) > 1:
        found.append(
            warning(
                "one_label",
                f"all {rows['scored']:,} scored rows got the same label",
                "check that the text column and the model are the ones you meant",
            )
        )
    return found


def _about_gold(evaluation: Mapping[str, Any]) -> list[dict[str, str | None]]:
    found = []
    gold, judged = evaluation["gold"], evaluation["rows"]
    given = judged + gold["unmatched"] + gold["not_scored"]
    if gold["unmatched"] and gold["unmatched"] >= MANY_UNMATCHED * given:
        hint = (
            "see evaluation.gold.unmatched_values; name them with a mapping such as "
            "neg=NEGATIVE,pos=POSITIVE"
        )
        values = [entry["value"] for entry in gold["unmatched_values"]]
        if all(RATING.fullmatch(value) for value in values):
            hint = (
                "if they are ratings, use --gold-stars COLUMN with a rule such as "
                "--stars 1-2:NEGATIVE,4-5:POSITIVE in place of --gold"
            )
        found.append(
            warning(
                "unmatched_gold",
                f"{gold['unmatched']:,} gold values match no label and are not in the evaluation",
                hint,
            )
        )
    if not judged:
        found.append(
            warning(
                "no_gold",
                "no row has both a score and a gold label",
                "check the gold column and its mapping",
            )
        )
        return found
    if judged >= ENOUGH_ROWS and evaluation["accuracy"] <= evaluation["majority"]["accuracy"]:
        found.append(
            warning(
                "below_majority",
                f"accuracy {evaluation['accuracy']:.3f} is no better than always answering the "
                f"commonest label ({evaluation['majority']['accuracy']:.3f})",
                "check that the gold values mean what the labels mean; they may be the wrong way "
                "round",
            )
        )
    if judged >= ENOUGH_ROWS and evaluation["calibration_error"] > POORLY_CALIBRATED:
        found.append(
            warning(
                "calibration",
                f"scores are off by {evaluation['calibration_error']:.2f} on average: do not read "
                "them as chances",
                "rank by them, or fit a threshold on labelled rows",
            )
        )
    return found


def _about_rows(rows: Mapping[str, Any]) -> list[dict[str, str | None]]:
    found = []
    if rows["rejected"]:
        found.append(
            warning(
                "rejected",
                f"{rows['rejected']:,} rows could not be read and are not in the output",
                "see the rejects file for the reasons",
            )
        )
    if rows["written"] and rows["blank"] >= MANY_BLANK * rows["written"]:
        found.append(
            warning(
                "blank",
                f"{rows['blank']:,} of {rows['written']:,} rows have no text",
                "check that the text column is the one you meant",
            )
        )
    return found


def _about_long_texts(
    text: Mapping[str, Any], long_text: str | None
) -> list[dict[str, str | None]]:
    share = text["truncated_share"]
    if share is None or share < MANY_TRUNCATED:
        return []
    others = "--long-text window, which reads all of it"
    if long_text in {None, "head"}:
        others = "--long-text head-tail, or window, which reads all of it"
    return [
        warning(
            "truncated",
            f"{share:.0%} of the texts are longer than the model reads; "
            f"it did not see {text['tokens_cut_at_least']:,} tokens or more",
            f"try {others}; compare the figures of truncated and whole texts before trusting the "
            "labels of long ones",
        )
    ]
