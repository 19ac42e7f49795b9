"""Texts that do not look like what a model has learned: counted, and said above a share of rows."""

import json

import numpy as np
import pandas as pd
import pytest

from batchsent.commands.batch import batch
from batchsent.evaluation.familiarity import LEAST_PIECES, limit_of
from batchsent.model import held_out
from batchsent.model.loading import EMBEDDED_FOLDER, identify, load_model
from batchsent.model.odd_pieces import count_odd, odd_pieces
from batchsent.model.tokens import make_text_encoder
from tests.models import make_model

ENGLISH = [
    f"The {thing} came {when} and works {how}; I would buy it again, since the price was fair."
    for thing in ("phone", "book", "lamp", "table", "camera")
    for when in ("on time", "a day late", "in a small box", "without a manual", "as promised")
    for how in ("very well", "as it should")
]
GERMAN = [
    f"{what} ist leider schon nach {days} Tagen kaputtgegangen, der Kundendienst antwortet nicht."
    for what in ("Das Gerät", "Der Staubsauger", "Die Waschmaschine", "Mein Fernseher")
    for days in range(2, 10)
]


def scored(tmp_path, texts):
    """The summary of a run of the embedded model on texts."""
    source = tmp_path / "in.csv"
    pd.DataFrame({"text": texts}).to_csv(source, index=False)
    return batch(source, tmp_path / "out.csv", device="cpu", overwrite=True)


def codes(summary):
    """The codes of a summary's warnings."""
    return [one["code"] for one in summary["warnings"]]


def test_reviews_in_the_models_language_are_familiar(tmp_path):
    """No warning; every text that is long enough is judged."""
    summary = scored(tmp_path, [*ENGLISH, "Great!", ""])
    found = summary["text"]["unfamiliar"]
    assert (found["rows"], found["judged"]) == (0, len(ENGLISH))
    assert "unfamiliar" not in codes(summary)


def test_a_dump_in_another_language_is_warned_of(tmp_path):
    """With how many rows, and what to do."""
    summary = scored(tmp_path, GERMAN)
    found = summary["text"]["unfamiliar"]
    assert found["share"] > 0.9
    (said,) = [one for one in summary["warnings"] if one["code"] == "unfamiliar"]
    assert f"{found['rows']} of {len(GERMAN)} texts" in said["message"]
    assert "a model for their language" in said["hint"]
    # A row that is too short to be judged counts as a row.
    summary = scored(tmp_path, ["Great!", *ENGLISH[:3], *GERMAN])
    assert summary["text"]["unfamiliar"]["first_rows"] == [5, 6, 7]
    assert "the first are in rows 5, 6, 7" in str(summary["warnings"])


def test_a_column_of_numbers_is_warned_of(tmp_path):
    """The warning names numbers, and asks whether that is the text column."""
    summary = scored(tmp_path, [str(10**17 + 7**n) for n in range(20)])
    (said,) = [one for one in summary["warnings"] if one["code"] == "unfamiliar"]
    assert "numbers" in said["message"]
    assert "check that the text column is the one you meant" in said["hint"]


def test_some_rows_are_counted_without_a_warning(tmp_path):
    """Up to a twentieth of the rows."""
    summary = scored(tmp_path, [*ENGLISH, *GERMAN[:2]])
    assert summary["text"]["unfamiliar"]["rows"] == 2
    assert "unfamiliar" not in codes(summary)


def test_the_counts_are_those_of_the_pieces_names():
    """Pieces that begin with ## and the unknown one, of the tokenizer's own list of pieces."""
    model = load_model(identify(None), device="cpu")
    table = odd_pieces(model.tokenizer)
    texts = ["I love it", "Waschmaschine 素晴 kaputt", "x" * 50, ""]
    tokens = make_text_encoder(model.tokenizer, 512).encode(texts)
    wanted = []
    for text in texts:
        pieces = model.tokenizer.tokenize(text)
        wanted.append(sum(piece.startswith("##") or piece == "[UNK]" for piece in pieces))
    assert count_odd(tokens, table).tolist() == wanted


def test_the_limit_leaves_one_held_out_row_in_a_thousand():
    """Plus a margin, and without texts that are too short to say anything."""
    pieces = np.full(2_000, 20)
    odd = np.zeros(2_000, dtype=np.int64)
    odd[:3] = 10
    assert limit_of(odd, pieces) == 0.55
    odd[1:3] = 4
    assert limit_of(odd, pieces) == 0.25
    assert limit_of(np.array([1]), np.array([LEAST_PIECES - 1])) is None


def test_an_interrupted_run_counts_the_same(tmp_path):
    """The counts are kept with the scores."""
    from batchsent.model.options import ModelOptions
    from batchsent.model.scorer import ModelScorer
    from batchsent.run.parts import pack, unpack

    scorer = ModelScorer.open(identify(None), ModelOptions(device="cpu"))
    scores = scorer.score(scorer.prepare([*GERMAN[:3], "", None]))
    again = unpack(pack(scores), 5, 2, scores.distinct, odd=True)
    assert again.odd_pieces.tolist() == scores.odd_pieces.tolist()
    assert again.status.tolist() == scores.status.tolist()
    assert scores.odd_pieces[0] > 5
    assert scores.odd_pieces[3:].tolist() == [0, 0]


def test_a_model_that_does_not_tell_has_no_figure(tmp_path):
    """One without held-out rows, and one whose tokenizer is not WordPiece."""
    source = tmp_path / "in.csv"
    source.write_text("text\ngreat film\n")
    model = make_model(tmp_path / "model")
    summary = batch(source, tmp_path / "out.csv", model=str(model), device="cpu")
    assert summary["text"]["unfamiliar"] is None
    roberta = make_model(tmp_path / "roberta", "roberta")
    tokenizer = load_model(identify(str(roberta)), device="cpu").tokenizer
    assert odd_pieces(tokenizer) is None


def test_the_embedded_model_knows_its_limit():
    """Of its held-out reviews."""
    found = held_out.read(EMBEDDED_FOLDER)
    assert 0.1 < found.odd_pieces_above < 0.5
    document = json.loads((EMBEDDED_FOLDER / held_out.FILE).read_text())
    assert document["pieces"]["odd_pieces_above"] == found.odd_pieces_above


@pytest.mark.parametrize("limit", ["a", True, -1, 2])
def test_a_damaged_limit_is_no_figure(tmp_path, limit):
    """The file is damaged: the summary says so of the corrected shares, and has no figure here."""
    from batchsent.errors import ModelError

    document = json.loads((EMBEDDED_FOLDER / held_out.FILE).read_text())
    document["pieces"]["odd_pieces_above"] = limit
    (tmp_path / held_out.FILE).write_text(json.dumps(document))
    with pytest.raises(ModelError, match="damaged"):
        held_out.read(tmp_path)
