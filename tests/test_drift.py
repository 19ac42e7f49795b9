"""The gate of a cron job: it fires between long and short reviews, and not between two halves of
one dump.
"""

import csv
import random
import re
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from batchsent.commands.batch import batch
from tests.hash_model import HashModels
from tests.word_model import BLAME, PRAISE, WordModels

IMDB = Path(__file__).parents[2] / "shared" / "data" / "imdb" / "test-5k.parquet"
FILLERS = (
    "the",
    "a",
    "film",
    "it",
    "was",
    "and",
    "of",
    "in",
    "story",
    "actors",
    "scene",
    "that",
    "with",
    "for",
    "plot",
)


def generated(rows=1_500):
    """Return reviews of 5 to 15 sentences, each with a word of praise or blame now and then."""
    chance = random.Random(1)
    reviews = []
    for _ in range(rows):
        mood = chance.choice([PRAISE, BLAME])
        sentences = []
        for _ in range(chance.randint(5, 15)):
            words = [chance.choice(FILLERS) for _ in range(chance.randint(5, 20))]
            words += [chance.choice(mood)] if chance.random() < 0.5 else []
            sentences.append(" ".join(words) + ".")
        reviews.append(" ".join(sentences))
    return reviews


def imdb():
    if not IMDB.exists():
        pytest.skip(f"{IMDB} is not there")
    return pq.read_table(IMDB, columns=["text"])["text"].to_pylist()


def score(folder, name, texts, models):
    """Score texts; return the path of the summary."""
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
    batch(folder / f"{name}.csv", folder / f"{name}-out.csv", models=models)
    return folder / f"{name}-out.csv.summary.json"


@pytest.fixture(scope="module", params=[generated, imdb])
def dumps(request, tmp_path_factory):
    """The summaries of two halves of a dump, and of the first sentences of its reviews."""
    texts = request.param()
    folder = tmp_path_factory.mktemp(request.param.__name__)
    parts = {
        "one_half": texts[::2],
        "other_half": texts[1::2],
        "short": [re.split(r"[.!?<]", text, maxsplit=1)[0] for text in texts],
    }
    return {name: score(folder, name, part, WordModels()) for name, part in parts.items()}


def compare(fork_server, first, second, *conditions):
    """Run the command as cron would; return exit code and stderr."""
    gates = [word for condition in conditions for word in ("--fail-on", condition)]
    command = [fork_server.python, "-m", "batchsent", "compare", first, second, *gates]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


def test_short_reviews_fire_the_gate(fork_server, dumps):
    """Between reviews and their first sentences the scores drift: exit code 8, and stderr says by
    how much.
    """
    code, said = compare(fork_server, dumps["one_half"], dumps["short"], "psi>0.2")
    assert code == 8
    assert re.search(r"psi is \d+\.\d+: psi>0\.2", said)


def test_two_halves_of_a_dump_pass(fork_server, dumps):
    """Every other review against those between them: nothing drifts, in scores, lengths or labels."""
    gates = ("psi>0.2", "length_psi>0.2", "ks>0.1", "length_ks>0.1", "label_share_change>10%")
    assert compare(fork_server, dumps["one_half"], dumps["other_half"], *gates) == (0, "")


def test_a_drift_of_lengths_alone_has_a_gate_of_its_own(fork_server, tmp_path):
    """Where a model scores short and long texts alike, psi passes and length_psi fires."""
    texts = generated(800)
    long = score(tmp_path, "long", texts, HashModels())
    short = score(tmp_path, "short", [text[:40] for text in texts], HashModels())
    assert compare(fork_server, long, short, "psi>0.2")[0] == 0
    code, said = compare(fork_server, long, short, "psi>0.2", "length_psi>0.2")
    assert code == 8
    assert "length_psi is" in said
    assert not re.search(r"(?<!length_)psi is", said)


def test_without_a_gate_drift_is_told_and_passes(fork_server, dumps):
    """A comparison without --fail-on is for reading: exit code 0."""
    assert compare(fork_server, dumps["one_half"], dumps["short"])[0] == 0
