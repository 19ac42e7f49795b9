"""predict and predict_proba take the texts of a list, or of a series or an array of any library."""

import inspect
import threading

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from batchsent.commands.predict import Model
from batchsent.errors import UsageError
from batchsent.options import build
from batchsent.run.options import FrameOptions
from tests.hash_model import HashScorer, expected

TEXTS = ["a great film", None, "bad", ""]


@pytest.fixture
def hashed():
    """The hash model, loaded."""
    return Model(HashScorer())


def series(library):
    """The texts as libraries have them."""
    if library == "polars":
        return pytest.importorskip("polars").Series(TEXTS)
    return {
        "tuple": tuple(TEXTS),
        "generator": (text for text in TEXTS),
        "numpy": np.array(TEXTS, dtype=object),
        "pandas": pd.Series(TEXTS, index=[3, 3, 1, 0]),
        "NaN": pd.Series([text if text is not None else np.nan for text in TEXTS], dtype=object),
        "NA": pd.Series(TEXTS, dtype="string"),
        "category": pd.Series(TEXTS, dtype="category"),
        "index": pd.Index(TEXTS),
        "extension": pd.array(TEXTS),
        "bytes": pd.Series([None if text is None else text.encode() for text in TEXTS]),
        "array": pa.array(TEXTS),
        "chunked": pa.chunked_array([TEXTS[:1], TEXTS[1:]], pa.large_string()),
        "dictionary": pa.array(TEXTS).dictionary_encode(),
    }[library]


@pytest.mark.parametrize(
    "library",
    [
        *("tuple", "generator", "numpy", "pandas", "NaN", "NA", "category", "index", "bytes"),
        *("extension", "array", "chunked", "dictionary", "polars"),
    ],
)
def test_a_series_of_any_library_is_predicted_in_its_order(hashed, library):
    """Missing values have no label; all others that of their text."""
    found = hashed.predict(series(library))
    assert [(one.label, one.score) for one in found] == [expected(text) for text in TEXTS]
    assert [one.status for one in found] == ["scored", "blank", "scored", "blank"]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (None, "predict takes a list of texts, not NoneType"),
        (3, "predict takes a list of texts, not int"),
        (np.array("nice"), "predict takes a list of texts, not ndarray"),
        ("nice", r"predict\(\[text\]\)"),
        (b"nice", r"predict\(\[text\]\)"),
        ({"text": "nice"}, "a list of texts, not dict"),
        ({"nice"}, "a list of texts, not set"),
        ([b"nice"], "text 0 is not text but bytes"),
        (["nice", 3.5], "text 1 is not text but float: 3.5"),
        (pd.Series([1, 2]), "the series holds int64, not text"),
        (pd.Series(["nice", 3]), r"row 2 \(index 1\).* not text but int: 3"),
        (pa.array([1.5]), "the series holds double, not text"),
        (pd.DataFrame({"text": ["nice"]}), "one column of texts, not a frame"),
        (pa.table({"text": ["nice"]}), "one column of texts, not a frame"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_texts_is_said(hashed, texts, said):
    """What was found, and what to write."""
    for function in (hashed.predict, hashed.predict_proba):
        with pytest.raises(UsageError, match=said):
            function(texts)


def test_no_texts_give_no_predictions(hashed):
    """Of any kind."""
    assert hashed.predict([]) == hashed.predict(pd.Series([], dtype=object)) == []
    assert hashed.predict_proba([]).shape == (0, 2)


def test_bytes_that_are_not_utf8_are_counted(hashed):
    """As in a file."""
    with pytest.warns(UserWarning, match=r"1 text\(s\) hold bytes that are not valid utf-8"):
        found = hashed.predict(pa.array([b"caf\xe9"]))
    assert found[0].label == expected("caf\ufffd")[0]


# --- scikit-learn


class Reversed(HashScorer):
    """The hash model with its labels the other way round."""

    labels = ("POSITIVE", "NEGATIVE")


def test_probabilities_stand_in_the_order_of_classes():
    """Which is that of the alphabet, whatever the order of the model's labels."""
    model = Model(Reversed())
    assert model.labels == ("POSITIVE", "NEGATIVE")
    assert list(model.classes_) == ["NEGATIVE", "POSITIVE"]
    found = model.predict_proba(pd.Series(TEXTS))
    assert (found.shape, found.dtype) == ((4, 2), np.float32)
    for row, prediction in zip(found, model.predict(TEXTS), strict=True):
        if prediction.label is None:
            assert np.isnan(row).all()
        else:
            assert dict(zip(model.classes_, row.tolist(), strict=True)) == prediction.probabilities


def test_metrics_of_scikit_learn_take_the_probabilities():
    """log_loss and roc_auc_score read the columns as they are meant, and refuse missing rows."""
    metrics = pytest.importorskip("sklearn.metrics")
    model = Model(Reversed())
    texts = [f"text {n}" for n in range(40)]
    found = model.predict_proba(texts)
    labels = [prediction.label for prediction in model.predict(texts)]
    best = [prediction.score for prediction in model.predict(texts)]
    assert metrics.log_loss(labels, found, labels=model.classes_) == pytest.approx(
        -np.log(best).mean(), rel=1e-5
    )
    assert metrics.roc_auc_score(labels, found[:, 1]) == 1
    with pytest.raises(ValueError, match="NaN"):
        metrics.log_loss(["POSITIVE", "NEGATIVE"], model.predict_proba(["good", None]))


# --- the loaded model


def test_score_frame_has_the_options_of_batch():
    """Its parameters, with their defaults, are those that a frame has in batch."""
    parameters = dict(inspect.signature(Model.score_frame).parameters)
    del parameters["self"], parameters["frame"]
    given = {name: parameter.default for name, parameter in parameters.items()}
    assert build(FrameOptions, given) == FrameOptions()
    assert set(given) == set(FrameOptions.__dataclass_fields__)


def test_a_model_predicts_while_a_reader_of_it_is_scored(model):
    """Threads take turns: each gets the answers that it gets alone."""
    texts = [f"a {word} film" for word in ("great", "bad", "boring", "lovely")] * 25
    alone = [prediction.label for prediction in model.predict(texts)]
    reader = model.score_frame(pa.table({"text": texts * 20}).to_reader(100), chunk_rows=100)
    found = []
    threads = [threading.Thread(target=lambda: found.append(model.predict(texts))) for _ in "ab"]
    reader.read_next_batch()
    for thread in threads:
        thread.start()
    rest = reader.read_all()["label"].to_pylist()
    for thread in threads:
        thread.join()
    assert rest == (alone * 20)[100:]
    assert [[one.label for one in each] for each in found] == [alone, alone]
