"""Arguments that cannot be meant are refused with exit 2 and a plain message, before anything runs."""

import subprocess
import sys

import pytest

from batchsent.commands.batch import batch
from batchsent.errors import UsageError
from batchsent.run.folder import batch_all
from tests.children import run
from tests.hash_model import HashModels

EMPTY = [
    ("--delimiter", ""),
    ("--quotechar", ""),
    ("--text-column", ""),
    ("--encoding", ""),
    ("--model", ""),
    ("--summary", ""),
]
NUMBERS = [
    ("--lock-wait", "-1"),
    ("--lock-wait", "nan"),
    ("--lock-wait", "inf"),
    ("--limit", "-1"),
    ("--chunk-rows", "0"),
    ("--max-field-bytes", "0"),
    ("--skip-lines", "-1"),
    ("--unsure-below", "nan"),
    ("--max-bad-rows", "nan%"),
    ("--fail-under", "accuracy=nan"),
]


@pytest.fixture
def folder(tmp_path):
    """A folder with an input and two dumps."""
    (tmp_path / "in.csv").write_text("id,text,gold\n1,a,POSITIVE\n2,b,NEGATIVE\n")
    (tmp_path / "dumps").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "dumps" / name).write_text("text\na\n")
    return tmp_path


@pytest.mark.parametrize(("flag", "value"), EMPTY + NUMBERS, ids=lambda value: value or "empty")
def test_k18_a_value_that_cannot_be_meant_is_refused_by_its_option(folder, flag, value):
    """K18: exit 2, the option is named, nothing is written."""
    more = {"--max-bad-rows": ["--bad-rows", "reject"], "--fail-under": ["--gold", "gold"]}.get(
        flag, []
    )
    code, stderr = run(["in.csv", "-o", "out.csv", flag, value, *more], folder)
    assert code == 2, stderr
    assert flag in stderr or value in stderr
    assert sorted(path.name for path in folder.iterdir()) == ["dumps", "in.csv", "stderr.log"]


def test_k17_an_output_named_like_a_file_is_refused_for_several_inputs(folder):
    """K17: `-o all.csv` does not make a folder of that name; `-o all.csv/` does."""
    with pytest.raises(UsageError, match=r"all\.csv is the name of a file"):
        batch_all([str(folder / "dumps")], str(folder / "all.csv"), models=HashModels())
    assert not (folder / "all.csv").exists()
    batch_all([str(folder / "dumps")], f"{folder}/all.csv/", models=HashModels())
    assert (folder / "all.csv" / "a.csv").exists()


def test_a_column_with_spaces_around_its_name_is_proposed_not_taken(folder):
    """` text` is another name than `text`: the error says what to type. Case does not count."""
    (folder / "in.csv").write_text("id, text\n1,a\n")
    with pytest.raises(UsageError) as caught:
        batch(folder / "in.csv", folder / "out.csv", models=HashModels())
    assert caught.value.hint == "if you mean the column ' text': --text-column ' text'"
    batch(folder / "in.csv", folder / "out.csv", models=HashModels(), text_column=" text")
    (folder / "upper.csv").write_text("ID,Review\n1,a\n")
    batch(folder / "upper.csv", folder / "upper-out.csv", models=HashModels())


def test_the_bare_command_prints_its_help(tmp_path):
    """As it is, without a prefix on every line; exit 2, since nothing was done."""
    done = subprocess.run([sys.executable, "-m", "batchsent"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: ")
    assert "batchsent: " not in done.stderr


def test_a_failed_file_of_several_has_its_hint_in_the_same_line(folder):
    """No literal backslash-n in the middle of a message."""
    (folder / "dumps" / "a.csv").write_text("id\n1\n")
    code, stderr = run(["dumps", "-o", "scored"], folder)
    assert code == 3
    assert "\\n" not in stderr
    assert "has no column called text or review; its columns are id (" in stderr


def test_a_column_with_review_in_its_name_is_proposed_as_it_is_typed(tmp_path):
    """Review Text is a text column in most exports; a shell needs its quotes."""
    (tmp_path / "in.csv").write_text("id,Review Text\n1,good\n")
    with pytest.raises(UsageError) as caught:
        batch_all([str(tmp_path / "in.csv")], str(tmp_path / "out.csv"), models=HashModels())
    assert caught.value.hint == "add --text-column 'Review Text'"
