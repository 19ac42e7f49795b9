"""What the README and the examples say works: commands, options, exit codes, scripts."""

import ast
import configparser
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from batchsent import errors
from batchsent.cli import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXAMPLES = ROOT / "examples"
COMMAND = re.compile(
    r"(?:^|\| |&& |/)batchsent ((?:batch|finetune|predict|evaluate|report|compare|verify|sample|info|export)\b[^|#\n]*)",
    re.M,
)


def options_of(name):
    """Every option string of a command."""
    context = click.Context(cli.commands[name])
    return {text for parameter in cli.commands[name].get_params(context) for text in parameter.opts}


def commands_in(text):
    """Every batchsent command in some text, as words."""
    import shlex

    return [shlex.split(line.replace("%%", "%")) for line in COMMAND.findall(text)]


@pytest.mark.parametrize(
    "path",
    [
        "README.md",
        "Makefile",
        *sorted(f"examples/{p.name}" for p in EXAMPLES.iterdir() if p.is_file()),
    ],
)
def test_every_command_shown_exists_with_its_options(path):
    """No README block, make target or example uses a command or option that is not there."""
    for name, *words in commands_in((ROOT / path).read_text()):
        for word in words:
            if word.startswith("-") and word != "-":
                assert word.partition("=")[0] in options_of(name) | {"-h"}, (
                    f"batchsent {name} {word}"
                )


def test_every_option_named_in_the_tables_exists():
    """The table of useful options is current."""
    named = set(re.findall(r"`(--[a-z-]+)", README))
    assert named <= set().union(*(options_of(name) for name in cli.commands))


def test_exit_codes_are_those_of_the_program():
    """Every code of the error tree stands in the README's table."""
    documented = {
        int(code)
        for cell in re.findall(r"^\| ([\d, ]+) \|", README, re.M)
        for code in cell.split(",")
    }
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and "exit_code" in vars(value)
    ]
    assert {cls.exit_code for cls in classes} - {errors.EXIT_BUG} <= documented


def test_python_blocks_are_python():
    """The README's Python compiles and uses public names only."""
    import batchsent

    for block in re.findall(r"```python\n(.*?)```", README, re.S):
        for node in ast.walk(ast.parse(block)):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "batchsent"
            ):
                assert node.attr in batchsent.__all__


def test_the_readme_begins_with_the_two_commands():
    """Whoever clones it sees make demo and make test first."""
    assert re.findall(r"^(make \w+)", README, re.M)[:2] == ["make demo", "make test"]


def blocks():
    """Each block of shell or Python in the README that a reader types: language, text, output.

    The blocks under "Install" are left out: whoever runs this test has run them.
    """
    install = README[README.index("## Install") : README.index("## You have a CSV")]
    shown = README.replace(install, "")
    found = re.findall(r"```(sh|python)\n(.*?)```(?:\n\n```text\n(.*?)```)?", shown, re.S)
    assert len(found) > 6
    return found


def without_last_digits(text):
    """Text whose long decimals are cut: the last digits of a score depend on the processor."""
    return re.sub(r"(\d\.\d{3})\d+", r"\1", text)


def test_every_block_runs_as_it_is_printed(tmp_path, path_with_batchsent, fork_server):
    """In their order, in one folder with the examples in it; what is shown is what is printed."""
    clone = tmp_path / "clone"
    shutil.copytree(EXAMPLES, clone / "examples")
    for language, text, shown in blocks():
        python = language == "python"
        command = [fork_server.python, "-c", text] if python else ["bash", "-ec", text]
        done = subprocess.run(command, cwd=clone, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        if shown:
            assert without_last_digits(done.stdout) == without_last_digits(shown)


@pytest.fixture
def path_with_batchsent(tmp_path, monkeypatch, fork_server):
    """A PATH on which `batchsent` and `python3` are this environment's."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "python3"
    script.write_text(f'#!/bin/sh\nexec "{fork_server.python}" "$@"\n')
    script.chmod(0o755)
    fork_server.write_program(tmp_path / "bin" / "batchsent")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_the_frame_example_runs(fork_server, tiny_model):
    """Five lines of Python score a frame."""
    done = subprocess.run(
        [fork_server.python, "examples/score_frame.py", tiny_model],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "NEGATIVE" in done.stdout or "POSITIVE" in done.stdout


def test_the_duckdb_example_runs(fork_server, tiny_model):
    """Reviews go from a query through the model into a table."""
    pytest.importorskip("duckdb")
    done = subprocess.run(
        [fork_server.python, "examples/duckdb_reviews.py", tiny_model],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "product" in done.stdout
    assert "NEGATIVE" in done.stdout or "POSITIVE" in done.stdout


def test_the_pipe_example_runs(tiny_model, path_with_batchsent):
    """A shell pipe brings scored rows into pandas without a file."""
    done = subprocess.run(
        ["examples/pipe_into_pandas.sh", tiny_model, "examples/reviews.csv"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "count" in done.stdout
    assert done.stderr == ""


def test_the_crontab_line_is_one():
    """Five time fields and a command, no percent sign that cron would take for a line end."""
    lines = [
        line
        for line in (EXAMPLES / "crontab").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    (job,) = [line for line in lines if "=" not in line.split(" ")[0]]
    *times, command = job.split(maxsplit=5)
    assert all(re.fullmatch(r"\*|\d+", field) for field in times)
    assert not re.search(r"(?<!\\)%", command)


def test_the_systemd_units_are_valid():
    """systemd-analyze verify accepts them, where it is installed.

    Their sections parse everywhere.
    """
    units = [EXAMPLES / "batchsent.service", EXAMPLES / "batchsent.timer"]
    for unit in units:
        parser = configparser.RawConfigParser(strict=True)
        parser.optionxform = str
        parser.read(unit)
        assert {"Unit"} < set(parser.sections())
    if shutil.which("systemd-analyze"):
        done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
        # The program's path is the reader's own; everything else that is said is a mistake of ours.
        said = [
            line
            for line in done.stderr.splitlines()
            if "batchsent" in line and "not executable" not in line
        ]
        assert said == []


def test_the_tree_in_the_readme_is_the_tree():
    """Every module stands there with the first sentence of its docstring, and nothing else does."""
    package = ROOT / "batchsent"
    shown = README.split("**The tree.**")[1].split("```")[1].splitlines()[2:]
    named = sorted(line.split()[0] for line in shown if line.split()[0].endswith(".py"))
    modules = [path for path in package.rglob("*.py") if path.name != "__init__.py"]
    assert named == sorted(path.name for path in modules)
    for path in modules:
        said = ast.get_docstring(ast.parse(path.read_text())).splitlines()[0].rstrip(".")
        assert f" {said}\n" in README, path
