"""Scoring needs none of the packages that only training uses, and imports none of them."""

import subprocess
import sys

import pytest

from tests.models import make_model

# A scoring run in a process of its own: `refuse` makes an import of these packages an error.
PROGRAM = """
import sys
from importlib.machinery import ModuleSpec

TRAINING = {"accelerate", "datasets", "evaluate", "sklearn"}


class Refuse:
    def find_spec(self, name, path=None, target=None):
        # To ask whether a package is installed is no import: only loading it raises.
        return ModuleSpec(name, self) if name.partition(".")[0] in TRAINING else None

    def create_module(self, spec):
        raise AssertionError(f"{spec.name} is imported")

    def exec_module(self, module):
        raise AssertionError


if sys.argv.pop(1) == "refuse":
    sys.meta_path.insert(0, Refuse())
from batchsent.cli import main

try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 0, end.code
found = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
assert not found & TRAINING, found & TRAINING
print("nothing imported")
"""


@pytest.mark.parametrize("imports", ["refuse", "allow"])
@pytest.mark.parametrize("command", ["batch", "predict"])
def test_a_scoring_run_imports_nothing_of_training(tmp_path, command, imports):
    """datasets, evaluate, accelerate and scikit-learn: neither needed nor imported.

    Twice: `predict` does not check a model again that it has checked on this machine.
    """
    dump = tmp_path / "reviews.csv"
    dump.write_text("text,gold\na great film,POSITIVE\nbad,NEGATIVE\n")
    model = make_model(tmp_path / "model")
    words = {
        "batch": ["batch", dump, "-o", tmp_path / "scored.csv", "--gold", "gold", "--report"],
        "predict": ["predict", "a great film"],
    }[command]
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, imports, *map(str, words), "-m", str(model)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("nothing imported\n")
