"""A data frame of any library comes back as its own kind, with a label and a score in every row."""

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import batchsent
from batchsent.errors import UsageError
from tests.column_types import everything
from tests.hash_model import HashModels, expected

TEXTS = ["a great film", None, "", "bad plot", "NA", "  "]


class Capsule:
    """An object that has the Arrow stream interface and nothing else."""

    def __init__(self, table):
        self.__arrow_c_stream__ = table.__arrow_c_stream__


def polars_frame(table):
    return pytest.importorskip("polars").from_arrow(table)


# How a frame is made of a table, and turned into one again.
KINDS = {
    "pandas": (lambda table: table.to_pandas(), pa.Table.from_pandas),
    "polars": (polars_frame, lambda frame: frame.to_arrow()),
    "table": (lambda table: table, lambda table: table),
    "batch": (
        lambda table: table.combine_chunks().to_batches()[0],
        lambda batch: pa.Table.from_batches([batch]),
    ),
    "reader": (lambda table: table.to_reader(2), lambda reader: reader.read_all()),
    "capsule": (Capsule, lambda table: table),
}


@pytest.fixture(params=KINDS)
def kind(request):
    """How a frame of each kind is made, and turned into a table."""
    return KINDS[request.param]


def score(frame, **options):
    """Score with the hash model."""
    return batchsent.batch(frame, models=HashModels(), **options)


def pandas_like(values):
    """Missing values as pandas compares them."""
    return [None if pd.isna(value) else value for value in values]


# --- every kind


def test_a_frame_comes_back_as_its_own_kind(kind):
    """The same class, the same rows in their order, the user's columns first, two more."""
    make, to_table = kind
    frame = make(pa.table({"id": range(6), "text": TEXTS}))
    scored = score(frame)
    assert type(scored) is (pa.Table if isinstance(frame, Capsule) else type(frame))
    table = to_table(scored)
    assert table.column_names == ["id", "text", "label", "score"]
    assert table["id"].to_pylist() == list(range(6))
    assert pandas_like(table["text"].to_pylist()) == TEXTS
    found = zip(table["label"].to_pylist(), table["score"].to_pylist(), strict=True)
    assert [tuple(pandas_like(row)) for row in found] == [expected(text) for text in TEXTS]
    assert table.schema.field("score").type == pa.float32()


@pytest.fixture(
    scope="module",
    params=[
        {"probabilities": True, "details": True, "prefix": "p_"},
        {"polarity": True, "unsure_below": 0.7},
        {"neutral_band": 0.5, "sentences": True, "details": True},
        {"limit": 3},
        {"limit": 0},
    ],
    ids=str,
)
def written(request, tmp_path_factory):
    """A table, some options, and the columns that batch adds to the table as an Arrow file."""
    table = pa.table({"text": [*TEXTS, "Great cast. Bad plot! Nice music."] * 3})
    folder = tmp_path_factory.mktemp("written")
    with pa.ipc.new_stream(folder / "in.arrow", table.schema) as writer:
        writer.write_table(table)
    options = {"models": HashModels(), "no_receipt": True, **request.param}
    batchsent.batch(folder / "in.arrow", folder / "out.arrow", **options)
    added = pa.ipc.open_stream(folder / "out.arrow").read_all().drop_columns("text")
    return table, request.param, added


def test_the_columns_are_those_that_the_command_writes(kind, written):
    """Names and values are those of the Arrow file that batch writes with these options."""
    make, to_table = kind
    table, options, written = written
    scored = to_table(score(make(table), **options)).drop_columns("text")
    assert scored.column_names == written.column_names
    for name in written.column_names:
        assert pandas_like(scored[name].to_pylist()) == written[name].to_pylist()


def test_an_empty_frame_gets_its_columns(kind):
    """Of the types that they have in a frame with rows."""
    make, to_table = kind
    table = pa.table({"text": TEXTS})
    if make is KINDS["batch"][0]:
        empty = score(table.to_batches()[0].slice(0, 0))
    else:
        empty = score(make(table.slice(0, 0)))
    full = score(make(table))
    if isinstance(full, pd.DataFrame):
        assert list(empty.dtypes)[1:] == list(full.dtypes)[1:]
    empty, full = to_table(empty), to_table(full)
    assert (empty.num_rows, empty.column_names) == (0, full.column_names)
    if make is not KINDS["pandas"][0]:
        assert empty.schema == full.schema


def test_a_name_that_is_taken_is_refused_before_the_model_loads(kind):
    """A column called label is not overwritten, and the hint is Python."""
    models = HashModels()
    make, to_table = kind
    table = pa.table({"text": ["good"], "label": [1]})
    with pytest.raises(UsageError, match="column called label already") as caught:
        batchsent.batch(make(table), models=models)
    assert caught.value.hint == "add prefix='pred_' to call the new columns something else"
    assert models.opened == 0
    scored = to_table(score(make(table), prefix="pred_"))
    assert scored.column_names == ["text", "label", "pred_label", "pred_score"]


def test_a_column_that_is_not_text_is_refused_before_the_model_loads(kind):
    """In the words of the command, with the type that was found."""
    models = HashModels()
    make, _ = kind
    with pytest.raises(UsageError, match="column text is int64, not text"):
        batchsent.batch(make(pa.table({"text": [1, 2]})), models=models)
    with pytest.raises(UsageError, match="no column called text or review; its columns are a, b"):
        batchsent.batch(make(pa.table({"a": ["x"], "b": ["y"]})), models=models)
    with pytest.raises(UsageError, match="more than one column that could be the text"):
        batchsent.batch(make(pa.table({"text": ["x"], "Review": ["y"]})), models=models)
    assert models.opened == 0


def test_text_inside_a_struct_is_named_with_a_dot(kind):
    """As in a file; pandas has structs as Arrow types only."""
    make, to_table = kind
    table = pa.table({"review": [{"text": "good", "stars": 5}, None]})
    frame = make(table)
    if isinstance(frame, pd.DataFrame):
        frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    scored = to_table(score(frame, text_column="review.text"))
    assert pandas_like(scored["label"].to_pylist()) == [expected("good")[0], None]


# --- Arrow


@pytest.mark.parametrize("form", ["table", "batch", "reader"])
def test_every_type_of_arrow_comes_back_as_it_was(form):
    """Nested, dictionary, decimal, extension types, and the metadata of fields and schema."""
    table = everything()
    make, to_table = KINDS[form]
    scored = to_table(score(make(table)))
    assert scored.schema.metadata == table.schema.metadata
    same = scored.select(table.column_names)
    assert str(same["double"].to_pylist()) == str(table["double"].to_pylist())  # has NaN
    assert same.drop_columns("double").equals(table.drop_columns("double"), check_metadata=True)


def test_columns_of_one_name_stay_and_the_text_goes_by_its_number():
    """Two columns called text are said; text_column_index tells which."""
    table = pa.Table.from_arrays([pa.array([7]), pa.array(["bad"]), pa.array(["good"])], ["x"] * 3)
    with pytest.raises(UsageError, match="3 columns called x") as caught:
        score(table, text_column="x")
    assert "text_column_index" in caught.value.hint
    scored = score(table, text_column_index=3)
    assert scored.column_names == ["x", "x", "x", "label", "score"]
    assert scored["label"].to_pylist() == [expected("good")[0]]


def test_text_that_is_not_utf8_is_read_as_the_command_reads_it():
    """The model reads U+FFFD, the frame keeps its bytes, a warning counts them."""
    table = pa.table({"text": [b"caf\xe9", b"good"]})
    with pytest.warns(UserWarning, match=r"1 text\(s\) hold bytes that are not valid utf-8"):
        scored = score(table)
    assert scored["text"].to_pylist() == [b"caf\xe9", b"good"]
    assert scored["label"].to_pylist() == [expected("caf\ufffd")[0], expected("good")[0]]


def test_the_receipt_of_an_earlier_run_does_not_speak_for_new_columns(tmp_path):
    """It names another model and other options."""
    (tmp_path / "in.csv").write_text("text\ngood\n")
    batchsent.batch(tmp_path / "in.csv", tmp_path / "out.arrow", models=HashModels())
    table = pa.ipc.open_stream(tmp_path / "out.arrow").read_all()
    assert table.schema.metadata
    assert not score(table, prefix="again_").schema.metadata


# --- readers


def endless():
    """A reader of rows without an end, and how many batches it has given."""
    given = []

    def batches():
        while True:
            given.append(1)
            yield pa.record_batch({"text": [f"text {len(given)}"] * 10})

    return pa.RecordBatchReader.from_batches(pa.schema([("text", pa.string())]), batches()), given


def test_a_reader_is_scored_as_it_is_read():
    """What is read in advance is bounded: the first rows of an endless reader arrive."""
    reader, given = endless()
    scored = score(reader, chunk_rows=20)
    assert given == []
    first = scored.read_next_batch()
    assert first["label"].to_pylist()[::10] == [expected("text 1")[0], expected("text 2")[0]]
    assert len(given) <= 2 * 12  # ten chunks and what the last one needs
    assert score(endless()[0], limit=25).read_all().num_rows == 25


def test_an_error_of_the_users_reader_is_the_users():
    """It comes as it was raised, when its place is reached."""

    def batches():
        yield pa.record_batch({"text": ["good"]})
        raise KeyError("mine")

    reader = pa.RecordBatchReader.from_batches(pa.schema([("text", pa.string())]), batches())
    with pytest.raises(KeyError, match="mine"):
        score(reader).read_all()


def test_progress_is_not_promised_for_a_reader():
    """It is scored after the call has returned."""
    with pytest.raises(UsageError, match="scored when they are read"):
        score(endless()[0], progress=True)


# --- polars


def test_polars_keeps_its_types_and_takes_its_kinds_of_text():
    """Categories, enums, bytes and Python's objects are text too; no other column is looked at."""
    pl = pytest.importorskip("polars")
    others = {"object": [object(), None], "list": [[1], []], "time": [datetime.time(1), None]}
    for dtype in (pl.String, pl.Categorical, pl.Enum(["good"]), pl.Binary, pl.Object):
        values = [b"good" if dtype == pl.Binary else "good", None]
        frame = pl.DataFrame({"text": pl.Series(values, dtype=dtype), **others})
        scored = score(frame)
        assert scored.schema == {**frame.schema, "label": pl.String, "score": pl.Float32}
        assert scored["label"].to_list() == [expected("good")[0], None]
    with pytest.raises(UsageError, match="row 2: column text is not text but int: 3"):
        score(pl.DataFrame({"text": pl.Series(["good", 3], dtype=pl.Object)}))
    with pytest.raises(UsageError, match="LazyFrame"):
        score(pl.LazyFrame({"text": ["good"]}))


# --- pandas


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([7, 7, 1], name="key"),
        pd.MultiIndex.from_tuples([("a", 1), ("a", 1), ("b", 2)], names=["x", "y"]),
        pd.date_range("2024-01-01", periods=3, freq="D"),
        pd.CategoricalIndex(["a", "b", "a"]),
    ],
    ids=lambda index: type(index).__name__,
)
def test_pandas_keeps_index_dtypes_and_values(index):
    """Sparse, categorical, extension types, objects that Arrow has no type for, and attrs."""
    frame = pd.DataFrame(
        {
            "text": ["good", None, "bad"],
            "sparse": pd.arrays.SparseArray([0, 0, 1]),
            "category": pd.Categorical(["5", "1", "5"], ordered=True),
            "nullable": pd.array([1, None, 3], dtype="Int8"),
            "arrow": pd.array([[1], None, []], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
            "zone": pd.to_datetime(["2024-01-01"] * 3).tz_localize("Europe/Rome"),
            "period": pd.period_range("2024", periods=3, freq="M"),
            "interval": pd.interval_range(0, 3),
            "mixed": [object(), 1, "x"],
            "complex": [1j, 2, 3],
        },
    ).set_index(index)
    frame.attrs["source"] = {"file": "a.csv"}
    before = frame.copy()
    scored = score(frame)
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(scored[list(frame.columns)], before)
    pd.testing.assert_index_equal(scored.index, index, exact=True)
    assert scored.attrs == before.attrs
    assert pandas_like(scored["label"]) == [expected(text)[0] for text in ("good", None, "bad")]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["good", None], dtype=object),
        pd.Series(["good", np.nan], dtype=object),
        pd.Series(["good", pd.NA], dtype="string"),
        pd.Series(["good", None], dtype="category"),
        pd.Series(pd.arrays.SparseArray(np.array(["good", np.nan], dtype=object))),
        pd.Series([b"good", None]),
        pd.Series(["good", None], dtype=pd.ArrowDtype(pa.large_string())),
        pd.Series(["good", None], dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))),
    ],
    ids=lambda column: str(column.dtype),
)
def test_pandas_text_of_any_dtype_is_text(column):
    """Every missing value is a row without text."""
    assert pandas_like(score(pd.DataFrame({"text": column}))["label"]) == [
        expected("good")[0],
        None,
    ]


def test_a_pandas_column_without_any_text_is_blank():
    """read_csv gives an empty column as numbers."""
    scored = score(pd.DataFrame({"text": [np.nan, np.nan]}), details=True, unsure_below=0.5)
    assert scored["label"].isna().all()
    assert scored.dtypes["label"] == score(pd.DataFrame({"text": ["good"]})).dtypes["label"]
    assert str(scored.dtypes["unsure"]) == "boolean"


def test_a_cell_that_is_not_text_is_found_before_the_model_loads():
    """Its row is named, by number and by index, also behind a thousand good ones."""
    models = HashModels()
    frame = pd.DataFrame({"text": ["good"] * 2000 + [3.5]}, index=range(10, 2011))
    with pytest.raises(UsageError, match=r"row 2,001 \(index 2010\): .* not text but float: 3.5"):
        batchsent.batch(frame, models=models)
    assert models.opened == 0


def test_pandas_columns_have_names_of_any_kind():
    """Numbers, dates, nothing, several levels, several times the same."""
    plain = pd.DataFrame([["good", 1], ["bad", 2]])
    assert list(score(plain, text_column=0).columns) == [0, 1, "label", "score"]
    assert list(score(plain, text_column_index=1).columns) == [0, 1, "label", "score"]
    with pytest.raises(UsageError, match="its columns are 0, 1"):
        score(plain)
    day = pd.Timestamp("2024-01-01")
    dated = plain.set_axis(pd.DatetimeIndex([day, day + pd.Timedelta(1, "D")]), axis=1)
    assert score(dated, text_column=day).columns[-1] == "score"
    assert list(score(plain.set_axis(["text", None], axis=1)).columns)[-2:] == ["label", "score"]
    assert list(score(plain.set_axis(pd.CategoricalIndex(["text", "n"]), axis=1)).columns) == [
        *("text", "n", "label", "score")
    ]
    twice = plain.assign(more=3).set_axis(["text", "x", "x"], axis=1)
    assert list(score(twice).columns) == ["text", "x", "x", "label", "score"]


def test_pandas_columns_of_several_levels_keep_them():
    """The new ones stand in the first level; a second run sees that they are there."""
    columns = pd.MultiIndex.from_tuples([("review", "text"), ("n", "")], names=["x", "y"])
    frame = pd.DataFrame([["good", 1], ["bad", 2]], columns=columns)
    with pytest.raises(UsageError, match="its columns are review/text, n") as caught:
        score(frame)
    assert "text_column='review/text'" in caught.value.hint
    for name in (("review", "text"), "review/text"):
        scored = score(frame, text_column=name)
        assert list(scored.columns) == [*columns, ("label", ""), ("score", "")]
        assert scored.columns.names == ["x", "y"]
        assert list(scored["label"]) == [expected("good")[0], expected("bad")[0]]
    with pytest.raises(UsageError, match="column called label already"):
        score(scored, text_column=("review", "text"))


def test_several_text_columns_are_named_as_pandas_has_them():
    """A tuple is one column where the frame has it, and several where it does not."""
    frame = pd.DataFrame([["great", "film"], [None, "bad"]])
    labels = [expected(text)[0] for text in ("great\n\nfilm", "bad")]
    for names in ([0, 1], (0, 1)):
        assert list(score(frame, text_column=names)["label"]) == labels
    several = frame.set_axis(pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")]), axis=1)
    assert list(score(several, text_column=[("a", "x"), ("a", "y")])["label"]) == labels
    assert list(score(several, text_column=("a", "y"))["label"])[1:] == labels[1:]


def test_halves_of_surrogate_pairs_do_not_stop_a_frame():
    """They are read as the model reads them in a list."""
    scored = score(pd.DataFrame({"text": pd.Series(["a \ud83d\ude00 \ud800"], dtype=object)}))
    assert scored["label"][0] == expected("a \U0001f600 \ufffd")[0]


# --- what is not a frame, and options that are not for frames


def test_options_about_files_are_refused_for_a_frame():
    """By their names; misspelt ones too, and an output."""
    frame = pd.DataFrame({"text": ["good"]})
    for options in ({"overwrite": True}, {"gold": "x"}, {"delimiter": ";"}, {"dry_run": True}):
        with pytest.raises(UsageError, match=f"{next(iter(options))} is an option for files"):
            score(frame, **options)
    with pytest.raises(UsageError, match="no option 'precison'"):
        score(frame, precison="float32")
    with pytest.raises(UsageError, match="scored into a frame, not into a file"):
        score(frame, output="scored.csv")
    assert list(score(frame, overwrite=False).columns) == ["text", "label", "score"]


@pytest.mark.parametrize(
    "given",
    [
        *(None, 3, b"a.csv", [1], {"text": ["good"]}),
        *(pd.Series(["good"]), pa.array(["good"]), pa.chunked_array([["good"]])),
        *(pd.DataFrame(), pa.table({})),
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_is_no_frame_and_no_path_is_said(given):
    """A clear error, whatever it is."""
    with pytest.raises(UsageError, match=r"a frame|no columns"):
        score(given)


def test_a_path_needs_an_output():
    """And the error says what to call."""
    for paths in ("a.csv", ["a.csv", "b.csv"]):
        with pytest.raises(UsageError, match="need an output") as caught:
            batchsent.batch(paths)
        assert "stream(input)" in caught.value.hint


def test_a_frame_has_progress(capsys):
    """As a file has."""
    score(pd.DataFrame({"text": ["good"]}), progress=True)
    assert "model hash" in capsys.readouterr().err
