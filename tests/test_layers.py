"""The map in the code: imports go down the layers only, and nothing heavy is imported before it is
used.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import batchsent

PACKAGE = Path(batchsent.__file__).parent
ROOT = Path(__file__).parents[1]
HEAVY = {
    "torch",
    "transformers",
    "datasets",
    "evaluate",
    "sklearn",
    "matplotlib",
    "pandas",
    "accelerate",
    "tokenizers",
    "ray",
}

# Layer of each package, with all in it, and of each module beside the packages.
LAYERS = {
    "batchsent": 6,  # the package itself: what it offers is imported when it is asked for
    "batchsent.__main__": 6,
    "batchsent.cli": 6,
    "batchsent.command_options": 6,
    "batchsent.exits": 6,
    "batchsent.commands": 5,
    "batchsent.verification": 4,
    "batchsent.run": 4,
    "batchsent.training": 4,
    "batchsent.pages": 3,
    "batchsent.terminal": 3,
    "batchsent.model": 2,
    "batchsent.formats": 2,
    "batchsent.evaluation": 1,
    "batchsent.files": 1,
    "batchsent.chunk": 0,
    "batchsent.errors": 0,
    "batchsent.options": 0,
    "batchsent.precisions": 0,
    "batchsent.python_api": 6,
    "batchsent.ray": 6,
    "batchsent.python_words": 0,
    "batchsent.reporting": 0,
    "batchsent.row_texts": 0,
    "batchsent.sentences": 0,
    "batchsent.text": 0,
    "batchsent.text_columns": 0,
    "batchsent.texts": 0,
    "batchsent.urls": 0,
    "batchsent.versions": 0,
    "batchsent.filenames": 0,
    "batchsent.memory": 0,
    "batchsent.standard_streams": 0,
}


@pytest.fixture(scope="module")
def modules():
    """Every module of the package by its dotted name, parsed.

    A test looks at all of them: one test for each would be a sixth of all tests.
    """
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text())
    return found


def layer(module):
    """The layer of a module, None for one that is not on the map."""
    return LAYERS.get(".".join(module.split(".")[:2]))


def imports(tree):
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module, node


def at_import_time(tree):
    """The nodes that run when the file is imported: outside functions and `if TYPE_CHECKING`."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if (
            isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
        ):
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def test_every_module_is_on_the_map(modules):
    """Each has a layer."""
    assert [name for name in modules if layer(name) is None] == []


def test_imports_go_down(modules):
    """A module imports from its own layer or below; the package itself, whatever it offers."""
    upward = [
        f"{name} imports {imported}"
        for name, tree in modules.items()
        for imported, _ in imports(tree)
        if name != "batchsent" and imported.startswith("batchsent.")
        if layer(imported) > layer(name)
    ]
    assert upward == []


def package(module):
    """The package under batchsent that a module belongs to, None for a module of the top level."""
    name = ".".join(module.split(".")[:2])
    return (
        name
        if (PACKAGE / name.partition(".")[2] / "__init__.py").is_file() and name != "batchsent"
        else None
    )


def test_packages_of_one_layer_do_not_import_each_other(modules):
    """A module imports from its own package or from a lower layer, never from a package beside its
    own.
    """
    sideways = [
        f"{name} imports {imported}"
        for name, tree in modules.items()
        for imported, _ in imports(tree)
        if imported.startswith("batchsent.")
        and package(name)
        and package(imported) not in {None, package(name)}
        and layer(imported) >= layer(name)
    ]
    assert sideways == []


def test_no_module_hides_a_function_of_the_package():
    """Loading a module sets its name on the package: none may be called like one of the functions
    there.
    """
    assert not {path.stem for path in PACKAGE.iterdir()} & set(batchsent.__all__)


def test_heavy_libraries_are_imported_where_they_are_used(modules):
    """No module imports torch and its like when it is itself imported."""
    heavy = []
    for name, tree in modules.items():
        for node in at_import_time(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            if {found.partition(".")[0] for found in names} & HEAVY:
                heavy.append(f"{name}, line {node.lineno}")
    assert heavy == []


def test_a_run_that_is_up_to_date_imports_nothing_heavy(tmp_path):
    """Its modules are imported, its input is checked, and not one of the heavy libraries is needed
    for that.
    """
    (tmp_path / "in.csv").write_text("text\ngood\n")
    code = (
        "import sys\nfrom tests import hash_model\n"
        "try:\n    hash_model.main()\n"
        "except SystemExit as ended:\n    assert not ended.code\n"
        f"print([name for name in {sorted(HEAVY)!r} if sys.modules.get(name)])"
    )
    command = [sys.executable, "-c", code, tmp_path / "in.csv", "-o", tmp_path / "out.csv"]
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "up to date" in done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["batch", "--help"], ["finetune", "--help"], ["predict", "--help"]]
)
def test_d10_help_loads_nothing_heavy(arguments):
    """Asking for help imports none of the heavy libraries."""
    code = (
        "import sys\nfrom batchsent.cli import cli\n"
        f"cli.main({arguments!r}, standalone_mode=False)\n"
        f"print('HEAVY', sorted(set(sys.modules) & {HEAVY!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("HEAVY []")


def test_importing_the_package_loads_nothing_heavy():
    """`import batchsent` is instant; its functions come when they are asked for."""
    code = f"import sys, batchsent; print(sorted(set(sys.modules) & ({HEAVY!r} | {{'numpy', 'pyarrow', 'click'}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_all_is_what_the_readme_promises():
    """Every public name can be had, and is listed."""
    for name in batchsent.__all__:
        assert getattr(batchsent, name).__doc__
