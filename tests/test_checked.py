"""What was checked on this machine before loads without transformers, and scores the same bits."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from batchsent.commands.predict import load
from batchsent.errors import UsageError
from batchsent.filenames import cache_folder
from batchsent.model.checked import MOST_RECORDS, load_checked, record_path
from batchsent.model.device import choose_device
from batchsent.model.int8 import require_int8
from batchsent.model.loading import EMBEDDED_FOLDER, identify
from batchsent.model.options import ModelOptions
from batchsent.model.scorer import ModelScorer
from tests.models import change_weights, make_model

KINDS = ("distilbert", "bert", "roberta")
TEXTS = ["a great film", "bad", "the plot was boring and the cast too " * 9, "[SEP] \u20ac \udc80"]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """Give every test a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def recorded(folder, device="cpu", precision="float32"):
    """Tell whether a model folder loads without a check."""
    identity = identify(str(folder))
    found = load_checked(identity, choose_device(device, precision), identity.max_length)
    return found is not None


def scores_of(folder, *, always_check, **options):
    """Return what a model says of TEXTS, and how it runs."""
    settings = ModelOptions(device="cpu", **options)
    scorer = ModelScorer.open(identify(str(folder)), settings, always_check=always_check)
    return scorer.score(scorer.prepare(TEXTS)), scorer.facts()


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("kind", [*KINDS, "embedded"])
def test_a_model_read_from_its_files_gives_the_same_bits(kind, precision, tmp_path):
    """Every architecture that runs packed: probabilities, token counts and facts are equal."""
    if precision == "int8":
        try:
            require_int8()
        except UsageError as reason:
            pytest.skip(str(reason))
    folder = EMBEDDED_FOLDER if kind == "embedded" else make_model(tmp_path / kind, kind)
    wanted, facts = scores_of(folder, always_check=True, precision=precision)
    assert recorded(folder, precision=precision)
    found, found_facts = scores_of(folder, always_check=False, precision=precision)
    assert found.probabilities.tobytes() == wanted.probabilities.tobytes()
    assert np.array_equal(found.n_tokens, wanted.n_tokens)
    assert np.array_equal(found.truncated_tokens, wanted.truncated_tokens)
    for document in (facts, found_facts):
        del document["device"]["peak_memory_bytes"]
    assert found_facts == facts


def test_the_second_time_transformers_is_not_imported(tmp_path):
    """`batchsent predict` imports it for the check at a model's first use, and never again."""
    folder = make_model(tmp_path / "model")
    code = (
        "import sys\n"
        "from batchsent.cli import cli\n"
        f"cli.main(['predict', 'a great film', '-m', {str(folder)!r}], standalone_mode=False)\n"
        "print('transformers' in sys.modules)\n"
    )
    said = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    first, second = ([*done.stdout.splitlines()] for done in said)
    assert (first[-1], second[-1]) == ("True", "False")
    assert first[:-1] == second[:-1]


def test_that_the_model_loads_is_said_before_anything_slow_is_imported(tmp_path):
    """`batchsent predict` shows a sign of life first: torch alone takes a second to import."""
    code = (
        "import sys\n"
        "from batchsent.commands.predict_texts import predictions\n"
        "from batchsent.reporting import Reporter\n"
        "class Listener(Reporter):\n"
        "    def notice(self, text, **facts):\n"
        "        print(text, sorted({'torch', 'tokenizers', 'safetensors'} & set(sys.modules)))\n"
        "for text, prediction in predictions(['good'], reporter=Listener()):\n"
        "    print(text)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["loading the model []", "good"]


def test_batch_checks_every_time(tmp_path):
    """Its seconds do not matter beside a dump: transformers runs whatever was recorded."""
    folder = make_model(tmp_path / "model")
    load(str(folder), device="cpu")
    assert recorded(folder)
    (tmp_path / "in.csv").write_text("text\na great film\n")
    code = (
        "import sys, batchsent\n"
        "batchsent.batch('in.csv', 'out.csv', model='model', device='cpu')\n"
        "print('transformers' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True\n"


def test_a_changed_model_is_checked_again(tmp_path):
    """The record is of the bytes of weights, tokenizer and configuration."""
    folder = make_model(tmp_path / "model")
    load(str(folder), device="cpu")
    assert recorded(folder)
    changed = shutil.copytree(folder, tmp_path / "weights")
    change_weights(changed, "classifier.bias", lambda bias: bias.add_(0.5))
    assert not recorded(changed)
    for name in ("config.json", "tokenizer_config.json"):
        changed = shutil.copytree(folder, tmp_path / name)
        document = json.loads((changed / name).read_text()) | {"note": "changed"}
        (changed / name).write_text(json.dumps(document))
        assert not recorded(changed)
    assert recorded(shutil.copytree(folder, tmp_path / "copy"))


def test_another_length_or_precision_is_checked_again(tmp_path):
    """The check runs a text as long as the model reads, in its number format."""
    folder = make_model(tmp_path / "model")
    load(str(folder), device="cpu")
    identity, device = identify(str(folder)), choose_device("cpu", "float32")
    assert load_checked(identity, device, 64)
    assert load_checked(identity, device, 32) is None
    assert record_path(identity, device, 64) != record_path(identity, device, 32)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"config": {}, "tokenizer": "{}"}'])
def test_a_damaged_record_is_made_again(content, tmp_path):
    """The model loads as if it had never been checked."""
    folder = make_model(tmp_path / "model")
    model = load(str(folder), device="cpu")
    wanted = model.predict(TEXTS)
    (record,) = cache_folder("checked").iterdir()
    record.write_bytes(content)
    assert load(str(folder), device="cpu").predict(TEXTS) == wanted
    assert recorded(folder)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    """The model is checked each time."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    folder = make_model(tmp_path / "model")
    assert load(str(folder), device="cpu").predict(TEXTS)
    assert not recorded(folder)


def test_what_does_not_run_packed_is_not_recorded(tmp_path):
    """Such a model needs transformers to run."""
    folder = make_model(tmp_path / "model", "roformer")
    load(str(folder), device="cpu")
    assert not recorded(folder)


def test_old_records_are_removed(tmp_path):
    """The cache folder holds a bounded number of records."""
    cache_folder("checked").mkdir(parents=True)
    for number in range(MOST_RECORDS + 5):
        path = cache_folder("checked") / f"{number}.json"
        path.write_text("{}")
        os.utime(path, (number, number))
    folder = make_model(tmp_path / "model")
    load(str(folder), device="cpu")
    left = {path.name for path in cache_folder("checked").iterdir()}
    assert len(left) == MOST_RECORDS
    assert "0.json" not in left
    assert recorded(folder)


def test_a_record_that_is_not_a_file_is_replaced(tmp_path):
    """A named pipe in the cache folder does not stop the program, nor does a file of 10 GB."""
    folder = make_model(tmp_path / "model")
    identity = identify(str(folder))
    device = choose_device("cpu", "float32")
    path = record_path(identity, device, identity.max_length)
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    assert not recorded(folder)
    with path.open("wb") as file:
        file.truncate(10 << 30)
    assert not recorded(folder)
    scores_of(folder, always_check=False)
    assert recorded(folder)


def test_a_cache_folder_that_cannot_be_written_holds_no_remains(fork_server, tmp_path):
    """A full disk costs the record, not the answer, and leaves nothing behind."""
    folder = make_model(tmp_path / "model")
    done = subprocess.run(
        [fork_server.python, "-m", "batchsent", "predict", "nice", "--model", str(folder)],
        env={**os.environ, "BATCHSENT_FAULT": "write:1:enospc"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("  nice\n")
    assert list(cache_folder("checked").iterdir()) == []


def test_a_relative_cache_folder_is_not_used(tmp_path, monkeypatch):
    """XDG_CACHE_HOME=cache would make a folder wherever the command is run."""
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("checked") == tmp_path / ".cache" / "batchsent" / "checked"


THREADS = """
import sys
import threading
import batchsent

found = []
threads = [
    threading.Thread(target=lambda: found.append(batchsent.load(sys.argv[1]).predict(["good"])))
    for _ in range(4)
]
for thread in threads:
    thread.start()
    print("started")
for thread in threads:
    thread.join()
print(len(found), "answers")
"""


def test_threads_of_a_program_load_at_the_same_time(tmp_path):
    """Each gets its model, and what the program prints meanwhile is not lost."""
    folder = make_model(tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-c", THREADS, str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "started\n" * 4 + "4 answers\n"
