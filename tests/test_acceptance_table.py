"""The table of fault cases names tests that exist, and test files share through helper modules."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TABLE = (TESTS / "ACCEPTANCE.md").read_text()
# A file, and the ids or names in backquotes that stand right after it.
NAMED = re.findall(r"(test_\w+\.py)((?:,? `[^`]+`)*)", TABLE)
IMPORT_OF_TESTS = re.compile(r"(?:from|import)\s+tests\.test" + "_")


@pytest.mark.parametrize("name", sorted({name for name, _ in NAMED}))
def test_every_file_in_the_table_exists(name):
    """A test file that was renamed is renamed in the table."""
    assert (TESTS / name).is_file()


@pytest.mark.parametrize(("name", "ids"), [(name, ids) for name, ids in NAMED if ids])
def test_every_case_in_the_table_has_its_test(name, ids):
    """`a17` after a file is in the name of a test or of its parameters, `test_...` begins a name."""
    text = (TESTS / name).read_text()
    for case in re.findall(r"`([^`]+)`", ids):
        if case.startswith("test_"):
            assert f"def {case.rstrip('.')}" in text, case
        else:
            assert re.search(f'(def test_|_|"){case}_', text), case


@pytest.mark.parametrize("path", sorted(TESTS.glob("*.py")), ids=lambda path: path.name)
def test_no_file_imports_from_a_test_file(path):
    """What several files use stands in a module of its own, for child processes too."""
    assert not IMPORT_OF_TESTS.search(path.read_text())
