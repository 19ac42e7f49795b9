"""The package as a Python program has it: types, values, progress, summaries, errors in its words."""

import importlib.util
import inspect
import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import batchsent
from batchsent.commands.summary import Summary
from batchsent.options import build
from batchsent.python_api import FUNCTIONS
from batchsent.python_words import COMMANDS, in_python_words
from batchsent.run.options import BatchOptions
from tests import stub
from tests.hash_model import HashModels

ROOT = Path(__file__).parents[1]


@pytest.fixture
def dump(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text("id,text\n1,a great film\n2,awful\n3,\n")
    return path


# --- types


def test_the_types_are_those_of_the_options():
    """__init__.pyi lists every option of every function: `python -m tests.stub` writes it."""
    assert stub.STUB.read_text() == stub.render()


def test_every_exported_name_has_a_type_and_the_other_way_round():
    """What __all__ promises stands in __init__.pyi, and every function has its command's name."""
    text = stub.STUB.read_text()
    for name in batchsent.__all__:
        assert f"def {name}(" in text or f"{name} as {name}" in text or f"{name}: " in text
    assert set(FUNCTIONS) <= set(batchsent.__all__)


def test_help_lists_the_options():
    """inspect.signature, which help() and notebooks use, names every option with its default."""
    parameters = inspect.signature(batchsent.batch).parameters
    assert list(parameters)[:2] == ["input", "output"]
    assert parameters["progress"].default is False
    assert parameters["precision"].default == "auto"
    assert "revision" in inspect.signature(batchsent.load).parameters


USER = """
from pathlib import Path

import batchsent

model = batchsent.load(device="cpu")
summary = batchsent.batch(["a.csv", Path("b.csv")], "out", precison="float32")
label: str | None = model.predict(["nice"])[0].label
try:
    batchsent.verify("a", "b", bad_rows="reject", progress=True)
except batchsent.BatchsentError as error:
    print(error.hint, batchsent.__version__, summary["rows"])
"""


def test_mypy_finds_a_misspelt_option_in_an_editable_install(tmp_path):
    """Under mypy --strict a user's script in another folder has one error."""
    # Not imported: setuptools replaces distutils, which others may have imported before.
    setuptools = importlib.util.find_spec("setuptools")
    if setuptools is None or importlib.util.find_spec("pip") is None:
        pytest.skip("pip or setuptools is not installed")
    source, environment = tmp_path / "source", tmp_path / "environment"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("*.safetensors", "__pycache__")
    shutil.copytree(ROOT / "batchsent", source / "batchsent", ignore=ignored)
    run = {"check": True, "capture_output": True, "text": True}
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], **run)
    python = environment / "bin" / "python"
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", *options, "-e", source],
        env={"PYTHONPATH": str(Path(setuptools.origin).parents[1]), "PATH": "/usr/bin:/bin"},
        **run,
    )
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "script.py").write_text(USER)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "script.py"],
        cwd=tmp_path / "user",
        capture_output=True,
        text=True,
    )
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 1, done.stdout + done.stderr
    assert (
        'Unexpected keyword argument "precison" for "batch"; did you mean "precision"?'
        in (errors[0])
    )


# --- what is exported


def test_the_version_is_that_of_the_distribution():
    assert batchsent.__version__ == metadata.version("batchsent")


def test_errors_and_reporters_are_exported():
    """A program can catch all errors by one name, and hear what a run says."""
    errors = [getattr(batchsent, name) for name in batchsent.__all__ if name.endswith("Error")]
    assert all(issubclass(error, batchsent.BatchsentError) for error in errors)
    for name in ("GateFailed", "Interrupted", "Locked", "PipeClosed"):
        assert issubclass(getattr(batchsent, name), batchsent.BatchsentError)
    for name in ("TerminalReporter", "JsonReporter"):
        assert issubclass(getattr(batchsent, name), batchsent.Reporter)


# --- values


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"chunk_rows": "8"}, "chunk_rows requires a whole number, not '8'"),
        ({"chunk_rows": 8.5}, "chunk_rows requires a whole number, not 8.5"),
        ({"chunk_rows": True}, "chunk_rows requires a whole number, not True"),
        ({"chunk_rows": None}, "chunk_rows requires a whole number, not None"),
        ({"chunk_rows": 0}, "chunk_rows=0: at least 1 is needed"),
        ({"unsure_below": "0.7"}, "unsure_below requires a number, not '0.7'"),
        ({"details": 1}, "details requires True or False, not 1"),
        ({"text_column": 3}, "text_column requires text, not 3"),
        ({"fail_under": [0.9]}, "fail_under requires a list of texts, not [0.9]"),
        ({"bad_rows": "ignore"}, "bad_rows='ignore' is not one of error, reject"),
        ({"long_text": "middle"}, "long_text='middle' is not one of head, tail"),
        ({"precison": "float32"}, "no option 'precison'"),
    ],
)
def test_a_value_that_an_option_does_not_take_is_refused_by_its_name(dump, options, said):
    """Before anything is read or written, in the words of the call."""
    with pytest.raises(batchsent.UsageError) as caught:
        batchsent.batch(dump, dump.parent / "out.csv", **options)
    assert said in caught.value.message
    assert not (dump.parent / "out.csv").exists()


def test_values_of_other_libraries_and_paths_are_taken(tmp_path):
    """Numpy's numbers, paths, one condition for a list, and None where that is the default."""
    options = build(
        BatchOptions,
        {
            "chunk_rows": np.int64(8),
            "unsure_below": np.float32(0.5),
            "lock_wait": 3,
            "model": tmp_path,
            "fail_under": "accuracy=0.9",
            "limit": None,
        },
    )
    assert (options.chunk_rows, options.unsure_below, options.lock_wait) == (8, 0.5, 3.0)
    assert (options.model, options.fail_under) == (str(tmp_path), ("accuracy=0.9",))
    assert type(options.chunk_rows) is int


# --- words


SIGNATURE = inspect.signature(batchsent.batch)


@pytest.mark.parametrize(
    ("typed", "called"),
    [
        ("add --overwrite to replace it", "add overwrite=True to replace it"),
        ("use --precision float32", "use precision='float32'"),
        ("choose --device auto or --device cpu", "choose device='auto' or device='cpu'"),
        ("--max-length 3: this model reads 4", "max_length=3: this model reads 4"),
        ("give a larger --max-length; more", "give a larger max_length; more"),
        ("name it with --text-column, or not", "name it with text_column, or not"),
        ("name it: --text-column NAME", "name it: text_column=NAME"),
        ("--gold COLUMN.", "gold=COLUMN."),
        ("add --stars 1-2:NEGATIVE,4-5:POSITIVE", "add stars='1-2:NEGATIVE,4-5:POSITIVE'"),
        ("--long-text head-tail needs 4", "long_text='head-tail' needs 4"),
        ("--stars requires --gold", "stars requires gold"),
        ("did you mean --gold label?", "did you mean gold='label'?"),
        ("did you mean --gold 'my label'?", "did you mean gold='my label'?"),
        ("add --overwrite --restart", "add overwrite=True restart=True"),
        ("choose another name with -o", "choose another name with output"),
        ("pip install --index-url URL torch", "pip install --index-url URL torch"),
        ("batchsent batch x --overwrite", "batchsent batch x --overwrite"),
        (
            "first batchsent info --json; then --restart",
            "first batchsent info --json; then restart=True",
        ),
        ("a well-known --", "a well-known --"),
    ],
)
def test_flags_become_parameters(typed, called):
    """One mechanism for all messages: by the signature of the function that was called."""
    assert in_python_words(typed, SIGNATURE) == called


def test_every_command_is_left_as_it_is_typed():
    """The commands that messages may name are those of the command line."""
    from batchsent.cli import cli

    assert set(COMMANDS) == set(cli.commands)


def test_an_error_is_in_the_words_of_who_asked(dump, capsys):
    """A refusal says overwrite=True to a program and --overwrite on the command line."""
    from batchsent.cli import cli

    out = dump.parent / "out.csv"
    out.write_text("mine\n")
    with pytest.raises(batchsent.UsageError) as caught:
        batchsent.batch(dump, out, models=HashModels())
    assert "overwrite=True" in caught.value.hint
    assert "--" not in str(caught.value)
    with pytest.raises(batchsent.UsageError) as caught:
        cli.main(["batch", str(dump), "-o", str(out)], standalone_mode=False, obj=HashModels())
    assert "--overwrite" in caught.value.hint


# --- batch


def test_batch_takes_a_list_or_a_folder_as_the_command_does(dump, tmp_path):
    """Several inputs go into a folder; the summary lists them."""
    second = dump.with_name("more.csv")
    shutil.copy(dump, second)
    found = batchsent.batch([dump, str(second)], tmp_path / "out", models=HashModels())
    assert [Path(file["output"]).name for file in found["files"]] == ["reviews.csv", "more.csv"]
    (tmp_path / "dumps").mkdir()
    shutil.copy(dump, tmp_path / "dumps")
    found = batchsent.batch(tmp_path / "dumps", tmp_path / "scored", models=HashModels())
    assert (tmp_path / "scored" / "reviews.csv").exists()
    assert repr(found) == "<batchsent summary: complete, 1 files, 3 read, 2 scored, 1 blank>"


def test_a_summary_is_the_document_with_a_short_form(dump, tmp_path):
    """It is equal to what was written, converts to JSON, and shows itself in one line or table."""
    found = batchsent.batch(dump, tmp_path / "out.csv", models=HashModels())
    assert found == json.loads((tmp_path / "out.csv.summary.json").read_bytes())
    assert json.loads(json.dumps(found)) == found
    assert repr(found) == ("<batchsent summary: complete, 3 read, 2 scored, 1 blank>")
    shown = found._repr_html_()
    assert shown.startswith("<pre>")
    assert "2 of 3 rows scored" in shown


def test_a_summary_shows_no_markup_of_a_file(dump, tmp_path):
    """Names in it are the user's: a notebook must not run them."""
    found = batchsent.batch(dump, tmp_path / "<b>out.csv", models=HashModels())
    assert "<b>" not in found._repr_html_()
    assert Summary({"status": "<b>", "rows": None}).get("status") == "<b>"


def test_progress_shows_what_the_command_shows(dump, tmp_path, capsys):
    """Silent without, notices on stderr with progress=True."""
    batchsent.batch(dump, tmp_path / "quiet.csv", models=HashModels())
    assert capsys.readouterr() == ("", "")
    batchsent.batch(dump, tmp_path / "loud.csv", models=HashModels(), progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "model hash" in shown.err


def test_a_model_says_what_it_is(tiny_model):
    """Its name, its labels, and how it runs."""
    assert repr(batchsent.load(tiny_model, device="cpu")) == (
        f"<batchsent model {tiny_model}: NEGATIVE, POSITIVE; cpu, float32>"
    )
