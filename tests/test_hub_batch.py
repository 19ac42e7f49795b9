"""Scoring with a model of the Hub: downloaded once, pinned, offline from the cache, clear when it
is not there.
"""

import json
import subprocess
import sys

import pytest

from tests.hub import COMMIT, Hub


@pytest.fixture
def reviews(tmp_path):
    """A small CSV."""
    path = tmp_path / "reviews.csv"
    path.write_text("text\na great film\nan awful one\n")
    return path


def score(reviews, output, environment, *words):
    """Run `batchsent batch --model someone/sentiment` in a process of its own."""
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "batchsent",
            "batch",
            reviews,
            "-o",
            output,
            "--model",
            "someone/sentiment",
            *words,
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_d17_a_hub_model_scores_and_scores_again_offline(tiny_model, reviews, tmp_path):
    """The first run downloads.

    The second, with the Hub gone, uses the cache and gives the same bytes.
    """
    with Hub({"models/someone/sentiment": tiny_model}) as hub:
        environment = hub.environment(tmp_path / "cache")
        first = score(reviews, tmp_path / "first.csv", environment, "--revision", COMMIT)
        assert first.returncode == 0, first.stderr
    summary = json.loads((tmp_path / "first.csv.summary.json").read_bytes())
    assert (summary["model"]["source"], summary["model"]["revision"]) == (
        "someone/sentiment",
        COMMIT,
    )
    second = score(
        reviews,
        tmp_path / "second.csv",
        environment | {"HF_HUB_OFFLINE": "1"},
        "--revision",
        COMMIT,
        "--overwrite",
    )
    assert second.returncode == 0, second.stderr
    assert (tmp_path / "second.csv").read_bytes() == (tmp_path / "first.csv").read_bytes()


def test_d17_a_hub_model_that_is_not_cached_is_a_model_error_offline(reviews, tmp_path):
    """Offline without a cache exits 6 within seconds and says what to do."""
    with Hub({}) as hub:
        environment = hub.environment(tmp_path / "cache") | {"HF_HUB_OFFLINE": "1"}
    done = score(reviews, tmp_path / "out.csv", environment)
    assert done.returncode == 6
    assert "someone/sentiment" in done.stderr
    assert not (tmp_path / "out.csv").exists()
