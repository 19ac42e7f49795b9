"""Outputs that are symbolic links: the file they point to is written, whole, and they stay links."""

import os
import tempfile
from pathlib import Path

import pytest

from batchsent.commands.batch import batch
from batchsent.errors import Locked, UsageError
from batchsent.files.atomic import publish_directory, temporary_directory
from batchsent.files.lock import held_lock
from tests.children import run as run_child
from tests.hash_model import HashModels

ROWS = "id,text\n" + "".join(f"{n},review {n}\n" for n in range(40))


@pytest.fixture
def folder(tmp_path):
    """A folder with an input, its right output, and a folder `elsewhere`."""
    (tmp_path / "in.csv").write_text(ROWS)
    (tmp_path / "elsewhere").mkdir()
    batch(tmp_path / "in.csv", tmp_path / "right.csv", models=HashModels())
    (tmp_path / "right.csv.summary.json").unlink()
    return tmp_path


def names(folder):
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def score(folder, **options):
    """Score the input into `out.csv`."""
    return batch(folder / "in.csv", folder / "out.csv", models=HashModels(), **options)


@pytest.mark.parametrize("relative", [True, False], ids=["relative", "absolute"])
@pytest.mark.parametrize("through", [1, 2], ids=["one_link", "two_links"])
def test_overwrite_replaces_what_a_link_points_to(folder, relative, through):
    """The link stays a link, its target has the new rows, the old ones are refused without
    --overwrite.
    """
    target = folder / "elsewhere" / "data.csv"
    target.write_text("old")
    target.chmod(0o640)
    link = folder / "out.csv"
    if through == 2:
        (folder / "elsewhere" / "second.csv").symlink_to("data.csv")
        target = folder / "elsewhere" / "second.csv"
    link.symlink_to(os.path.relpath(target, folder) if relative else target)
    with pytest.raises(UsageError, match="exists already"):
        score(folder)
    assert link.read_text() == "old"
    summary = score(folder, overwrite=True)
    assert link.is_symlink()
    assert target.is_symlink() == (through == 2)
    assert link.read_bytes() == (folder / "right.csv").read_bytes()
    assert (folder / "elsewhere" / "data.csv").stat().st_mode & 0o777 == 0o640
    # The summary stands beside the name that was given, and nothing else stays anywhere.
    assert summary["outputs"][0]["path"] == str(link)
    assert names(folder) == ["elsewhere", "in.csv", "out.csv", "out.csv.summary.json", "right.csv"]
    assert names(folder / "elsewhere") == ["data.csv"] + ["second.csv"] * (through == 2)
    assert score(folder, overwrite=True)["status"] == "up_to_date"


def test_a_link_to_nothing_makes_the_file_it_points_to(folder):
    """As `>` of the shell does; nothing is replaced, so nothing has to be overwritten."""
    (folder / "out.csv").symlink_to("elsewhere/new.csv")
    score(folder)
    assert (folder / "out.csv").is_symlink()
    assert (folder / "elsewhere" / "new.csv").read_bytes() == (folder / "right.csv").read_bytes()


def test_a_link_to_another_disk_is_written_there(folder):
    """The file is put together beside the real target, where it can be renamed."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == folder.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir=shared) as other:
        target = Path(other) / "data.parquet"
        target.write_text("old")
        (folder / "out.parquet").symlink_to(target)
        batch(folder / "in.csv", folder / "out.parquet", models=HashModels(), overwrite=True)
        assert (folder / "out.parquet").is_symlink()
        assert target.read_bytes()[:4] == b"PAR1"
        assert names(Path(other)) == ["data.parquet"]


SIDE_NAMES = [
    ".summary.json",
    ".summary.failed.json",
    ".rejects.csv",
    ".report.html",
    ".groups.csv",
]


@pytest.mark.parametrize("ending", SIDE_NAMES)
def test_k01_a_link_at_a_side_name_is_refused_and_its_target_stays(folder, ending):
    """Without --overwrite nothing runs; with it the link itself is replaced.

    What it points to is never touched.
    """
    (folder / "in.csv").write_text("id,text\n1,a\n2\n")
    thesis = folder / "elsewhere" / "thesis.txt"
    thesis.write_text("years of work")
    link = folder / ("out.groups.csv" if "groups" in ending else f"out.csv{ending}")
    link.symlink_to("elsewhere/thesis.txt")
    options = {"bad_rows": "reject", "report": True, "group_by": "id"}
    if "failed" not in ending:
        with pytest.raises(
            UsageError, match=r"exists already and is a symbolic link\n.*--overwrite"
        ):
            score(folder, **options)
        assert link.is_symlink()
    score(folder, overwrite="failed" not in ending, **options)
    assert thesis.read_text() == "years of work"
    if "failed" in ending:
        assert link.is_symlink()
    else:
        assert not link.is_symlink()
        assert link.stat().st_size > 0


def test_a_link_and_its_target_are_one_output(folder):
    """Two runs, one by the link and one by the file's own name, do not write at once."""
    (folder / "out.csv").symlink_to("elsewhere/data.csv")
    with held_lock(folder / "elsewhere" / "data.csv", 0), pytest.raises(Locked):
        score(folder)


def test_a_link_to_the_input_is_refused(folder):
    """The dump is never overwritten by its own scores."""
    (folder / "out.csv").symlink_to("in.csv")
    with pytest.raises(UsageError, match="the same file"):
        score(folder, overwrite=True)
    assert (folder / "in.csv").read_text() == ROWS


def test_links_that_lead_nowhere_are_refused(folder):
    """A link to itself, and one into a folder that is not there."""
    (folder / "out.csv").symlink_to("out.csv")
    with pytest.raises(UsageError, match="a link to itself"):
        score(folder, overwrite=True)
    (folder / "out.csv").unlink()
    (folder / "out.csv").symlink_to("missing/data.csv")
    with pytest.raises(UsageError, match=r"missing.* does not exist"):
        score(folder, overwrite=True)


@pytest.mark.parametrize(
    "point", ["open", "write", "fsync", "close", "rename", "unlink", "fsync-directory"]
)
def test_a_kill_leaves_the_old_file_or_the_new_one_behind_the_link(folder, point):
    """SIGKILL at every passage of a step, then the same command again: the link, and the right rows
    behind it.
    """
    arguments = ["in.csv", "-o", "out.csv", "--overwrite", "--chunk-rows", "20"]
    link, target = folder / "out.csv", folder / "elsewhere" / "data.csv"
    link.symlink_to("elsewhere/data.csv")
    for number in range(1, 40):
        target.write_text("old")
        code, _ = run_child(arguments, folder, env={"BATCHSENT_FAULT": f"{point}:{number}:kill"})
        assert link.is_symlink()
        assert target.read_bytes() in (b"old", (folder / "right.csv").read_bytes())
        if code == 0:
            break
        assert run_child(arguments, folder)[0] == 0
        assert link.is_symlink()
        assert target.read_bytes() == (folder / "right.csv").read_bytes()
        assert names(folder / "elsewhere") == ["data.csv"]
    assert code == 0
    assert number > 1 or point == "unlink"


def test_a_model_folder_behind_a_link_is_replaced_behind_it(folder):
    """A folder is published where its name points; the link stays, and nothing else does."""
    (folder / "elsewhere" / "model-1").mkdir()
    (folder / "model").symlink_to("elsewhere/model-1")
    temporary = temporary_directory(folder / "model")
    (temporary / "config.json").write_text("new")
    publish_directory(temporary, folder / "model", overwrite=True)
    assert (folder / "model").is_symlink()
    assert (folder / "elsewhere" / "model-1" / "config.json").read_text() == "new"
    assert names(folder / "elsewhere") == ["model-1"]
