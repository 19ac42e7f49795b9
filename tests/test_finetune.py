"""Fine-tuning: from labelled reviews to a model folder that is whole, safe, described, and the same
again.
"""

import csv
import hashlib
import json
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from batchsent.commands.finetune import finetune
from batchsent.errors import (
    DeviceError,
    InputError,
    Interrupted,
    Locked,
    ModelError,
    OutputError,
    UsageError,
)
from batchsent.model import held_out
from batchsent.reporting import Reporter
from batchsent.training.masked_model import load_masked_model
from batchsent.training.options import FinetuneOptions
from tests.listener import Listener
from tests.models import make_model, weights
from tests.reviews import BAD, GOOD, write_reviews

EXAMPLES = Path(__file__).parents[1] / "examples" / "reviews-train.csv"
OTHERS = EXAMPLES.with_name("reviews.csv")


@pytest.fixture
def reviews(tmp_path):
    """A file of 48 short reviews."""
    return write_reviews(tmp_path / "reviews.csv")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A model trained from scratch on the example reviews, as the README shows it: folder, metrics,
    listener.
    """
    folder = tmp_path_factory.mktemp("demo")
    listener = Listener()
    document = finetune(
        folder / "model",
        train=str(EXAMPLES),
        from_scratch=True,
        torch_save=str(folder / "state.pt"),
        reporter=listener,
    )
    return folder / "model", document, listener


def test_the_example_reviews_teach_a_model_that_works(demo):
    """The model trained on the example reviews is right on held-out ones and on other products."""
    import transformers

    folder, document, _ = demo
    assert document["metrics"]["accuracy"] > 0.85
    classify = transformers.pipeline("text-classification", model=str(folder))
    with OTHERS.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["text"].strip()]
    labels = [found["label"] for found in classify([row["text"] for row in rows])]
    right = sum(
        (label == "POSITIVE") == (int(row["stars"]) > 3)
        for label, row in zip(labels, rows, strict=True)
    )
    assert right / len(rows) > 0.85


def test_the_folder_holds_the_model_and_its_papers_and_nothing_else(demo):
    """Weights, tokenizer, configuration, metrics, curve and card.

    No pickle, no checkpoint, no temporary folder.
    """
    folder, _, _ = demo
    names = {path.name for path in folder.iterdir()}
    papers = {
        "README.md",
        "metrics.json",
        "training_curve.csv",
        "calibration.json",
        "held_out.json",
        "canaries.json",
        "report.html",
        "seen_texts.hashes",
    }
    assert names == papers | {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert not any(zipfile.is_zipfile(path) for path in folder.iterdir())
    assert {path.name for path in folder.parent.iterdir()} == {"model", "state.pt"}
    modes = {path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert len(modes) == 1, "the weights have other permissions than the rest"


def test_the_held_out_rows_are_counted_for_later_runs(demo):
    """held_out.json has the confusion matrix of metrics.json, and the weights it belongs to."""
    folder, document, _ = demo
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    found = held_out.read(folder, weights_sha256=weights)
    assert found.confusion.tolist() == document["evaluation"]["confusion"]["counts"]
    assert found.temperature == document["calibration"]["temperature"]
    assert found.labels == ("NEGATIVE", "POSITIVE")


def test_the_configuration_names_the_labels(demo):
    """config.json says NEGATIVE and POSITIVE, in both directions."""
    config = json.loads((demo[0] / "config.json").read_text())
    assert config["id2label"] == {"0": "NEGATIVE", "1": "POSITIVE"}
    assert config["label2id"] == {"NEGATIVE": 0, "POSITIVE": 1}
    assert config["architectures"] == ["DistilBertForSequenceClassification"]


def test_metrics_json_is_what_finetune_returns(demo):
    """metrics.json is strict JSON with metrics, data and its hash, settings, versions and time."""
    folder, document, _ = demo

    def refuse(name):
        raise AssertionError(f"{name} is not strict JSON")

    assert json.loads((folder / "metrics.json").read_text(), parse_constant=refuse) == document
    data = document["data"]
    assert (data["train"]["rows"], data["eval"]["rows"]) == (432, 48)
    assert data["train"]["rows"] + data["eval"]["rows"] == data["train"]["rows_read"]
    assert data["train"]["sha256"] == data["eval"]["sha256"]
    assert data["train"]["labels"].keys() == {"NEGATIVE", "POSITIVE"}
    assert document["hyperparameters"]["learning_rate"] == 1e-3
    assert document["training"]["runtime_s"] > 0
    assert {"torch", "transformers", "datasets"} <= document["versions"].keys()


def test_nothing_in_the_folder_tells_where_it_was_made(demo):
    """No file of the folder holds a path of the machine."""
    for path in demo[0].iterdir():
        data = path.read_bytes()
        assert str(demo[0].parent).encode() not in data
        assert str(EXAMPLES.parent).encode() not in data


def test_the_curve_has_losses_and_an_evaluation_an_epoch(demo):
    """training_curve.csv has a line a logged step with its loss and learning rate, and metrics
    after every epoch.
    """
    folder, document, _ = demo
    with (folder / "training_curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["step"]) for row in rows]
    assert steps == sorted(set(steps))
    assert steps[-1] == document["training"]["steps"] == 108
    measured = [row for row in rows if row["eval_accuracy"]]
    assert [float(row["epoch"]) for row in measured] == [1, 2, 3, 4]
    assert float(measured[-1]["eval_accuracy"]) == document["metrics"]["accuracy"]
    assert all(row["loss"] and row["learning_rate"] for row in rows if row not in measured)


def test_the_card_is_valid_and_says_what_matters(demo):
    """README.md is a model card with metadata, data with hash, metrics and limits."""
    import huggingface_hub

    card = huggingface_hub.ModelCard.load(demo[0] / "README.md")
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.library_name == "transformers"
    for needed in (
        "trained from scratch",
        demo[1]["data"]["train"]["sha256"],
        "## Limits",
        "load\\_state\\_dict",
    ):
        assert needed.replace("\\", "") in card.text.replace("\\", "")


def test_the_run_says_what_was_chosen(demo):
    """Held-out rows, label counts, device, vocabulary and every evaluation are said."""
    said = "\n".join(demo[2].said)
    for part in (
        "10% of reviews-train.csv is held out",
        "216 NEGATIVE",
        "from scratch",
        "learning rate 0.001",
        "epoch 4",
    ):
        assert part.replace("216", str(demo[1]["data"]["train"]["labels"]["NEGATIVE"])) in said
    assert demo[2].warned == []


def test_the_state_dict_loads_with_weights_only(demo):
    """--torch-save writes a file that torch.load reads with weights_only=True, and it makes the
    same model.
    """
    import torch
    import transformers

    folder, _, _ = demo
    state = torch.load(folder.parent / "state.pt", weights_only=True)
    config = transformers.AutoConfig.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    model.load_state_dict(state)
    published = transformers.AutoModelForSequenceClassification.from_pretrained(folder).state_dict()
    assert all(torch.equal(tensor, published[name]) for name, tensor in model.state_dict().items())


def test_the_same_seed_gives_the_same_model(demo, tmp_path):
    """Same data, same seed: the same weights to the byte and the same figures.

    Another seed gives others.
    """
    again = finetune(tmp_path / "again", train=str(EXAMPLES), from_scratch=True, save_strategy="no")
    assert weights(tmp_path / "again") == weights(demo[0])
    assert again["metrics"] == demo[1]["metrics"]
    assert again["data"] == demo[1]["data"]


def test_the_vocabulary_does_not_hang_on_the_process():
    """Two processes learn the same words with the same numbers: the tokenizer's own trainer does
    not.
    """
    program = (
        "import csv, hashlib, sys\nfrom batchsent.training.from_scratch import "
        "train_tokenizer\ntexts = [row['text'] for row in csv.DictReader(open(sys.argv[1], "
        "encoding='utf-8', newline=''))]\nwords = "
        "train_tokenizer(texts).get_vocab()\nprint(len(words), "
        "hashlib.sha256(repr(sorted(words.items())).encode()).hexdigest())"
    )
    command = [sys.executable, "-c", program, str(EXAMPLES)]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert first == second
    assert int(first.split()[0]) > 1_000


def test_special_tokens_in_a_review_are_plain_text_for_a_new_vocabulary():
    """Characters are ordinary pieces after the training: only [CLS] and its like are special."""
    from batchsent.training.from_scratch import train_tokenizer

    tokenizer = train_tokenizer(["a film to love", "a film to hate", "love hate film"])
    assert tokenizer.all_special_tokens == ["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("A film!")["input_ids"]) == [
        "[CLS]",
        "a",
        "film",
        "[UNK]",
        "[SEP]",
    ]


def test_a_base_model_is_fine_tuned_and_stdout_stays_clean(tmp_path, reviews, tiny_model, capfd):
    """A base folder is trained on, its head is replaced, and nothing goes to stdout or stderr by
    itself.
    """
    document = finetune(
        tmp_path / "out",
        train=reviews,
        base_model=str(tiny_model),
        learning_rate=1e-3,
        epochs=6,
        max_length=16,
    )
    assert document["metrics"]["accuracy"] > 0.7
    assert document["base_model"]["kind"] == "folder"
    assert document["base_model"]["name"] == tiny_model.name
    assert (
        json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())["model_max_length"]
        == 16
    )
    assert capfd.readouterr() == ("", "")


def test_a_head_for_other_classes_is_replaced(tmp_path):
    """A classifier of three classes serves as base for two others, and the other way round."""
    base = make_model(tmp_path / "base", "bert", labels=("a", "b", "c"))
    reviews = write_reviews(tmp_path / "reviews.csv", labels=("pos", "neg"))
    document = finetune(tmp_path / "two", train=reviews, base_model=str(base), epochs=1)
    assert document["labels"] == ["NEGATIVE", "POSITIVE"]
    stars = write_reviews(
        tmp_path / "stars.csv", labels=("1", "2", "3", "4"), words=(BAD, BAD, GOOD, GOOD)
    )
    document = finetune(tmp_path / "four", train=stars, base_model=str(base), epochs=1)
    assert document["labels"] == ["1", "2", "3", "4"]
    assert document["metrics"].keys().isdisjoint({"precision", "recall", "f1"})
    assert document["metrics"]["per_class"].keys() == {"1", "2", "3", "4"}


def test_evaluation_rows_can_be_a_file(tmp_path, reviews, tiny_model):
    """--eval names the rows to measure on.

    Training rows with the same texts are left out and counted.
    """
    listener = Listener()
    document = finetune(
        tmp_path / "out", train=reviews, eval=reviews, eval_samples=10, base_model=str(tiny_model), epochs=1,
        reporter=listener,
    )  # fmt: skip
    assert (document["data"]["train"]["rows"], document["data"]["eval"]["rows"]) == (38, 10)
    assert document["data"]["train"]["left_out"]["also_in_evaluation"] == 10
    assert "left out of 48: 10 also in evaluation" in "\n".join(listener.said)
    with pytest.raises(UsageError, match="no row is left to train on: 48 also in evaluation"):
        finetune(tmp_path / "other", train=reviews, eval=reviews, base_model=str(tiny_model))


def test_long_reviews_are_cut_and_counted(tmp_path, tiny_model):
    """metrics.json says how many rows were longer than what the model read."""
    reviews = write_reviews(tmp_path / "reviews.csv")
    with Path(reviews).open("a") as file:
        file.write("great " * 200 + ",pos\n")
    others = write_reviews(tmp_path / "others.csv", words=(GOOD[::-1], BAD[::-1]))
    document = finetune(
        tmp_path / "out",
        train=reviews,
        eval=others,
        base_model=str(tiny_model),
        epochs=1,
        max_length=20,
    )
    assert document["training"]["train_rows_cut"] == 1


def test_an_existing_output_is_kept(tmp_path, reviews, tiny_model):
    """A folder that exists is refused before anything is read, and replaced with --overwrite."""
    output = tmp_path / "out"
    finetune(output, train=reviews, base_model=str(tiny_model), epochs=1)
    before = weights(output)
    with pytest.raises(UsageError, match="exists already") as caught:
        finetune(output, train=reviews, base_model=str(tiny_model), epochs=2)
    assert "--overwrite" in caught.value.hint
    assert weights(output) == before
    finetune(output, train=reviews, base_model=str(tiny_model), epochs=2, overwrite=True)
    assert weights(output) != before


def test_overwrite_replaces_models_only(tmp_path, reviews, tiny_model):
    """--overwrite does not remove a folder that holds something else."""
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("dear")
    with pytest.raises(UsageError, match="no model folder"):
        finetune(tmp_path / "letters", train=reviews, base_model=str(tiny_model), overwrite=True)
    assert (tmp_path / "letters" / "dear.txt").read_text() == "dear"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"train": "absent.csv"}, InputError, "--train: there is no file absent.csv"),
        ({"eval": "absent.csv"}, InputError, "--eval: there is no file absent.csv"),
        ({"text_column": "words"}, UsageError, "no column called words"),
        ({"label_column": "stars"}, UsageError, "no column called stars"),
        ({"label_map": "pos=A,neg=B", "stars": "1:A,2:B"}, UsageError, "leave one of them out"),
        ({"from_scratch": True}, UsageError, "starts from no base model"),
        ({"train_split": "train[:10%]"}, UsageError, "--train-split is about data sets"),
        ({"epochs": 0}, UsageError, "--epochs 0: must be above 0"),
        ({"learning_rate": float("nan")}, UsageError, "--learning-rate nan"),
        ({"train_samples": -1}, UsageError, "--train-samples -1"),
        ({"hold_out": 1.0}, UsageError, "--hold-out 1.0"),
        ({"max_length": 65}, UsageError, "--max-length 65: the base model reads 3 to 64 tokens"),
        ({"device": "gpu"}, UsageError, "device='gpu' is not one of"),
        ({"save_strategy": "never"}, UsageError, "save_strategy='never' is not one of"),
        ({"torch_save": "out/state.pt"}, UsageError, "inside the model folder"),
        ({"torch_save": "nowhere/state.pt"}, UsageError, "there is no folder nowhere"),
        ({"bach_size": 4}, UsageError, "did you mean 'batch_size'"),
        ({"base_model": "./absent"}, ModelError, "there is no folder"),
        ({"revision": "main"}, UsageError, "a folder has no revision"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path, monkeypatch, reviews, tiny_model, options, error, message
):
    """Files, columns, names and numbers are checked before anything is written."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as caught:
        finetune("out", **{"train": reviews, "base_model": str(tiny_model)} | options)
    assert message in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["reviews.csv"]


def test_a_base_model_of_pickles_is_refused_and_not_opened(tmp_path, reviews):
    """Weights that exist only as a pickle are refused; the program inside does not run."""
    base = make_model(tmp_path / "base")
    (base / "model.safetensors").unlink()
    proof = tmp_path / "proof"
    (base / "pytorch_model.bin").write_bytes(
        b"cos\nsystem\n(S'touch " + str(proof).encode() + b"'\ntR."
    )
    with pytest.raises(ModelError, match=r"pytorch_model\.bin"):
        finetune(tmp_path / "out", train=reviews, base_model=str(base))
    assert not proof.exists()


def test_a_base_model_with_code_of_its_own_is_refused(tmp_path, reviews):
    """A base model that wants to run code is refused without a question."""
    base = make_model(tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "evil.Model"}
    (base / "config.json").write_text(json.dumps(config))
    (base / "evil.py").write_text(f"open({str(tmp_path / 'proof')!r}, 'w')")
    with pytest.raises(ModelError, match="code"):
        finetune(tmp_path / "out", train=reviews, base_model=str(base))
    assert not (tmp_path / "proof").exists()


def test_a_base_model_that_lacks_layers_is_refused(tmp_path, reviews):
    """Missing weights of the encoder are an error and not a random layer."""
    from safetensors.torch import load_file, save_file

    base = make_model(tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if ".layer.1." not in name}
    save_file(kept, base / "model.safetensors", metadata={"format": "pt"})
    why = r"lacks 16 weights of its architecture, distilbert\.transformer\.layer\.1"
    with pytest.raises(ModelError, match=why):
        finetune(tmp_path / "out", train=reviews, base_model=str(base))
    with pytest.raises(ModelError, match=why):  # before its pre-training
        load_masked_model(base)


def test_a_base_model_with_the_tokenizer_of_another_is_refused(tmp_path, reviews):
    """Token ids beyond the embedding table are found before the training, not in its first step."""
    base = make_model(tmp_path / "base")
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["unheard"] = 5_000
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match="the tokenizer has ids up to 5,000"):
        finetune(tmp_path / "out", train=reviews, base_model=str(base))


def test_a_training_that_diverges_publishes_nothing(tmp_path, reviews, tiny_model):
    """A loss that is no number ends the run as a device error; no model, no checkpoint is left."""
    with pytest.raises(DeviceError, match="diverged") as caught:
        finetune(tmp_path / "out", train=reviews, base_model=str(tiny_model), learning_rate=1e38)
    assert caught.value.exit_code == 7
    assert [path.name for path in tmp_path.iterdir()] == ["reviews.csv"]


def test_a_failed_replacement_keeps_the_old_model(tmp_path, reviews, tiny_model):
    """--overwrite replaces a model when the new one is whole, not before."""
    make_model(tmp_path / "out")
    before = weights(tmp_path / "out")
    with pytest.raises(DeviceError):
        finetune(
            tmp_path / "out",
            train=reviews,
            base_model=str(tiny_model),
            learning_rate=1e38,
            overwrite=True,
        )
    assert weights(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("limit", "save_strategy", "where"),
    [(40_000, "epoch", "out.training"), (200_000, "epoch", "out.training"), (90_000, "no", "out")],
)
def test_a_full_disk_is_an_output_error(tmp_path, reviews, tiny_model, limit, save_strategy, where):
    """No room for the weights, for the optimizer's state or for the model folder: exit 5, and no
    model.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OutputError) as caught:
            finetune(
                tmp_path / "out",
                train=reviews,
                base_model=str(tiny_model),
                save_strategy=save_strategy,
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.exit_code == 5
    assert str(tmp_path / where) in caught.value.message
    assert not (tmp_path / "out").exists()


HOSTILE = "<img src=x onerror=alert(1)>|[go](http://evil.example) `x` **$\\frac{ \x1b]52;c;evil\x07 www.evil.example"


def test_a_hostile_label_is_inert(tmp_path, tiny_model):
    """A label with HTML, Markdown, a link and terminal codes is plain text in the card and in what
    is said.
    """
    reviews = write_reviews(tmp_path / "r.csv", labels=(HOSTILE, "fine"))
    listener = Listener()
    document = finetune(
        tmp_path / "out", train=reviews, base_model=str(tiny_model), epochs=1, reporter=listener
    )
    assert document["labels"] == [HOSTILE, "fine"]
    card = (tmp_path / "out" / "README.md").read_text()
    page = MarkdownIt("commonmark").enable("table").render(card)
    assert "onerror" in page
    for markup in ("<img", "<a ", "<code>x", "<strong>"):
        assert markup not in page
    # GitHub makes links of bare addresses: these are broken up.
    assert "http://evil" not in card
    assert "www.evil" not in card
    assert "\x1b" not in card + "".join(listener.said)
    widths = {row.count("<td>") for row in page.split("<tr>") if "onerror" in row and "<td>" in row}
    assert widths == {3, 5}


@pytest.fixture
def settings(tmp_path, tiny_model):
    """Options of a training of 12 steps with a checkpoint every 4, which is in the middle of an
    epoch.
    """
    reviews = write_reviews(tmp_path / "reviews.csv", rows=54)
    return {
        "train": reviews,
        "base_model": str(tiny_model),
        "batch_size": 8,
        "learning_rate": 1e-3,
        "save_strategy": "steps",
        "save_steps": 4,
    }


def test_a_stopped_training_goes_on_where_it_was(tmp_path, settings):
    """SIGTERM writes a checkpoint and ends with 143.

    The same command again gives the undisturbed model exactly.
    """
    undisturbed = finetune(tmp_path / "undisturbed", **settings)
    stopped = Listener(signal.SIGTERM, rows=9 * 8)
    with pytest.raises(Interrupted) as caught:
        finetune(tmp_path / "out", **settings, reporter=stopped)
    assert caught.value.exit_code == 143
    assert stopped.said[-1] == "kept: checkpoint-9, epoch 1.50 of 2, step 9 of 12 (75%)"
    assert not (tmp_path / "out").exists()
    listener = Listener()
    resumed = finetune(tmp_path / "out", **settings, reporter=listener)
    assert resumed["training"]["resumed_at_step"] == 9
    assert "checkpoint-9: epoch 1.50 of 2, step 9 of 12 (75%)" in "\n".join(listener.said)
    assert weights(tmp_path / "out") == weights(tmp_path / "undisturbed")
    assert resumed["metrics"] == undisturbed["metrics"]
    assert (tmp_path / "out" / "training_curve.csv").read_text() == (
        tmp_path / "undisturbed" / "training_curve.csv"
    ).read_text()
    assert not (tmp_path / "out.training").exists()


def test_a_killed_training_goes_on_from_its_last_whole_checkpoint(fork_server, tmp_path, settings):
    """After SIGKILL, and with the newest checkpoint torn, the rerun starts at the one before and
    gives the same.
    """
    program = (
        "import json, os, signal, sys, torch\nfrom batchsent.commands.finetune import "
        "finetune\nfrom tests.listener import "
        "Listener\ntorch.set_num_threads(1)\nfinetune(sys.argv[1], "
        "reporter=Listener(signal.SIGKILL, rows=10 * 8), **json.loads(sys.argv[2]))"
    )
    command = [fork_server.python, "-c", program, str(tmp_path / "out"), json.dumps(settings)]
    killed = subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, check=False, timeout=300
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (tmp_path / "out").exists()
    newest = tmp_path / "out.training" / "checkpoint-8"
    torn = (newest / "model.safetensors").read_bytes()
    (newest / "model.safetensors").write_bytes(torn[: len(torn) // 2])
    resumed = finetune(tmp_path / "out", **settings)
    assert resumed["training"]["resumed_at_step"] == 4
    # The losses before the stop are not known: no figure is made of the others alone.
    assert resumed["training"]["train_loss"] is None
    undisturbed = finetune(tmp_path / "undisturbed", **settings)
    assert undisturbed["training"]["train_loss"] > 0
    assert weights(tmp_path / "out") == weights(tmp_path / "undisturbed")


def test_checkpoints_of_another_training_are_not_mixed_in(tmp_path, settings):
    """Other settings do not go on from old checkpoints: the error says what differs.

    --restart starts over.
    """
    with pytest.raises(Interrupted):
        finetune(tmp_path / "out", **settings, reporter=Listener(signal.SIGTERM, rows=5 * 8))
    with pytest.raises(UsageError, match=r"another training \(other hyperparameters\)") as caught:
        finetune(tmp_path / "out", **settings | {"learning_rate": 5e-4})
    assert caught.value.message.endswith(": learning_rate was 0.001 and is 0.0005")
    assert "--restart" in caught.value.hint
    document = finetune(tmp_path / "out", **settings | {"learning_rate": 5e-4}, restart=True)
    assert document["training"]["resumed_at_step"] is None


def test_what_a_training_took_counts_the_time_before_a_stop(tmp_path, settings):
    """Every checkpoint notes the time until then; a resumed training adds its own."""
    with pytest.raises(Interrupted):
        finetune(tmp_path / "out", **settings, reporter=Listener(signal.SIGTERM, rows=9 * 8))
    clock = tmp_path / "out.training" / "checkpoint-9" / "elapsed.json"
    assert json.loads(clock.read_text())["elapsed_s"] > 0
    clock.write_text('{"elapsed_s": 5000.0}')
    resumed = finetune(tmp_path / "out", **settings)
    assert resumed["training"]["runtime_s"] > 5000


def test_a_training_says_what_it_does_from_the_first_moment(tmp_path, settings):
    """There is a stage for all that takes time, and rows for those that have some."""

    class Stages(Listener):
        """Remembers each stage with the last progress in it."""

        def __init__(self):
            super().__init__()
            self.stages = []

        def stage(self, text):
            self.stages.append([text, None])

        def progress(self, rows, total_rows, **_):
            self.stages[-1][1] = (rows, total_rows)

    listener = Stages()
    finetune(tmp_path / "out", **settings, reporter=listener)
    assert [(name, rows) for name, rows in listener.stages] == [
        ("looking for the base model", None),
        ("reading the rows", None),
        ("loading the base model", None),
        ("tokenizing", None),
        ("training", (48, 96)),
        ("measuring", (6, 6)),
        ("training", (96, 96)),
        ("measuring", (6, 6)),
        ("scoring the evaluation rows with the base model", (6, 6)),
        ("writing the model", None),
    ]


def test_checkpoints_can_be_kept(tmp_path, settings):
    """--keep-checkpoints leaves the last two beside the model."""
    finetune(tmp_path / "out", **settings, keep_checkpoints=True)
    assert {path.name for path in (tmp_path / "out.training").glob("checkpoint-*")} == {
        "checkpoint-8",
        "checkpoint-12",
    }


def test_two_runs_do_not_share_an_output(tmp_path, settings):
    """While one run trains, another for the same output is refused at once."""

    class Second(Reporter):
        """Starts the same training again while the first one is at it."""

        refusal = None

        def progress(self, rows, total_rows, **_):
            if self.refusal is None:
                with pytest.raises(Locked) as caught:
                    finetune(tmp_path / "out", **settings)
                self.refusal = caught.value

    second = Second()
    finetune(tmp_path / "out", **settings, reporter=second)
    assert second.refusal.exit_code == 11


def test_a_model_no_better_than_a_guess_is_said_to_be_so(tmp_path, tiny_model):
    """When the model only repeats the most frequent class, a warning says so."""
    reviews = write_reviews(tmp_path / "r.csv", labels=("pos", "neg"), words=(["film"], ["film"]))
    listener = Listener()
    document = finetune(
        tmp_path / "out", train=reviews, base_model=str(tiny_model), epochs=1, reporter=listener
    )
    assert document["metrics"]["accuracy"] <= document["metrics"]["majority_baseline"]
    assert "no better" in listener.warned[-1]


def test_the_defaults_are_those_of_the_notebook():
    """Without options: IMDB, DistilBERT, 4,000 and 300 rows, 2e-5, 16, 2 epochs, 0.01, a checkpoint
    an epoch.
    """
    from batchsent.training import options

    defaults = FinetuneOptions()
    assert (defaults.train, defaults.base_model) == ("stanfordnlp/imdb", "distilbert-base-uncased")
    assert options.DATASET_SAMPLES == (4_000, 300)
    assert (options.LEARNING_RATE, options.EPOCHS) == (2e-5, 2)
    assert (defaults.batch_size, defaults.eval_batch_size, defaults.weight_decay) == (16, 16, 0.01)
    assert defaults.save_strategy == "epoch"


def test_torch_keeps_its_threads(tmp_path, reviews, tiny_model):
    """Fine-tuning leaves the number of threads, verbosity and progress bars of the libraries as
    they were.
    """
    import datasets
    import torch
    import transformers

    logging = transformers.utils.logging
    before = torch.get_num_threads(), logging.get_verbosity(), datasets.are_progress_bars_disabled()
    finetune(tmp_path / "out", train=reviews, base_model=str(tiny_model), epochs=1)
    assert (
        torch.get_num_threads(),
        logging.get_verbosity(),
        datasets.are_progress_bars_disabled(),
    ) == before


@pytest.mark.parametrize("foreign", ["train.csv", "runs/scored.csv", ".git/HEAD"])
def test_overwrite_keeps_a_model_folder_with_files_of_the_user(
    tmp_path, reviews, tiny_model, foreign
):
    """The training file inside the model folder, notes, scored dumps: nothing is removed."""
    output = tmp_path / "out"
    shutil.copytree(tiny_model, output)
    mine = output / foreign
    mine.parent.mkdir(exist_ok=True)
    mine.write_bytes(Path(reviews).read_bytes())
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    name = foreign.split("/")[0]
    with pytest.raises(UsageError, match=rf"out holds {name}, which batchsent did not write"):
        finetune(output, train=reviews, base_model=str(tiny_model), overwrite=True)
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_torch_save_never_takes_the_place_of_the_training_file(tmp_path, reviews, tiny_model):
    """Whatever --overwrite says."""
    data = tmp_path / "t.csv"
    data.write_bytes(Path(reviews).read_bytes())
    with pytest.raises(UsageError, match="--train and --torch-save are the same file"):
        finetune(
            tmp_path / "out",
            train=str(data),
            base_model=str(tiny_model),
            torch_save=str(data),
            overwrite=True,
        )
    assert data.read_bytes() == Path(reviews).read_bytes()
