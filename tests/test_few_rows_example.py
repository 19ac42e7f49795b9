"""The script about tuning on few rows measures on reviews that it does not learn from."""

import importlib.util
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

SCRIPT = Path(__file__).parents[1] / "examples" / "few_rows.py"


@pytest.fixture(scope="module")
def script():
    """Load the script as a module."""
    spec = importlib.util.spec_from_file_location("few_rows", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reviews(rows):
    """Reviews of two sentences, none the same; every second one is positive."""
    words = ("bad", "good")
    texts = [f"The film {i} is {words[i % 2]}. I say {words[i % 2]} {i}!" for i in range(rows)]
    return pa.table({"text": texts, "label": [i % 2 for i in range(rows)]})


def test_every_review_gives_one_sentence_with_its_label(script):
    """The same sentences come each time, in random order."""
    found = script.one_sentence_each(reviews(40))
    assert len(found) == 40
    assert found == script.one_sentence_each(reviews(40))
    for text, label in zip(found["text"].to_pylist(), found["label"].to_pylist(), strict=True):
        assert ("good" in text) == bool(label)
        assert text.count(" ") < 6
    numbers = {int("".join(filter(str.isdigit, text))) for text in found["text"].to_pylist()}
    assert numbers == set(range(40))


def test_it_prints_a_line_for_each_number_of_rows(script, tmp_path, tiny_model, monkeypatch):
    """TF-IDF learns what the texts say; the untrained base model came with half of it."""
    monkeypatch.setattr(script, "MEASURED", 20)
    pq.write_table(reviews(80), tmp_path / "r.parquet")
    arguments = [str(tmp_path / "r.parquet"), "--model", str(tiny_model)]
    result = CliRunner().invoke(script.main, [*arguments, "--rows", "30", "--seeds", "2"])
    assert result.exit_code == 0, result.output
    first, *_, last = result.stdout.splitlines()
    base = float(first.split()[-1])
    assert base == pytest.approx(0.5, abs=0.15)
    line = last.split()
    assert line[:2] == ["30", "1.000"]
    tuned, least = (float(cell) for cell in line[2:4])
    assert least <= tuned
    assert line[-2:] == ["of", "2"]
