"""Completion: what a shell offers when the user presses Tab."""

import os
import shutil
import subprocess
import sys

import pytest


def completed(words, folder, shell="bash"):
    """What is offered for the last of `words`, as the completion script asks for it."""
    environment = {
        **os.environ,
        "_BATCHSENT_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    program = "import sys; sys.argv = ['batchsent']; from batchsent.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed(shell):
    """It is the script that click makes for this shell, and it names the program."""
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "batchsent", "completion", shell],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "_BATCHSENT_COMPLETE" in done.stdout


def test_options_choices_and_paths_are_completed(tmp_path):
    """Commands, options and choices by name; where a path belongs the shell offers files."""
    assert "plain,batch" in completed(["batchsent", "ba"], tmp_path)
    assert "plain,--group-by" in completed(["batchsent", "batch", "--gr"], tmp_path)
    assert completed(["batchsent", "batch", "--long-text", "head-"], tmp_path) == [
        "plain,head-tail"
    ]
    for words in (["batch", "rev"], ["batch", "--model", "mo"], ["verify", "x", "sc"]):
        assert completed(["batchsent", *words], tmp_path) == [f"file,{words[-1]}"]
