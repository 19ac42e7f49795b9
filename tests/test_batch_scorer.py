"""A model as a function of batches, which engines send to their workers."""

import pickle
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from batchsent import BatchScorer, UsageError, load
from batchsent.commands import batch_scorer

ROOT = Path(__file__).parents[1]
FRAME = pd.DataFrame(
    {"id": ["1", "2", "3"], "text": ["great film", None, "a bad book"]}, index=[7, 8, 9]
)


@pytest.fixture(scope="module")
def scorer(tiny_model):
    """A scorer as it arrives in a worker."""
    made = BatchScorer(tiny_model, device="cpu", probabilities=True)
    return pickle.loads(pickle.dumps(made))


def test_a_scorer_is_small_and_loads_the_model_with_its_first_rows(tiny_model):
    """What is sent to the workers are the options; a frame without rows needs no model."""
    made = BatchScorer(tiny_model, max_length=32)
    assert len(pickle.dumps(made)) < 2000
    empty = made(FRAME.iloc[:0])
    assert list(empty.columns) == ["id", "text", "label", "score"]
    model = batch_scorer._models[made._options]
    assert model._shared is None
    made(FRAME)
    assert model._shared is not None


def test_the_copies_of_a_process_share_one_model(scorer):
    """Engines unpickle their function for each task."""
    copies = [pickle.loads(pickle.dumps(scorer)) for _ in range(3)]
    assert len({id(copy._model().open()) for copy in copies}) == 1


def test_a_frame_comes_back_with_the_columns_that_dask_was_told_of(scorer, tiny_model):
    """Rows, index and scores are those of score_frame; the columns and types those of `meta`."""
    meta, scored = scorer(FRAME.iloc[:0]), scorer(FRAME)
    assert (meta.dtypes == scored.dtypes).all()
    expected = load(tiny_model, device="cpu").score_frame(FRAME, probabilities=True)
    pd.testing.assert_frame_equal(scored, expected)


def test_arrow_batches_go_through_as_map_in_arrow_wants_it(scorer):
    """An iterator of record batches in, one out, read as it is needed; nothing for nothing."""
    batch = pa.RecordBatch.from_pandas(FRAME, preserve_index=False)
    found = list(scorer.arrow_batches(iter([batch, batch.slice(0, 0), batch])))
    assert all(isinstance(one, pa.RecordBatch) for one in found)
    table = pa.Table.from_batches(found)
    assert table.schema.field("label").type == pa.string()
    assert table.schema.field("score").type == pa.float32()
    assert table["id"].to_pylist() == ["1", "2", "3"] * 2
    one = scorer(batch)
    assert table["score"].to_pylist() == pytest.approx(one["score"].to_pylist() * 2)
    assert list(scorer.arrow_batches(iter([]))) == []


def test_arrays_of_ray_data_come_back_as_arrays(scorer):
    """Other arrays, of any shape, are passed on as they are; a missing label is None."""
    images = np.zeros((3, 2))
    scored = scorer({"text": np.array(FRAME["text"], object), "image": images})
    assert scored["image"] is images
    assert scored["label"][1] is None
    assert scored["score"].dtype == np.float32
    assert np.isnan(scored["score"]).tolist() == [False, True, False]


def test_a_wrong_option_is_refused_where_the_scorer_is_made():
    """Not in a worker, an hour later."""
    with pytest.raises(UsageError, match="no option 'text_colum'"):
        BatchScorer(text_colum="review")


def test_the_dask_recipe_runs(fork_server, tmp_path, tiny_model):
    """Where Dask is installed."""
    pytest.importorskip("dask.dataframe", reason="dask is not installed")
    command = ["examples/dask_reviews.py", "examples/reviews.csv", tmp_path / "out", tiny_model]
    subprocess.run([fork_server.python, *command], cwd=ROOT, check=True, capture_output=True)
    scored = pd.read_parquet(tmp_path / "out")
    assert len(scored) == len(pd.read_csv(ROOT / "examples/reviews.csv"))
    assert scored["label"].isin(["NEGATIVE", "POSITIVE"]).any()
