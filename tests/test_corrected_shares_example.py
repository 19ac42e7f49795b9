"""The simulation of corrected shares draws what it says, and prints a line for each share."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from batchsent.training.held_out import count_held_out

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def script(monkeypatch):
    """Load the script as a module, with the scripts beside it."""
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    spec = importlib.util.spec_from_file_location("shares", EXAMPLES / "corrected_shares.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "shares", module)
    spec.loader.exec_module(module)
    return module


def test_dumps_of_a_known_share_are_corrected_to_it(script, capsys):
    """Of a model whose scores are calibrated: the share comes back, in a table of Markdown."""
    random = np.random.default_rng(0)
    gold = np.repeat([0, 1], 2_000)
    evidence = random.normal(4.0 * gold - 2, 2)  # a log-likelihood ratio: its variance is 2 x 2
    p = 1 / (1 + np.exp(-evidence))
    raw = np.stack([1 - p, p], axis=1).astype(np.float32)
    counts = count_held_out(("NEGATIVE", "POSITIVE"), raw, gold, temperature=1.0)
    rows = script.Rows(raw, raw, gold)
    found = script.simulate(rows, 0.9, 500, 10, counts, redraw=True)
    assert found["corrected"] == pytest.approx(0.9, abs=0.02)
    assert found["counted"] < 0.85
    assert found["expected"] == pytest.approx(found["true"], abs=0.03)
    script.print_tables({("reviews", 0.9): found}, 10)
    assert "| reviews | 90% | " in capsys.readouterr().out
