"""K15: a path that the system does not take is told by its name, before any work, wherever it is
given.
"""

import contextlib
import ctypes
import os
import sys
from pathlib import Path

import pytest

import batchsent
from batchsent.errors import BatchsentError
from batchsent.filenames import exists, expand, is_folder, is_regular
from batchsent.files.atomic import temporary_path
from batchsent.run.folder import batch_all
from batchsent.run.options import BatchOptions
from batchsent.run.paths import RunPaths
from tests.children import run
from tests.hash_model import HashModels

SUMMARY = "done.csv.summary.json"


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny_model):
    """A folder with an input, a scored file with its summary, a model, a plain file and a circle of
    links.
    """
    folder = tmp_path_factory.mktemp("paths")
    with contextlib.chdir(folder):
        Path("in.csv").write_text("id,text,gold\n1,good,POSITIVE\n2,bad,NEGATIVE\n")
        Path("file").write_text("not a folder")
        Path("model").symlink_to(tiny_model)
        Path("circle").symlink_to("back")
        Path("back").symlink_to("circle")
        batch_all(["in.csv"], "done.csv", models=HashModels())
    return folder


def score(source="in.csv", output="out.csv", **options):
    return batch_all([source], output, models=HashModels(), **options)


def finetune(output="trained", **options):
    settings = {"train": "in.csv", "label_column": "gold", "base_model": "model"} | options
    return batchsent.finetune(output, **settings)


# What a path is given as: its suffix, what is done with it, the exit code where it cannot be.
READ = {
    "batch INPUT": (".csv", lambda path: score(path), 4),
    "batch INPUT.parquet": (".parquet", lambda path: score(path), 4),
    "batch --model": ("", lambda path: batchsent.batch("in.csv", "out.csv", model=path), 6),
    "evaluate FILE": (".csv", lambda path: batchsent.evaluate(path, gold="gold"), 4),
    "report SUMMARY": (".json", lambda path: batchsent.report(path), 4),
    "compare SUMMARY": (".json", lambda path: batchsent.compare(path, SUMMARY), 4),
    "verify INPUT": (".csv", lambda path: batchsent.verify(path, "done.csv"), 4),
    "verify OUTPUT": (".csv", lambda path: batchsent.verify("in.csv", path), 4),
    "verify --summary": (
        ".json",
        lambda path: batchsent.verify("in.csv", "done.csv", summary=path),
        4,
    ),
    "export MODEL": ("", lambda path: batchsent.export(path, "exported"), 6),
    "finetune --train": (".csv", lambda path: finetune(train=path), 4),
    "finetune --eval": (".csv", lambda path: finetune(eval=path), 4),
    "finetune --base-model": ("", lambda path: finetune(base_model=path), 6),
}
WRITTEN = {
    "batch -o": (".csv", lambda path: score(output=path)),
    "batch --summary": (".json", lambda path: score(summary=path)),
    "batch --rejects": (".csv", lambda path: score(rejects=path, bad_rows="reject")),
    "batch --disagreements": (".csv", lambda path: score(disagreements=path, gold="gold")),
    "batch -o FOLDER": (
        "",
        lambda path: batch_all(["in.csv", "done.csv"], path, models=HashModels()),
    ),
    "report -o": (".html", lambda path: batchsent.report(SUMMARY, path)),
    "compare --html": (".html", lambda path: batchsent.compare(SUMMARY, SUMMARY, html=path)),
    "export -o": ("", lambda path: batchsent.export("model", path, to="torch")),
    "finetune -o": ("", lambda path: finetune(path)),
    "finetune --torch-save": (".pt", lambda path: finetune(torch_save=path)),
}
BAD = {
    "name of 300 bytes": "x" * 300,
    "path of 6,000 bytes": "a/" * 3000 + "x",
    "below a file": "file/x",
    "below a circle of links": "circle/x",
}
MODEL_BAD = {**BAD, "home of nobody": "~no-such-user/x"}


def refused(use, path):
    """The error of a command that is given this path; it must not be a bug."""
    with pytest.raises(BatchsentError) as raised:
        use(path)
    return raised.value


def is_named(path, error):
    """Whether the error names the path that was typed, or the file beside it that cannot be."""
    return path[:250] in error.message


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("role", READ)
def test_k15_a_path_that_cannot_be_read_is_named(files, monkeypatch, role, bad):
    """K15: exit code 4 for an input, 6 for a model."""
    monkeypatch.chdir(files)
    suffix, use, code = READ[role]
    error = refused(use, bad + suffix)
    assert error.exit_code == code
    assert is_named(bad, error)


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("role", WRITTEN)
def test_k15_a_path_that_cannot_be_written_is_named(files, monkeypatch, role, bad):
    """K15: exit code 5 before anything is scored or trained."""
    monkeypatch.chdir(files)
    suffix, use = WRITTEN[role]
    before = sorted(files.rglob("*"))
    error = refused(use, bad + suffix)
    assert error.exit_code == 5
    assert is_named(bad, error)
    assert sorted(files.rglob("*")) == before


@pytest.mark.parametrize("role", WRITTEN)
def test_k15_a_name_of_254_bytes_is_refused_and_the_hint_says_how_many_fewer_are_possible(
    files, monkeypatch, role
):
    """K15: the file itself could be, but not the name that it has while it is written."""
    monkeypatch.chdir(files)
    suffix, use = WRITTEN[role]
    name = "y" * (254 - len(suffix)) + suffix
    before = sorted(files.rglob("*"))
    error = refused(use, name)
    assert error.exit_code == 5
    assert name in error.message
    over = len(temporary_path(Path(name)).name) - 255
    assert f"{over} bytes shorter" in error.hint
    assert sorted(files.rglob("*")) == before


def test_k15_the_longest_name_for_an_output_that_is_accepted_also_works(files, monkeypatch):
    """K15: what is refused is no more than it must be.

    The files beside an output have longer names.
    """
    monkeypatch.chdir(files)
    error = refused(lambda path: score(output=path), "z" * 240 + ".csv")
    assert error.exit_code == 5
    places = RunPaths.of("in.csv", "x.csv", BatchOptions())
    beside = max(len(temporary_path(path).name) for path in places.written.values()) - len("x.csv")
    name = "z" * (255 - beside - 4) + ".csv"
    assert score(output=name)["status"] == "complete"
    assert refused(lambda path: score(output=path), "z" + name).exit_code == 5


@pytest.mark.parametrize("path", MODEL_BAD.values(), ids=MODEL_BAD)
def test_k15_a_file_of_several_that_cannot_be_read_does_not_stop_the_others(
    files, monkeypatch, tmp_path, path
):
    """K15: its entry in the folder's summary names it; the others are scored."""
    monkeypatch.chdir(files)
    document = batch_all(["in.csv", path + ".csv"], str(tmp_path / "out"), models=HashModels())
    good, bad = document["files"]
    assert good["status"] == "complete"
    assert bad["status"] == "failed"
    assert bad["exit_code"] in {4, 5}
    assert path[:250] in bad["error"]["message"]


@pytest.mark.parametrize(
    "role", ["batch --model", "export MODEL", "finetune --base-model", "finetune --train"]
)
def test_k15_the_home_of_a_user_that_does_not_exist_is_no_bug(files, monkeypatch, role):
    """K15: ~no-such-user is what the shell leaves of a typing error."""
    monkeypatch.chdir(files)
    suffix, use, code = READ[role]
    error = refused(use, "~no-such-user/x" + suffix)
    assert (error.exit_code, is_named("~no-such-user/x", error)) == (code, True)


@pytest.mark.parametrize("role", [*READ, *WRITTEN])
def test_a_name_with_a_nul_is_no_bug(files, monkeypatch, role):
    """A Python program may pass one; a shell cannot."""
    monkeypatch.chdir(files)
    suffix, use, *_ = (READ | WRITTEN)[role]
    error = refused(use, "x\0y" + suffix)
    assert error.exit_code in {2, 4, 5, 6}
    assert "x\\x00y" in error.message


# --- permissions


def set_override(on):
    """Give or take from this thread the right to open what its owner may not: root has it."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    override = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    sets[0] = sets[0] | (override & sets[1]) if on else sets[0] & ~override
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


@pytest.fixture
def no_override():
    """Permissions count for this test, also where root runs it."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs Linux capabilities")
    if os.getuid() == 0:
        set_override(on=False)
    yield
    if os.getuid() == 0:
        set_override(on=True)


@pytest.fixture
def shut(files, tmp_path, no_override):
    """A folder that may not be looked into, and one that may not be written to."""
    hidden, fixed = tmp_path / "hidden", tmp_path / "fixed"
    hidden.mkdir()
    for name in ("x.csv", "x.parquet", "x.json", "x"):
        (hidden / name).write_text("there")
    fixed.mkdir()
    hidden.chmod(0)
    fixed.chmod(0o555)
    yield tmp_path
    hidden.chmod(0o755)
    fixed.chmod(0o755)


@pytest.mark.parametrize("role", READ)
def test_k15_a_folder_that_may_not_be_looked_into_is_told(files, monkeypatch, shut, role):
    """K15: permission denied on a parent folder is no bug."""
    monkeypatch.chdir(files)
    suffix, use, code = READ[role]
    error = refused(use, f"{shut}/hidden/x{suffix}")
    assert error.exit_code == code
    assert f"{shut}/hidden/x" in error.message


@pytest.mark.parametrize("folder", ["hidden", "fixed"])
@pytest.mark.parametrize("role", WRITTEN)
def test_k15_a_folder_that_may_not_be_written_to_is_told_before_the_work(
    files, monkeypatch, shut, role, folder
):
    """K15: also for the files that are written last."""
    monkeypatch.chdir(files)
    suffix, use = WRITTEN[role]
    before = sorted(files.rglob("*"))
    error = refused(use, f"{shut}/{folder}/new{suffix}")
    assert error.exit_code == 5
    assert f"{shut}/{folder}/new" in error.message
    assert sorted(files.rglob("*")) == before


# --- the command


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["in.csv", "-o", "x" * 300 + ".csv"], 5),
        (["x" * 300 + ".csv", "-o", "out.csv"], 4),
        (["in.csv", "-o", "in.csv/out.csv"], 5),
        (["in.csv/in.csv", "-o", "out.csv"], 4),
        (["in.csv", "-o", "y" * 250 + ".csv"], 5),
    ],
)
def test_k15_the_command_names_the_path_and_never_stdout(tmp_path, arguments, code):
    """K15: the exit code and the one line that a person reads."""
    (tmp_path / "in.csv").write_text("text\ngood\n")
    found, stderr = run(arguments, tmp_path)
    assert found == code, stderr
    assert "stdout" not in stderr
    assert "Traceback" not in stderr
    assert any(str(word)[:200] in stderr for word in arguments if word != "in.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "stderr.log"]


def test_what_is_at_a_path_can_always_be_asked(tmp_path):
    """No name makes the question an error."""
    (tmp_path / "file").write_text("x")
    for name in ("x" * 300, "x\0y", "file/x", "a/" * 3000, ""):
        path = f"{tmp_path}/{name}" if name else name
        assert not exists(path)
        assert not is_folder(path)
        assert not is_regular(path)
    assert exists(tmp_path)
    assert is_folder(tmp_path)
    assert is_regular(tmp_path / "file")
    assert str(expand("~no-such-user/x")) == "~no-such-user/x"
    assert expand("~") == Path.home()
