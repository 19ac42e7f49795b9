"""A frame gets a label and a score in every row, and keeps everything else."""

import numpy as np
import pandas as pd
import pytest

import batchsent
from batchsent.errors import ModelError, UsageError


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "id": pd.array([7, None, 9, 7], dtype="Int64"),
            "text": ["a great film", None, "bad plot", "  "],
            "stars": pd.Categorical(["5", "1", "1", "5"]),
            "when": pd.to_datetime(["2024-01-01"] * 4).tz_localize("Europe/Rome"),
        },
        index=[10, 10, 3, 4],
    )


def test_score_frame_adds_two_columns_and_touches_nothing_else(model, frame):
    """Index (with duplicates), dtypes and values of the other columns stay.

    Missing text gives missing results.
    """
    before = frame.copy(deep=True)
    scored = model.score_frame(frame)
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(scored[list(frame.columns)], before)
    assert list(scored.columns) == [*frame.columns, "label", "score"]
    assert scored["score"].dtype == np.float32
    assert (
        list(scored["label"].isna()) == list(scored["score"].isna()) == [False, True, False, True]
    )
    single = model.predict(["a great film"])[0]
    assert scored["label"].iloc[0] == single.label
    assert scored["score"].iloc[0] == pytest.approx(single.score, abs=1e-6)


def test_score_frame_with_probabilities_details_and_prefix(model, frame):
    """The optional columns have the names that the files have."""
    scored = model.score_frame(frame, prefix="p_", probabilities=True, details=True)
    new = ["p_label", "p_score", "p_prob_NEGATIVE", "p_prob_POSITIVE", "p_n_tokens", "p_truncated"]
    assert list(scored.columns)[4:] == new
    assert list(scored["p_n_tokens"]) == [5, 0, 4, 0]
    assert scored["p_truncated"].dtype == bool


def test_score_frame_refuses_a_name_that_exists(model, frame):
    """A column called label is not overwritten."""
    with pytest.raises(UsageError, match="column called label already") as caught:
        model.score_frame(frame.assign(label=1))
    assert "prefix='pred_'" in caught.value.hint


def test_score_frame_needs_one_text_column(model, frame):
    """No column, two columns, or a column of numbers is said before anything runs."""
    with pytest.raises(UsageError, match="no column called text or review") as caught:
        model.score_frame(frame.rename(columns={"text": "body"}))
    assert "body" in caught.value.message
    assert "--" not in caught.value.hint
    assert len(model.score_frame(frame.rename(columns={"text": "body"}), text_column="body")) == 4
    with pytest.raises(UsageError, match="no column called txt"):
        model.score_frame(frame, text_column="txt")
    with pytest.raises(UsageError, match="column text is int64, not text"):
        model.score_frame(pd.DataFrame({"text": [1, 2]}))


def test_score_frame_of_no_rows_has_the_columns(model, frame):
    """An empty frame stays empty and gets its columns."""
    assert list(model.score_frame(frame.iloc[:0]).columns)[-2:] == ["label", "score"]


def test_k04_a_frame_tells_rows_without_a_finite_number(one_word_of_nan):
    """K04: score_frame warns where some rows have no finite number, and raises where none has."""
    model = batchsent.load(str(one_word_of_nan), device="cpu")
    with pytest.warns(UserWarning, match="no finite number for 1 of 2 rows"):
        frame = model.score_frame(pd.DataFrame({"text": ["good", "br", None]}))
    assert frame["label"].isna().tolist() == [False, True, True]
    with pytest.raises(ModelError, match="any of 1 rows"):
        model.score_frame(pd.DataFrame({"text": ["br", ""]}))
    assert [found.status for found in model.predict(["good", "br", None])] == [
        "scored",
        "nonfinite",
        "blank",
    ]
