"""Pre-training on unlabelled reviews: a stage before the fine-tuning that survives like one."""

import json
import os
import random
import signal
import time
from types import SimpleNamespace

import pytest
import transformers

import batchsent
from batchsent.commands.finetune import finetune
from batchsent.errors import Interrupted, UsageError
from batchsent.training.options import FinetuneOptions
from batchsent.training.unlabelled import find_unlabelled
from tests.listener import Listener
from tests.models import change_weights, make_model, weights
from tests.reviews import BAD, GOOD, write_reviews


def write_dump(path, rows=160):
    """Write unlabelled reviews in which words of one kind stand together."""
    chance = random.Random(1)
    lines = []
    for i in range(rows):
        words = chance.choices((GOOD, BAD)[i % 2], k=3)
        lines.append(f"the film was {words[0]} and the plot {words[1]} and {words[2]} {i}")
    path.write_text("text\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def options(tmp_path_factory, tiny_model):
    """A training of 6 steps after a pre-training of 12, with a checkpoint every 4."""
    folder = tmp_path_factory.mktemp("rows")
    return {
        "train": write_reviews(folder / "reviews.csv", rows=54),
        "base_model": str(tiny_model),
        "device": "cpu",
        "precision": "float32",
        "batch_size": 8,
        "epochs": 1.0,
        "learning_rate": 1e-3,
        "save_strategy": "steps",
        "save_steps": 4,
        "pretrain_on": str(write_dump(folder / "dump.csv")),
        "pretrain_steps": 12,
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, options):
    """The folder of a training left alone, its document and what was said."""
    listener = Listener()
    folder = tmp_path_factory.mktemp("undisturbed") / "model"
    return folder, finetune(folder, **options, reporter=listener), listener.said


def command(options):
    """The same as it is typed."""
    flags = [(f"--{name.replace('_', '-')}", value) for name, value in options.items()]
    return ["finetune", "-o", "model", *(part for pair in flags for part in pair)]


def test_the_loss_on_masked_tokens_goes_down_and_is_told(undisturbed):
    """It is measured before and after on rows held out: printed, in metrics.json, card and page."""
    folder, document, said = undisturbed
    found = json.loads((folder / "metrics.json").read_text())["pretraining"]
    assert found == document["pretraining"]
    assert found["loss_after"] < found["loss_before"]
    assert (found["rows"], found["held_out"], found["steps"]) == (96, 16, 12)
    assert found["new_head"] is True
    line = next(line for line in said if line.startswith("pre-training: loss on masked tokens"))
    for text in (line, *((folder / name).read_text() for name in ("README.md", "report.html"))):
        assert f"{found['loss_before']:.4f}" in text
        assert f"{found['loss_after']:.4f}" in text


def test_the_folder_is_a_classifier_like_any_other(undisturbed, tmp_path, options):
    """It loads in transformers, and without the pre-training another model comes out."""
    folder, _, _ = undisturbed
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    assert loaded.config.id2label == {0: "NEGATIVE", 1: "POSITIVE"}
    assert type(loaded).__name__ == "DistilBertForSequenceClassification"
    plain = {k: v for k, v in options.items() if not k.startswith("pretrain")}
    assert finetune(tmp_path / "plain", **plain)["pretraining"] is None
    assert weights(tmp_path / "plain") != weights(folder)


@pytest.mark.parametrize("name", ["checkpoint-4", "pretrained.json"])
def test_a_killed_run_resumes_in_its_stage(tmp_path, fork_server, options, undisturbed, name):
    """Killed in the pre-training or after it, the same command says where it resumes, does nothing
    twice, and writes the bytes of a training left alone.
    """
    child = fork_server.start(command(options), tmp_path)
    wanted = tmp_path / "model.training" / "pretraining" / name
    # A checkpoint's folder is there before it is whole; the next one says that it is.
    deadline = time.monotonic() + 120
    while not (wanted / "elapsed.json" if name.startswith("checkpoint") else wanted).exists():
        assert time.monotonic() < deadline, (tmp_path / "run.err").read_text()
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    fork_server.wait(child)
    assert fork_server.run([*command(options), "--resume"], tmp_path) == 0
    said = (tmp_path / "run.err").read_text()
    if name == "pretrained.json":
        assert "pre-training: done already; loss on masked tokens" in said
    else:
        assert "pretraining/checkpoint-" in said
        assert "pre-training, step" in said
    assert "step 0 of 12" not in said
    assert weights(tmp_path / "model") == weights(undisturbed[0])
    assert not (tmp_path / "model.training").exists()


def test_a_signal_keeps_what_is_learned(tmp_path, options, undisturbed):
    """A stop in the pre-training writes a checkpoint and says so; other options are then refused."""
    listener = Listener(signal.SIGTERM, rows=40)
    with pytest.raises(Interrupted):
        finetune(tmp_path / "model", **options, reporter=listener)
    assert any(line.startswith("kept: pretraining/checkpoint-") for line in listener.said)
    with pytest.raises(UsageError, match=r"other pre-training\): steps was 12 and is 13") as caught:
        finetune(tmp_path / "model", **options | {"pretrain_steps": 13})
    assert "--restart" in caught.value.hint
    plain = {k: v for k, v in options.items() if not k.startswith("pretrain")}
    with pytest.raises(UsageError, match="other pre-training"):
        finetune(tmp_path / "model", **plain)
    finetune(tmp_path / "model", **options, resume=True)
    assert weights(tmp_path / "model") == weights(undisturbed[0])


def test_two_processes_train_one_model(tmp_path, fork_server, options):
    """Under torchrun the pre-training is shared too, and the first process alone speaks of it."""
    for rank, child in enumerate(fork_server.start_pair(command(options), tmp_path)):
        assert fork_server.wait(child) == 0, (tmp_path / f"rank{rank}.err").read_text()
    found = json.loads((tmp_path / "model" / "metrics.json").read_text())["pretraining"]
    assert found["loss_after"] < found["loss_before"]
    assert found["rows"] == 144
    assert (tmp_path / "rank1.err").read_text() == ""


def test_no_text_is_learned_that_is_measured_on(tmp_path):
    """Texts of evaluation and validation rows are left out, whatever their spaces; copies, empty
    rows and rows beyond what the steps take are counted.
    """
    rows = [f"film {i}" for i in range(40)]
    lines = [*rows, "film  3", "film 5", '" "', "Film\u00e9"]
    folder = tmp_path / "dumps" / "deep"
    folder.mkdir(parents=True)
    (tmp_path / "dumps" / "a.csv").write_text("id,text\n" + "".join(f"1,{t}\n" for t in lines[:30]))
    (folder / "b.jsonl").write_text(
        "".join(json.dumps({"review": t.strip('"'), "x": 1}) + "\n" for t in lines[30:])
    )
    sides = {"evaluation": ["film 3", "other"], "validation": ["film 4"]}
    splits = SimpleNamespace(**{k: SimpleNamespace(texts=v) for k, v in sides.items()})
    plan = SimpleNamespace(batch_size=4, accumulate=2, processes=1)
    settings = FinetuneOptions(pretrain_on=str(tmp_path / "dumps"))
    found = find_unlabelled(settings, splits, plan, Listener())
    texts = found.train + found.held_out
    assert len(set(texts)) == len(texts) == 39
    assert not {"film 3", "film  3", "film 4"} & set(texts)
    assert found.facts["left_out"] == {
        "without_text": 1,
        "also_in_evaluation": 3,
        "copy_or_not_drawn": 1,
    }
    assert (found.facts["files"], found.facts["rows_read"], len(found.held_out)) == (2, 44, 3)


def test_few_rows_keep_the_base_as_it_came(tmp_path, options, tiny_model):
    """Below 250 rows, weights that are no clear gain are the base's own, not those after the
    pre-training; the user hears it before the work.
    """
    listener = Listener()
    few = {k: v for k, v in options.items() if k not in {"learning_rate", "epochs"}}
    document = finetune(tmp_path / "model", **few, reporter=listener)
    assert document["training"]["kept_base"] is True
    assert weights(tmp_path / "model") == weights(tiny_model)
    assert "without the pre-training" in listener.warned[0]
    assert "this model has nothing of it" in (tmp_path / "model" / "README.md").read_text()


def test_adapters_start_from_the_pretrained_encoder(tmp_path, options):
    """--lora and --trials come after the pre-training, and work with it."""
    pytest.importorskip("peft")
    pytest.importorskip("optuna")
    document = finetune(tmp_path / "model", **options, lora=2, trials=1)
    assert document["pretraining"]["loss_after"] < document["pretraining"]["loss_before"]
    assert len(document["trials"]["runs"]) == 1
    assert batchsent.load(str(tmp_path / "model"), device="cpu").predict(["good film"])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"from_scratch": True}, "--from-scratch has none"),
        ({"pretrain_on": None}, "--pretrain-steps is about --pretrain-on"),
        ({"pretrain_steps": 0}, "--pretrain-steps 0"),
        ({"pretrain_on": "-"}, "cannot read a pipe"),
        ({"pretrain_on": "{pipe}"}, "--pretrain-on cannot read a pipe"),
        ({"train": "{pipe}"}, "--train cannot read a pipe"),
        ({"eval": "{pipe}"}, "--eval cannot read a pipe"),
        ({"pretrain_on": "missing.csv"}, "there is no file"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, tmp_path_factory, options, changed, said):
    """Before anything is loaded or written; a named pipe is not waited for."""
    pipe = tmp_path_factory.mktemp("pipe") / "pipe.csv"
    os.mkfifo(pipe)
    changed = {name: str(pipe) if to == "{pipe}" else to for name, to in changed.items()}
    changed = {"base_model": "distilbert-base-uncased"} | changed
    with pytest.raises(batchsent.BatchsentError, match=said):
        finetune(tmp_path / "model", **options | changed)
    assert not any(tmp_path.iterdir())


def test_a_base_without_masked_tokens_is_refused(tmp_path, options):
    """An architecture that transformers cannot train so, and a tokenizer without a mask token."""
    ids = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0)
    config = transformers.GPT2Config(vocab_size=200, n_embd=8, n_layer=1, n_head=1, **ids)
    model = transformers.GPT2ForSequenceClassification(config)
    base = make_model(tmp_path / "base")
    model.save_pretrained(base)
    with pytest.raises(UsageError, match="no encoder of the kind gpt2"):
        finetune(tmp_path / "model", **options | {"base_model": str(base)})
    base = make_model(tmp_path / "other")
    name = base / "tokenizer_config.json"
    settings = json.loads(name.read_text())
    settings["mask_token"] = None
    name.write_text(json.dumps(settings))
    with pytest.raises(UsageError, match="no mask token"):
        finetune(tmp_path / "model", **options | {"base_model": str(base)})


def test_a_pretraining_that_diverges_fails(tmp_path, options):
    """Numbers that overflow end it with the exit code of a training that diverged, and no model."""
    base = make_model(tmp_path / "base")
    change_weights(base, "distilbert.embeddings.LayerNorm.weight", lambda w: w.fill_(1e38))
    with pytest.raises(batchsent.BatchsentError, match="diverged") as caught:
        finetune(tmp_path / "model", **options | {"base_model": str(base)})
    assert caught.value.details["diverged"]
    assert "--pretrain-on" in caught.value.hint
    assert {path.name for path in tmp_path.iterdir()} == {"base"}
