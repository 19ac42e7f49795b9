"""Several text columns: joined the same way in training, in scoring and in every proof."""

import csv
import dataclasses
import json
import signal
from pathlib import Path

import jsonschema
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.commands.batch import batch
from batchsent.commands.compare import compare
from batchsent.commands.evaluate import evaluate
from batchsent.commands.finetune import finetune
from batchsent.commands.info import info
from batchsent.commands.predict import load
from batchsent.commands.sample import sample
from batchsent.commands.stream import stream
from batchsent.errors import GateFailed, InputError, ModelError, UsageError
from batchsent.evaluation import summary as summaries
from batchsent.model.loading import identify
from batchsent.text_columns import TextColumns
from batchsent.verification.verify import verify
from tests.children import Child, run, wait_for
from tests.hash_model import HashModels, expected
from tests.listener import Listener
from tests.reviews import write_reviews

TITLES = ["Great film", "", None, "Terrible", "  ", None]
BODIES = ["I loved it", "A waste of money", "So-so", None, "Fine", ""]
# An empty line between two values; what has no text is left out.
JOINED = ["Great film\n\nI loved it", "A waste of money", "So-so", "Terrible", "Fine", None]
BOTH = ("title", "body")


class TrainedOn(HashModels):
    """The hash model, as if it had been fine-tuned on named columns."""

    def __init__(self, *names, joint="\n\n"):
        super().__init__()
        self.columns = TextColumns(names, joint)

    def identity(self):
        return dataclasses.replace(super().identity(), text_columns=self.columns)


def write_dump(path, **more):
    """Write the rows as the suffix says; nulls are empty fields in CSV."""
    frame = pd.DataFrame({"id": range(len(TITLES)), "title": TITLES, "body": BODIES, **more})
    table = pa.Table.from_pandas(frame, preserve_index=False)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".arrow":
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.fixture
def dump(tmp_path):
    """The rows as CSV."""
    return write_dump(tmp_path / "in.csv")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet", "arrow"])
def test_the_values_are_joined_and_empty_ones_left_out(tmp_path, suffix):
    """Each row is scored as its values with an empty line between; one without any is blank."""
    source, target = write_dump(tmp_path / f"in.{suffix}"), tmp_path / "out.csv"
    summary = batch(source, target, models=HashModels(), text_column=BOTH)
    with target.open(newline="") as file:
        found = [row["label"] or None for row in csv.DictReader(file)]
    assert found == [expected(text)[0] for text in JOINED]
    assert summary["rows"]["blank"] == 1
    assert summary["input"]["columns"] == {
        "count": 3,
        "text": ["title", "body"],
        "joint": "\n\n",
        "gold": None,
    }
    assert verify(source, target)["status"] == "same"


def test_their_order_is_the_order_in_which_they_are_named(dump, tmp_path):
    """Body and title is another text than title and body."""
    summary = batch(dump, tmp_path / "out.csv", models=HashModels(), text_column=["body", "title"])
    assert summary["input"]["columns"]["text"] == ["body", "title"]
    row = (tmp_path / "out.csv").read_text().splitlines()[1]
    assert row.split(",")[3] == expected("I loved it\n\nGreat film")[0]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_fields_inside_a_struct_are_joined_too(tmp_path, suffix, named):
    """--text-column review.title --text-column review.body; or those of the model."""
    rows = [{"title": "Great", "body": "Loved it"}, None, {"title": None, "body": "So-so"}]
    source, columns = tmp_path / f"in.{suffix}", ["review.title", "review.body"]
    if suffix == "parquet":
        pq.write_table(pa.table({"review": rows}), source)
    else:
        source.write_text("".join(json.dumps({"review": row}) + "\n" for row in rows))
    options = {"text_column": columns} if named else {}
    models = HashModels() if named else TrainedOn(*columns)
    batch(source, tmp_path / "out.parquet", models=models, **options)
    found = pq.read_table(tmp_path / "out.parquet")["label"].to_pylist()
    assert found == [expected(text)[0] for text in ("Great\n\nLoved it", None, "So-so")]


def test_another_joint_can_be_given(dump, tmp_path):
    r"""--text-joint; \n is read as the end of a line."""
    for typed, joint in ((". ", ". "), ("\\n", "\n")):
        target = tmp_path / f"{len(typed)}{typed[0] == '.'}.csv"
        summary = batch(dump, target, models=HashModels(), text_column=BOTH, text_joint=typed)
        row = target.read_text().splitlines()[1]
        assert row.split(",")[3] == expected(f"Great film{joint}I loved it")[0]
        assert summary["input"]["columns"]["joint"] == joint
        assert verify(dump, target)["status"] == "same"


def test_a_single_column_is_recorded_as_ever(dump, tmp_path):
    """One name in the summary and in the fingerprint, no list, and nothing of a joint."""
    summary = batch(dump, tmp_path / "out.csv", models=HashModels(), text_column=["body"])
    assert summary["run"]["options"]["text_column"] == "body"
    assert summary["run"]["fingerprint"]["--text-column"] == "body"
    assert "--text-joint" not in summary["run"]["fingerprint"]
    assert summary["input"]["columns"] == {"count": 3, "text": "body", "gold": None}


def test_the_summary_keeps_to_its_schema(dump, tmp_path):
    """Its input section with a list of columns is described there."""
    summary = batch(dump, tmp_path / "out.csv", models=HashModels(), text_column=BOTH)
    schema = Path(summaries.__file__).with_name("summary.schema.json")
    jsonschema.validate(json.loads(json.dumps(summary)), json.loads(schema.read_text()))


@pytest.mark.parametrize(
    ("options", "said", "hint"),
    [
        ({"text_column": ["title", "title"]}, "--text-column title is given twice", "once"),
        (
            {"text_column": ["title", "bodi"]},
            "no column called bodi; its columns are id, title, body",
            "did you mean --text-column body?",
        ),
        (
            {"text_column": "title,body"},
            "no column called title,body",
            "name each with a --text-column of its own",
        ),
        ({"text_column": ["id", ""]}, "--text-column is empty", "leave it out"),
        ({"text_column": "body", "text_joint": "x"}, "--text-joint requires several", "of its own"),
        ({"text_column": BOTH, "text_joint": ""}, "--text-joint is empty", "leave it out"),
    ],
)
def test_columns_that_cannot_be_meant_are_refused(dump, tmp_path, options, said, hint):
    """Before the model loads, with the columns that there are; nothing is written."""
    models = HashModels()
    with pytest.raises(UsageError) as caught:
        batch(dump, tmp_path / "out.csv", models=models, **options)
    assert said in caught.value.message
    assert hint in caught.value.hint
    assert not models.opened
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_column_without_text_among_them_is_refused(tmp_path):
    """A number is no part of a text."""
    source = write_dump(tmp_path / "in.parquet")
    with pytest.raises(UsageError, match="column id is int64, not text"):
        batch(source, tmp_path / "out.csv", models=HashModels(), text_column=["title", "id"])


def test_the_command_line_takes_the_option_again_and_again(dump):
    """Once for each column; the same command again finds the output up to date."""
    options = ["--text-column", "title", "--text-column", "body"]
    code, stderr = run([dump, "-o", "out.csv", *options], dump.parent)
    assert code == 0, stderr
    code, stderr = run([dump, "-o", "out.csv", *options], dump.parent)
    assert (code, "up to date" in stderr) == (0, True)
    code, stderr = run([dump, "-o", "out.csv", "--text-column", "title"], dump.parent)
    assert (code, "--text-column was ['title', 'body'], now title" in stderr) == (2, True)


def test_a_killed_run_goes_on_with_the_same_columns_only(tmp_path):
    """After SIGKILL the same command gives the same bytes, other columns are refused."""
    frame = pd.DataFrame({"title": [f"t {n}" for n in range(60)], "body": [""] * 30 + ["b"] * 30})
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    frame.to_csv(source, index=False)
    command = [source, "-o", target, "--chunk-rows", 20]
    both = ["--text-column", "title", "--text-column", "body"]
    calm = tmp_path / "calm"
    calm.mkdir()
    assert run([source, "-o", calm / "out.csv", "--chunk-rows", 20, *both], calm)[0] == 0
    child = Child([*command, *both], tmp_path, batch_s=0.3)
    wait_for(lambda: list(tmp_path.glob("*.batchsent/part-*")))
    child.process.kill()
    assert child.wait() == -signal.SIGKILL
    code, stderr = run([*command, "--text-column", "title"], tmp_path)
    assert (code, "--text-column was ['title', 'body']" in stderr) == (2, True)
    code, stderr = run([*command, *both], tmp_path)
    assert (code, "resuming an earlier run" in stderr) == (0, True)
    assert target.read_bytes() == (calm / "out.csv").read_bytes()


def test_verify_knows_which_rows_have_no_text(dump, tmp_path):
    """A label beside a row whose columns are all empty is a difference, with a summary or not."""
    target = tmp_path / "out.csv"
    batch(dump, target, models=HashModels(), text_column=BOTH)
    verdict = verify(dump, target, text_column=BOTH)
    assert verdict["rows"]["blank"] == 1
    (tmp_path / "out.csv.summary.json").unlink()
    assert verify(dump, target, text_column=BOTH)["rows"]["blank"] == 1
    target.write_bytes(target.read_bytes().replace(b"5,,,,\n", b"5,,,POSITIVE,0.9\n"))
    with pytest.raises(GateFailed, match="row 6"):
        verify(dump, target, text_column=BOTH)


def test_a_scored_file_is_read_by_the_columns_of_its_run(tmp_path):
    """sample, evaluate and compare take them from the summary: nobody types them again."""
    rows = 60
    frame = pd.DataFrame(
        {
            "title": [f"t {n}" for n in range(rows)],
            "body": ["", "b"] * (rows // 2),
            "gold": ["POSITIVE", "NEGATIVE"] * (rows // 2),
        }
    )
    source, target, other = (tmp_path / name for name in ("in.csv", "out.csv", "again.csv"))
    frame.to_csv(source, index=False)
    for path in (target, other):
        batch(source, path, models=HashModels(), text_column=BOTH)
    sample(target, tmp_path / "some.csv", rows=20)
    drawn = pd.read_csv(tmp_path / "some.csv")
    drawn["audit_gold"] = "POSITIVE"
    drawn.to_csv(tmp_path / "some.csv", index=False)
    audited = evaluate(target, audit=str(tmp_path / "some.csv"))
    assert audited["audit"]["labelled"] == 20
    assert compare(target, other)["rows"]["compared"] == rows
    judged = evaluate(target, gold="gold")
    assert judged["input"]["columns"]["text"] == ["title", "body"]
    # The mark of a row is that of the joined text: another body is another row.
    changed = pd.read_csv(target, keep_default_na=False)
    changed["body"] = "changed"
    changed.to_csv(target, index=False)
    with pytest.raises(InputError, match="text"):
        evaluate(target, audit=str(tmp_path / "some.csv"))


def test_pages_and_tables_show_the_joined_text(tmp_path):
    """The examples of the page, and the table of disagreements."""
    source = write_dump(tmp_path / "in.csv", gold=["NEGATIVE"] * 6)
    batch(
        source,
        tmp_path / "out.csv",
        models=HashModels(),
        text_column=BOTH,
        gold="gold",
        report_examples=6,
        disagreements=str(tmp_path / "wrong.csv"),
    )
    assert "Great film\\n\\nI loved it" in (tmp_path / "out.csv.report.html").read_text()
    texts = set(pd.read_csv(tmp_path / "wrong.csv", keep_default_na=False)["text"])
    assert texts <= set(JOINED)
    assert texts


def test_the_columns_of_the_model_are_the_default(dump, tmp_path):
    """Where the input has them; the first line of the run says so, and verify needs no option."""
    listener, target = Listener(), tmp_path / "out.csv"
    summary = batch(dump, target, models=TrainedOn("title", "body"), reporter=listener)
    assert listener.said[0] == (
        "text: columns title + body, joined by an empty line, as the model was trained; "
        "--text-column names others"
    )
    assert summary["run"]["options"]["text_column"] == ["title", "body"]
    assert verify(dump, target)["status"] == "same"
    again = batch(dump, target, models=TrainedOn("title", "body"), text_column=BOTH)
    assert again["status"] == "up_to_date"


def test_the_model_gives_way_to_what_the_user_names_and_to_what_the_input_has(tmp_path):
    """Without all of its columns the one called text is read; a name wins always."""
    source = write_dump(tmp_path / "in.csv", text=[f"text {n}" for n in range(6)])
    listener = Listener()
    models = TrainedOn("title", "content")
    summary = batch(source, tmp_path / "a.csv", models=models, reporter=listener)
    assert summary["input"]["columns"]["text"] == "text"
    assert not any("as the model was trained" in said for said in listener.said)
    models = TrainedOn("title", "body")
    for options in ({"text_column": "text"}, {"text_column_index": 4}):
        summary = batch(source, tmp_path / f"{len(str(options))}.csv", models=models, **options)
        assert summary["input"]["columns"]["text"] == "text"


def test_the_joint_of_the_model_is_used_for_columns_that_are_named(dump, tmp_path):
    """A model that learned texts joined by a full stop reads them so."""
    summary = batch(
        dump, tmp_path / "a.csv", models=TrainedOn("title", "body", joint=". "), text_column=BOTH
    )
    assert summary["input"]["columns"]["joint"] == ". "
    assert verify(dump, tmp_path / "a.csv")["status"] == "same"


def test_a_single_column_of_the_model_is_its_default_too(dump, tmp_path):
    """A model fine-tuned with --text-column body reads body."""
    summary = batch(dump, tmp_path / "out.csv", models=TrainedOn("body"))
    assert summary["input"]["columns"]["text"] == "body"


def write_titled(path, rows=32):
    """Labelled reviews in two columns; the body of every second one is empty."""
    write_reviews(path, rows=rows)
    frame = pd.read_csv(path)
    words = frame.pop("text").str.removeprefix("the film ")
    frame["title"] = words.str.split().str[0] + [f" {n}" for n in range(rows)]
    frame["body"] = words.where(frame.index % 3 != 0, "")
    frame.insert(0, "id", range(rows))
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def titled_model(tiny_model, tmp_path_factory):
    """A model fine-tuned on titles and bodies."""
    folder = tmp_path_factory.mktemp("titled")
    source = write_titled(folder / "train.csv")
    document = finetune(
        folder / "model",
        train=str(source),
        base_model=str(tiny_model),
        epochs=1,
        text_column=["title", "body"],
    )
    assert document["data"]["train"]["columns"] == ["title", "body", "label"]
    return folder / "model"


def test_finetune_keeps_columns_and_joint_in_the_folder(titled_model, tmp_path):
    """batch, evaluate and score_frame with that model read the same columns, joined alike."""
    config = json.loads((titled_model / "config.json").read_text())
    assert (config["text_columns"], config["text_joint"]) == (["title", "body"], "\n\n")
    source, target = write_titled(tmp_path / "in.csv"), tmp_path / "out.csv"
    listener = Listener()
    summary = batch(
        source, target, model=str(titled_model), reporter=listener, device="cpu", prefix="p_"
    )
    assert "title + body" in listener.said[0]
    assert summary["rows"]["scored"] == 32
    judged = evaluate(
        source, model=str(titled_model), gold="label", gold_map="pos=POSITIVE,neg=NEGATIVE"
    )
    assert judged["input"]["columns"]["text"] == ["title", "body"]
    frame = pd.read_csv(source)
    model = load(titled_model, device="cpu")
    scored = model.score_frame(frame, prefix="p_")
    assert list(scored["p_label"]) == list(pd.read_csv(target)["p_label"])
    joined = [
        title if pd.isna(body) else f"{title}\n\n{body}"
        for title, body in zip(frame["title"], frame["body"], strict=True)
    ]
    found = pytest.approx(list(scored["p_score"]))
    assert [one.score for one in model.predict(joined)] == found
    named = model.score_frame(frame, prefix="p_", text_column=["title", "body"])
    assert list(named["p_score"]) == found
    assert "title, then body" in (titled_model / "README.md").read_text()
    described = info(titled_model, device="cpu")["model"]
    assert (described["text_columns"], described["text_joint"]) == (["title", "body"], "\n\n")


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_every_kind_of_training_file_is_joined_alike(tmp_path, suffix, tiny_model, titled_model):
    """JSON lines and Parquet with the same rows make the same model as CSV."""
    frame = pd.read_csv(write_titled(tmp_path / "in.csv"), keep_default_na=False)
    source = tmp_path / f"train.{suffix}"
    if suffix == "jsonl":
        frame.to_json(source, orient="records", lines=True)
    else:
        frame.to_parquet(source)
    finetune(
        tmp_path / "model",
        train=str(source),
        base_model=str(tiny_model),
        epochs=1,
        text_column=["title", "body"],
    )
    made, other = (identify(str(folder)) for folder in (tmp_path / "model", titled_model))
    assert made.weights_sha256 == other.weights_sha256


def test_a_model_made_of_another_forgets_its_columns(titled_model, tmp_path):
    """What was named for the base model does not hold for reviews in one column."""
    source = write_reviews(tmp_path / "train.csv", rows=24)
    finetune(tmp_path / "model", train=source, base_model=str(titled_model), epochs=1)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert not {"text_columns", "text_joint"} & set(config)
    assert identify(str(tmp_path / "model")).text_columns is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"text_columns": "title"},
        {"text_columns": []},
        {"text_columns": ["title", "title"]},
        {"text_columns": ["title", 3]},
        {"text_joint": ""},
        {"text_joint": ["x"]},
    ],
)
def test_a_damaged_record_of_columns_is_refused(titled_model, tmp_path, wrong):
    """A hand-edited config.json is said to be wrong, with what to write."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in titled_model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | wrong
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"config\.json: text_"):
        identify(str(folder))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_earlier_output_is_reused_by_its_joined_texts(dump, tmp_path, suffix):
    """--reuse takes the score of a row whose title and body are those of yesterday."""
    yesterday, today = tmp_path / f"yesterday.{suffix}", tmp_path / "today.csv"
    options = {"text_column": BOTH, "text_joint": ". "}
    batch(dump, yesterday, models=HashModels(), **options)
    grown = tmp_path / "grown.csv"
    grown.write_bytes(dump.read_bytes() + b"6,New,row\n")
    summary = batch(grown, today, models=HashModels(), reuse=[str(yesterday)], **options)
    reused = summary["run"]["reuse"]
    assert (reused["reused_rows"], reused["new_rows"]) == (5, 1)
    assert verify(grown, today)["status"] == "same"


def test_frames_and_streams_are_joined_alike(tmp_path):
    """Of batch with a frame, of stream with a file; the columns of the model are their default."""
    labels = [expected(text)[0] for text in JOINED]
    frame = pd.DataFrame({"title": TITLES, "body": BODIES})
    for table in (frame, pa.Table.from_pandas(frame)):
        named = batch(table, text_column=["title", "body"], models=HashModels())
        usual = batch(table, models=TrainedOn("title", "body"))
        for found in (named, usual):
            column = found["label"]
            cells = column.to_pylist() if isinstance(found, pa.Table) else list(column)
            assert [None if pd.isna(cell) else cell for cell in cells] == labels
    source = write_dump(tmp_path / "in.parquet")
    for options in ({"text_column": BOTH, "models": HashModels()}, {"models": TrainedOn(*BOTH)}):
        assert stream(source, **options).read_all()["label"].to_pylist() == labels
