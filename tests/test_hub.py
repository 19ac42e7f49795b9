"""The paths through the Hugging Face Hub, against a small hub on loopback: defaults, revisions,
uploads, refusals.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.hub import COMMIT, Hub
from tests.models import make_model

ROOT = Path(__file__).parents[1]
# The card of stanfordnlp/imdb as the Hub has it, shortened: it names the splits and the classes.
IMDB_CARD = """---
configs:
- config_name: plain_text
  data_files:
  - split: train
    path: plain_text/train-*
  - split: test
    path: plain_text/test-*
  - split: unsupervised
    path: plain_text/unsupervised-*
  default: true
dataset_info:
  config_name: plain_text
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': neg
          '1': pos
---
"""
WORDS = (
    ["awful", "boring", "terrible", "bad", "hate"],
    ["great", "lovely", "wonderful", "good", "love"],
)
FINETUNE = """
import json, sys, torch, batchsent
from batchsent.errors import BatchsentError
torch.set_num_threads(1)
try:
    print(json.dumps(batchsent.finetune(sys.argv[1], **json.loads(sys.argv[2]))))
except BatchsentError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def write_imdb(folder):
    """Write a data set repository like stanfordnlp/imdb with 60 reviews to train and 30 to test."""
    draw = random.Random(1)
    (folder / "plain_text").mkdir(parents=True)
    for split, rows in (("train", 60), ("test", 30), ("unsupervised", 10)):
        texts = [" ".join(draw.choices(WORDS[i % 2], k=6)) for i in range(rows)]
        labels = pa.array(
            [i % 2 if split != "unsupervised" else -1 for i in range(rows)], pa.int64()
        )
        table = pa.table({"text": texts, "label": labels})
        pq.write_table(table, folder / "plain_text" / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text(IMDB_CARD)
    return folder


def write_base(folder):
    """Write an encoder without a classification head, as distilbert-base-uncased is one."""
    import transformers

    classifier = make_model(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(classifier)
    model.distilbert.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """Folders of the repositories that the notebook uses, in small."""
    root = tmp_path_factory.mktemp("repositories")
    return {
        "datasets/stanfordnlp/imdb": write_imdb(root / "imdb"),
        "models/distilbert-base-uncased": write_base(root / "distilbert"),
    }


def run(hub, folder, output, environment=None, **options):
    """Fine-tune in a child process that knows only this hub, with its cache in `folder`."""
    return subprocess.run(
        [sys.executable, "-c", FINETUNE, str(output), json.dumps(options)],
        env=os.environ | hub.environment(folder / "cache") | (environment or {}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def notebook(repositories, tmp_path_factory):
    """The defaults on a small sample, uploaded: the hub, the folder and the document that finetune
    returned.
    """
    folder = tmp_path_factory.mktemp("notebook")
    with Hub(repositories) as hub:
        done = run(
            hub,
            folder,
            folder / "model",
            train_samples=40,
            eval_samples=20,
            learning_rate=1e-3,
            push_to_hub="tester/m",
        )
    assert done.returncode == 0, done.stderr
    return hub, folder / "model", json.loads(done.stdout)


def test_the_defaults_are_imdb_and_distilbert(notebook):
    """Without naming data or model, IMDB and DistilBERT come from the Hub, sampled, with their
    commits recorded.
    """
    _, _, document = notebook
    train, evaluated = document["data"]["train"], document["data"]["eval"]
    assert (train["name"], train["split"], train["rows_read"], train["rows"]) == (
        "stanfordnlp/imdb",
        "train",
        60,
        40,
    )
    assert (evaluated["split"], evaluated["rows_read"], evaluated["rows"]) == ("test", 30, 20)
    assert train["revision"] == evaluated["revision"] == COMMIT
    assert document["base_model"] == {
        "kind": "hub",
        "name": "distilbert-base-uncased",
        "revision": COMMIT,
        "weights_sha256": document["base_model"]["weights_sha256"],
    }
    assert document["labels"] == ["NEGATIVE", "POSITIVE"]
    assert document["metrics"]["accuracy"] > 0.7


def test_the_sample_of_imdb_is_that_of_the_notebook(notebook, repositories):
    """The training rows are those of
    load_dataset("stanfordnlp/imdb")["train"].shuffle(seed=42).select(range(40)).
    """
    import datasets

    from batchsent.training.examples import Examples

    parquet = (
        repositories["datasets/stanfordnlp/imdb"] / "plain_text" / "train-00000-of-00001.parquet"
    )
    rows = datasets.Dataset(pq.read_table(parquet)).shuffle(seed=42).select(range(40))
    expected = Examples(rows["text"][:], rows["label"][:], {})
    assert notebook[2]["data"]["train"]["rows_sha256"] == expected.sha256()


def test_the_upload_is_the_folder(notebook):
    """--push-to-hub makes the repository and uploads every file of the model folder as it is."""
    hub, folder, _ = notebook
    assert hub.uploads["tester/m"] == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_card_names_hub_models_and_data_sets(notebook):
    """The metadata of the card link to the base model and the data set, which have pages on the
    Hub.
    """
    import huggingface_hub

    card = huggingface_hub.ModelCard.load(notebook[1] / "README.md")
    assert card.data.base_model == "distilbert-base-uncased"
    assert card.data.datasets == ["stanfordnlp/imdb"]
    assert COMMIT in card.text


def test_an_upload_without_a_login_is_refused_before_the_training(repositories, tmp_path):
    """Without a valid token the run ends at once with what to do: no data is loaded, nothing is
    trained.
    """
    with Hub(repositories) as hub:
        done = run(
            hub, tmp_path, tmp_path / "model", {"HF_TOKEN": "hf_wrong"}, push_to_hub="tester/m"
        )
    assert done.returncode == 2
    assert "hf auth login" in done.stderr
    assert not any("resolve" in request for request in hub.requests)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({"train": "nobody/nothing"}, 4, "nobody/nothing"),
        ({"train_split": "trian"}, 4, "trian"),
        ({"base_model": "nobody/nothing"}, 6, "nobody/nothing"),
        ({"push_to_hub": "a/b/c"}, 2, "a/b/c is no Hub id"),
    ],
)
def test_what_the_hub_does_not_have_is_named(repositories, tmp_path, options, code, message):
    """An unknown data set, split, model or repository name ends with one line that names it, and no
    traceback.
    """
    with Hub(repositories) as hub:
        done = run(hub, tmp_path, tmp_path / "model", **options)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "model").exists()
