"""Options that CSV is read by: refused where no input is CSV, offered only where they exist."""

import io
import json
import shlex

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.commands.batch import batch
from batchsent.commands.compare import compare
from batchsent.commands.evaluate import evaluate
from batchsent.commands.finetune import finetune
from batchsent.commands.sample import sample
from batchsent.commands.stream import stream
from batchsent.errors import GateFailed, InputError, UsageError
from batchsent.formats import ReadOptions, open_source
from batchsent.reporting import Reporter
from batchsent.verification.verify import verify
from tests.hash_model import HashModels
from tests.listener import Listener

ROWS = [{"text": "a good film", "stars": "5"}, {"text": "a bad film", "stars": "1"}]
CSV_ONLY = [
    ("delimiter", ";"),
    ("quotechar", "'"),
    ("escapechar", "\\"),
    ("skip_initial_space", True),
    ("encoding", "cp1252"),
    ("no_header", True),
    ("skip_lines", 3),
]


def files(folder):
    """Write the rows as CSV with semicolons, as JSON lines and as Parquet."""
    text = "text;stars\n" + "".join(f"{row['text']};{row['stars']}\n" for row in ROWS)
    (folder / "rows.csv").write_text(text)
    lines = "".join(f'{{"text": "{row["text"]}", "stars": {row["stars"]}}}\n' for row in ROWS)
    (folder / "lines.jsonl").write_text(lines)
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "table.parquet")
    return folder


@pytest.mark.parametrize(("name", "value"), CSV_ONLY)
@pytest.mark.parametrize("source", ["lines.jsonl", "table.parquet"])
def test_an_option_about_csv_is_refused_where_the_input_is_not_csv(tmp_path, name, value, source):
    """What would do nothing is not taken in silence."""
    folder = files(tmp_path)
    with pytest.raises(UsageError, match="is about CSV") as caught:
        batch(folder / source, folder / "out.csv", models=HashModels(), **{name: value})
    flag = "--" + name.replace("_", "-")
    assert flag in caught.value.message
    assert flag in caught.value.hint
    assert not (folder / "out.csv").exists()


@pytest.mark.parametrize(
    ("name", "value"), [("encoding", "auto"), ("encoding", "UTF8"), ("delimiter", "auto")]
)
def test_what_asks_for_nothing_else_is_taken(tmp_path, name, value):
    """JSON lines are UTF-8, and there is no delimiter to find."""
    folder = files(tmp_path)
    options = {name: value}
    batch(folder / "lines.jsonl", folder / "out.jsonl", models=HashModels(), **options)
    assert verify(folder / "lines.jsonl", folder / "out.jsonl")["status"] == "same"


def test_json_lines_have_limits_and_invalid_bytes_too(tmp_path):
    """Two options of that group are about JSON lines as well, and not about Parquet."""
    folder = files(tmp_path)
    options = {"encoding_errors": "strict", "max_field_bytes": 100}
    batch(folder / "lines.jsonl", folder / "out.jsonl", models=HashModels(), **options)
    with pytest.raises(UsageError, match="--encoding-errors is about CSV"):
        batch(folder / "table.parquet", folder / "out.csv", models=HashModels(), **options)


def test_the_csv_of_a_folder_takes_the_option_and_the_other_files_do_not_mind(tmp_path):
    """Several inputs with one CSV among them are as before; without one they are refused."""
    folder = files(tmp_path)
    inputs = [str(folder / name) for name in ("rows.csv", "lines.jsonl", "table.parquet")]
    document = batch(inputs, tmp_path / "out", models=HashModels(), delimiter=";")
    assert document["exit_code"] == 0
    assert (tmp_path / "out" / "rows.csv").read_text().startswith("text;stars;label;score\n")
    with pytest.raises(UsageError, match="jsonl is JSON lines"):
        batch(inputs[1:], tmp_path / "other", models=HashModels(), delimiter=";")
    assert not (tmp_path / "other").exists()


def test_every_command_that_reads_refuses_them(tmp_path):
    """verify, stream, evaluate, sample and compare do what batch does."""
    folder = files(tmp_path)
    out = folder / "out.jsonl"
    batch(folder / "lines.jsonl", out, models=HashModels())
    calls = [
        lambda: verify(folder / "lines.jsonl", out, delimiter=";"),
        lambda: stream(folder / "lines.jsonl", models=HashModels(), delimiter=";"),
        lambda: evaluate(out, gold="stars", delimiter=";"),
        lambda: sample(out, folder / "sample.csv", delimiter=";"),
        lambda: compare(out, out, delimiter=";"),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="--delimiter is about CSV"):
            call()


def test_json_lines_of_stdin_refuse_them_too(tmp_path, monkeypatch):
    """What stdin is shows in its first bytes."""
    lines = files(tmp_path) / "lines.jsonl"
    with lines.open("rb") as file:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
        with pytest.raises(UsageError, match="stdin is JSON lines, and --skip-lines is about CSV"):
            open_source("-", ReadOptions(skip_lines=1))


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("bad.jsonl", '{"text": "a", "label": "x"}\nno object\n', "correct the line"),
        ("bad.csv", "text,label\na,x\nb,y,z\n", "correct the line"),
        ("bad.csv", '#\ntext,label\n"a",x\n', "name it with --text-column"),
        ("bad.csv", "text;label\na;x\n", "add --delimiter ';'"),
    ],
)
def test_finetune_offers_only_the_options_that_it_has(tmp_path, name, content, hint):
    """It has no --bad-rows and no --skip-lines."""
    (tmp_path / name).write_text(content)
    with pytest.raises((InputError, UsageError)) as caught:
        finetune(output=tmp_path / "model", train=str(tmp_path / name), base_model="embedded")
    assert caught.value.hint == hint


def test_finetune_refuses_a_delimiter_where_nothing_is_csv(tmp_path):
    """As batch does; with a CSV beside it JSON lines are taken."""
    folder = files(tmp_path)
    with pytest.raises(UsageError, match="--delimiter is about CSV"):
        finetune(
            output=tmp_path / "model",
            train=str(folder / "lines.jsonl"),
            base_model="embedded",
            delimiter=";",
        )


def test_a_text_column_is_named_in_one_way(tmp_path):
    """By its name or by its position, not by both."""
    folder = files(tmp_path)
    with pytest.raises(UsageError, match="both say which column is the text"):
        batch(
            folder / "lines.jsonl",
            folder / "out.jsonl",
            models=HashModels(),
            text_column="text",
            text_column_index=2,
        )


@pytest.mark.parametrize("typed", [{"text_column": "text"}, {"text_column_index": 2}])
def test_verify_takes_the_text_column_that_is_typed(tmp_path, typed):
    """Not the joint that its run had between two columns: the texts are too short then."""
    (tmp_path / "in.jsonl").write_text('{"title": "a", "text": "b"}\n')
    two = {"text_column": ("title", "text"), "text_joint": " "}
    batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl", models=HashModels(), **two)
    with pytest.raises(GateFailed, match="text characters total: '3' in the summary, '1'"):
        verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl", **typed)


def test_a_dry_run_says_how_large_the_input_is(tmp_path):
    """Text formats too, of which only the structure was read."""
    folder = files(tmp_path)
    (folder / "rows.csv").write_text("text\na good film\n")
    for name in ("rows.csv", "lines.jsonl", "table.parquet"):
        document = batch(folder / name, folder / "out.jsonl", models=HashModels(), dry_run=True)
        assert document["input"]["bytes"] == (folder / name).stat().st_size


def test_json_lines_of_stdin_with_a_space_after_the_brace(tmp_path, monkeypatch):
    """Some programs write one."""
    path = tmp_path / "lines"
    path.write_text('{ "text": "a" }\n')
    with path.open("rb") as file:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
        assert open_source("-").format == "jsonl"


def test_an_old_output_of_other_text_columns_is_told(tmp_path):
    """Where nothing could be reused because its texts are others; where they are the same, not."""
    for name in ("old", "new"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"title": "a", "text": "{name}"}}\n')
    old, new = tmp_path / "old.out.jsonl", tmp_path / "new.out.jsonl"
    batch(tmp_path / "old.jsonl", old, models=HashModels(), text_column=("title", "text"))
    told = Told()
    batch(tmp_path / "new.jsonl", new, models=HashModels(), reuse=str(old), reporter=told)
    assert told.warnings == [
        f"no row is reused of {old}: its texts are title + text, here they are text"
    ]
    again = Told()
    two = {"text_column": ("title", "text"), "overwrite": True}
    batch(tmp_path / "new.jsonl", new, models=HashModels(), reuse=str(old), reporter=again, **two)
    assert again.warnings == []


class Told(Reporter):
    """A reporter that keeps the warnings."""

    def __init__(self):
        self.warnings = []

    def warning(self, text, **_):
        """Keep it."""
        self.warnings.append(text)


SPREADSHEET = 'Käufer;Bewertung;label\r\nMüller;"Ein schöner Film, wirklich";5\r\n' * 3


@pytest.mark.parametrize(
    ("data", "options", "hint"),
    [
        (
            SPREADSHEET.encode("cp1252"),
            {},
            "the longest values are in Bewertung: add --delimiter ';' --encoding cp1252 "
            "--text-column 'Bewertung' --prefix pred_",
        ),
        (
            SPREADSHEET.encode("cp1252"),
            {"delimiter": ";", "text_column": "Käufer"},
            "add --encoding cp1252 --prefix pred_",
        ),
        (SPREADSHEET.encode("cp1252"), {"delimiter": ";", "encoding": "cp1252"}, None),
        (b"Text\tid\nnice\t1\nbad\t2\n", {}, "add --delimiter '\\t'"),
        (
            b"Text\tid\nnice\t1\nbad\n",
            {"text_column": "text", "bad_rows": "reject"},
            "--delimiter '\\t' --text-column 'T",
        ),
        (
            b"id;a;b\n1;nice;bad\n",
            {},
            "the columns are id, a, b: add --delimiter ';' --text-column",
        ),
        (b"id;review_text\n1;a b\n", {}, "add --delimiter ';' --text-column 'review_text'"),
        (b"id,said\n1,nice film\n", {}, "the longest values are in said: add --text-column 'said'"),
    ],
)
def test_one_message_says_all_that_a_spreadsheet_needs(tmp_path, data, options, hint):
    """Delimiter, encoding, text column and, for a column that is there already, the prefix."""
    path = tmp_path / "in.csv"
    path.write_bytes(data)
    with pytest.raises(UsageError) as caught:
        batch(path, tmp_path / "out.csv", models=HashModels(), **options)
    if hint is None:
        hint = "the longest values are in Bewertung: add --text-column 'Bewertung' --prefix pred_"
    assert hint in caught.value.hint
    typed = dict(zip(*[iter(shlex.split(caught.value.hint.partition("add ")[2]))] * 2, strict=True))
    if "NAME" in typed.values():
        return
    named = {flag.strip("-").replace("-", "_"): value for flag, value in typed.items()}
    assert batch(path, tmp_path / "out.csv", models=HashModels(), **(options | named))["outputs"]


ROWS_OF_A_SHOP = [
    {"Review ID": f"R{n}", "Review Body": "a film with a long text", "label": n % 2}
    for n in range(3)
]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "arrow"])
def test_every_format_proposes_the_column_with_long_values(tmp_path, form):
    """Also where another column has review in its name; Arrow streams are not looked into."""
    table = pa.Table.from_pylist(ROWS_OF_A_SHOP)
    path = tmp_path / f"in.{form}"
    if form == "csv":
        table.to_pandas().to_csv(path, index=False)
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS_OF_A_SHOP))
    elif form == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_stream(path, table.drop_columns("Review ID").schema) as writer:
            writer.write_table(table.drop_columns("Review ID"))
    with pytest.raises(UsageError) as caught:
        batch(path, tmp_path / "out.csv", models=HashModels())
    assert caught.value.hint == "add --text-column 'Review Body' --prefix pred_"


def test_a_text_inside_an_object_is_proposed_by_its_full_name(tmp_path):
    """As an app store exports them: the member is an object that holds the text."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"id": 1, "review": {"title": "Ok", "text": "a long review of it"}}\n')
    with pytest.raises(UsageError, match="review is an object, not a string") as caught:
        batch(path, tmp_path / "out.csv", models=HashModels())
    assert caught.value.hint == "add --text-column 'review.text'"
    with pytest.raises(UsageError, match="no column called text") as caught:
        batch(path, tmp_path / "out.csv", models=HashModels(), text_column="text")
    assert caught.value.hint == "did you mean --text-column 'review.text'?"


def test_an_input_without_rows_is_told(tmp_path):
    """Its output has none either, which may be all right at night, and a mistake by day."""
    (tmp_path / "in.csv").write_text("id,text\n")
    done = batch(tmp_path / "in.csv", tmp_path / "out.csv", models=HashModels())
    assert [found["message"] for found in done["warnings"]] == ["no row was read"]


@pytest.mark.parametrize("piped", [False, True])
def test_a_wrong_encoding_is_said_before_anything_is_scored(tmp_path, monkeypatch, piped):
    """With the option to type; what has been scored meanwhile could not be taken back."""
    path, reporter = tmp_path / "in.csv", WithStages()
    path.write_bytes("text,label\nschön,1\nübel,2\nplain,3\n".encode("cp1252"))
    with path.open("rb") as file:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
        options = {"models": HashModels(), "reporter": reporter, "prefix": "model_"}
        batch("-" if piped else path, tmp_path / "out.csv", **options)
    (before,) = reporter.said[: reporter.said.index("loading the model")]
    assert before.startswith("warning: 2 text(s) hold bytes that are not valid utf-8")
    assert "add --encoding cp1252" in before


def test_utf_8_that_is_read_as_something_else_is_said_too(tmp_path):
    """Every character of it would be read as two others."""
    (tmp_path / "in.csv").write_text("text\nschön\n", encoding="utf-8")
    done = batch(tmp_path / "in.csv", tmp_path / "o.csv", models=HashModels(), encoding="latin-1")
    (warning,) = [found for found in done["warnings"] if found["code"] == "is_utf8"]
    assert warning["hint"] == "leave out --encoding"


class WithStages(Listener):
    """A listener that keeps what the run is at, but for the checks."""

    def stage(self, text):
        """Keep it."""
        if not text.startswith("checking"):
            self.said.append(text)
