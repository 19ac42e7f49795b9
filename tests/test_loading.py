"""Model folders: which are accepted, which are refused, and what the refusal tells people to do."""

import json
import os
import pickle
import re
import resource
import shutil
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from batchsent.errors import ModelError, UsageError
from batchsent.model.loading import identify, load_model
from tests.models import make_model


@pytest.fixture
def folder(tiny_model, tmp_path):
    """Copy the tiny model, to damage it."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def change_config(folder, name="config.json", **changes):
    config = json.loads((folder / name).read_text())
    for key, value in changes.items():
        if value is None:
            config.pop(key, None)
        else:
            config[key] = value
    (folder / name).write_text(json.dumps(config))


def set_header_length(folder, length):
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])


def test_a_folder_is_identified_by_its_contents(tiny_model):
    """The identity names labels, limit and the hashes that sha256sum gives."""
    identity = identify(str(tiny_model))
    assert identity.labels == ("NEGATIVE", "POSITIVE")
    assert identity.max_length == 64
    assert identity.revision is None
    assert identity.architecture == "DistilBertForSequenceClassification"
    shown = subprocess.run(
        ["sha256sum", str(tiny_model / "model.safetensors")],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert shown.split()[0] == identity.weights_sha256


def test_identity_changes_with_weights_tokenizer_and_configuration(folder):
    """A changed byte in weights, tokenizer or configuration changes its hash and no other."""
    before = identify(str(folder))
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    after = identify(str(folder))
    assert after.weights_sha256 != before.weights_sha256
    assert after.tokenizer_sha256 == before.tokenizer_sha256
    change_config(folder, "tokenizer_config.json", note="changed")
    change_config(folder, note="changed")
    last = identify(str(folder))
    assert last.tokenizer_sha256 != after.tokenizer_sha256
    assert last.config_sha256 != after.config_sha256


def test_identifying_needs_neither_torch_nor_transformers(tiny_model):
    """A run can be refused, or found done, without loading torch."""
    code = textwrap.dedent("""
        import sys
        from batchsent.model.loading import identify
        identify(sys.argv[1])
        assert not {"torch", "transformers"} & set(sys.modules), "heavy import"
    """)
    subprocess.run(
        [sys.executable, "-c", code, str(tiny_model)], check=True, cwd=Path(__file__).parents[1]
    )


def test_sharded_weights_work(folder):
    """A model in several safetensors files with an index loads and has one hash."""
    model = load_model(identify(str(folder))).module
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    identity = identify(str(folder))
    load_model(identity)
    shard = min(folder.glob("model-*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"\0")
    assert identify(str(folder)).weights_sha256 != identity.weights_sha256


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "weights.bin"])
def test_an_index_that_leads_elsewhere_is_refused(folder, name):
    """A shard list may name safetensors files of the folder only."""
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    index = {"metadata": {}, "weight_map": {"classifier.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="names a file outside the folder or not in safetensors: "):
        identify(str(folder))


def test_h01_pickled_weights_are_refused_and_never_opened(folder):
    """A folder with only pytorch_model.bin is refused; what is in it does not run."""
    (folder / "model.safetensors").unlink()
    trap = folder / "ran"

    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {trap}",)

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ModelError, match="can run code") as caught:
        identify(str(folder))
    assert "convert it" in caught.value.hint
    assert not trap.exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_h02_remote_code_is_refused_and_never_run(folder, name):
    """A model that brings its own code is refused without a question."""
    trap = folder / "ran"
    (folder / "evil.py").write_text(f"open({str(trap)!r}, 'w')")
    change_config(
        folder, name, auto_map={"AutoConfig": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]}
    )
    with pytest.raises(ModelError, match="asks to run code"):
        identify(str(folder))
    assert not trap.exists()


@pytest.mark.parametrize(
    "key", ["_attn_implementation_internal", "attn_implementation", "_attn_implementation"]
)
def test_h03_a_kernel_to_download_is_refused(folder, key):
    """An attention implementation that names a repository is refused."""
    change_config(folder, **{key: "evil/kernel"})
    with pytest.raises(ModelError, match="names foreign code"):
        identify(str(folder))


@pytest.mark.parametrize("length", [10 * 2**30, 2**63, 2**64 - 1, 10**6])
def test_h05_an_absurd_header_is_refused_before_it_is_read(folder, length):
    """The header's length is compared with the file's size first."""
    set_header_length(folder, length)
    with pytest.raises(ModelError, match="header claims"):
        identify(str(folder))


def rewrite_header(folder, change):
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    change(header)
    new = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(new)) + new + raw[8 + length :])


def overlap(header):
    a, b = [name for name in header if name != "__metadata__" and header[name]["shape"] == [32]][:2]
    header[b]["data_offsets"] = header[a]["data_offsets"]


def wrong_shape(header):
    header["classifier.weight"]["shape"] = [2, 31]


def negative_shape(header):
    header["classifier.weight"]["shape"] = [-2, -32]


def no_offsets(header):
    del header["classifier.weight"]["data_offsets"]


@pytest.mark.parametrize("change", [overlap, wrong_shape, negative_shape, no_offsets])
def test_h05_a_lying_header_is_refused(folder, change):
    """Tensors that overlap or have not the bytes of their shape are refused."""
    rewrite_header(folder, change)
    with pytest.raises(ModelError, match="is damaged"):
        identify(str(folder))


@pytest.mark.parametrize("keep", [0, 5, 8, 200, -1, -1000])
def test_g11_truncated_weights_are_refused(folder, keep):
    """A weights file that ends early is refused, wherever it ends."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match="damaged"):
        identify(str(folder))


def test_g11_missing_weights_are_refused(folder):
    """A folder without weights says what to give instead."""
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no weights") as caught:
        identify(str(folder))
    assert "save_pretrained" in caught.value.hint


def test_g11_weights_of_another_shape_are_refused(folder):
    """Weights that do not fit the configuration are an error, not a random layer."""
    change_config(folder, hidden_dim=128)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(identify(str(folder)))


def test_g11_a_missing_layer_is_refused(folder):
    """A model with more layers than weights is an error, not a random layer."""
    change_config(folder, n_layers=3)
    with pytest.raises(ModelError, match="lacks weights"):
        load_model(identify(str(folder)))


def test_g08_a_base_model_is_refused(folder):
    """A model without classification head is refused with the command that makes one."""
    import transformers

    base = transformers.DistilBertModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    base.save_pretrained(folder)
    with pytest.raises(ModelError, match="no classification head") as caught:
        identify(str(folder))
    assert "batchsent finetune" in caught.value.hint


def test_g08_a_head_that_exists_in_name_only_is_refused(folder):
    """The architecture's name alone does not make a head: the weights must be there."""
    import transformers

    transformers.DistilBertModel.from_pretrained(folder).save_pretrained(folder)
    change_config(folder, architectures=["DistilBertForSequenceClassification"])
    with pytest.raises(ModelError, match="no classification head"):
        identify(str(folder))


def test_g08_a_token_classifier_is_refused(folder):
    """A classifier of single words is no classifier of texts."""
    change_config(folder, architectures=["DistilBertForTokenClassification"])
    with pytest.raises(ModelError, match="no classification head"):
        identify(str(folder))


def test_g09_regression_is_refused(tmp_path):
    """One output is a number, not a label."""
    folder = make_model(tmp_path / "one", labels=("stars",))
    with pytest.raises(ModelError, match="not one of several labels"):
        identify(str(folder))


def test_g09_multi_label_is_refused(folder):
    """A multi-label model would need another kind of answer."""
    change_config(folder, problem_type="multi_label_classification")
    with pytest.raises(ModelError, match="multi-label"):
        identify(str(folder))


def test_g09_five_labels_work(tmp_path):
    """Any number of labels from two up is fine, in the order of the outputs."""
    names = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
    identity = identify(str(make_model(tmp_path / "five", labels=names)))
    assert identity.labels == names
    assert load_model(identity).module.config.num_labels == 5


def test_labels_that_do_not_match_the_outputs_are_refused(folder):
    """Three names for two outputs are an error, found before the model loads."""
    change_config(
        folder, id2label={"0": "a", "1": "b", "2": "c"}, label2id={"a": 0, "b": 1, "c": 2}
    )
    with pytest.raises(ModelError, match="names 3 labels, the classifier has 2"):
        identify(str(folder))


@pytest.mark.parametrize(
    "id2label",
    [{"0": "a", "2": "b"}, {"zero": "a", "one": "b"}, ["a", "b"], {"0": "same", "1": "same"}],
)
def test_a_label_table_that_names_no_outputs_is_refused(folder, id2label):
    """Labels must be numbered from 0 and have names of their own."""
    change_config(folder, id2label=id2label)
    with pytest.raises(ModelError, match=r"id2label|label name"):
        identify(str(folder))


def test_g12_a_tokenizer_of_another_model_is_refused(folder):
    """Token ids beyond the embedding table are found from the files."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["zebra"] = 5000
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match="has ids up to 5,000"):
        identify(str(folder))


def test_g13_no_tokenizer_is_refused(folder):
    """A folder without a vocabulary says how to add it."""
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="has no tokenizer"):
        identify(str(folder))


def test_g13_a_vocabulary_file_alone_is_a_tokenizer(folder):
    """vocab.txt without tokenizer.json loads, as older models have it."""
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocab, key=vocab.get)) + "\n")
    model = load_model(identify(str(folder)))
    assert model.tokenizer("a great film")["input_ids"] == [
        2,
        vocab["a"],
        vocab["great"],
        vocab["film"],
        3,
    ]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_damaged_json_is_refused(folder, name, content):
    """A file that is not a JSON object is named as damaged."""
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name} is damaged"):
        identify(str(folder))


def test_quantized_weights_are_refused(folder):
    """A configuration that asks for a quantization library is refused."""
    change_config(folder, quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(ModelError, match="quantized"):
        identify(str(folder))


def test_an_adapter_is_refused(folder):
    """A LoRA adapter says that it must be merged first."""
    (folder / "model.safetensors").unlink()
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="adapter"):
        identify(str(folder))


def test_a_typo_in_the_folder_names_its_neighbours(tiny_model):
    """A folder that is not there is answered with those that are."""
    with pytest.raises(ModelError, match="there is no folder") as caught:
        identify(str(tiny_model.parent / "tiny-modle"))
    assert tiny_model.name in caught.value.hint


def test_a_file_is_not_a_model(tiny_model):
    """The weights file instead of its folder is told apart."""
    with pytest.raises(ModelError, match="is a file"):
        identify(str(tiny_model / "model.safetensors"))


@pytest.mark.parametrize("source", ["owner/name", "distilbert-base-uncased"])
def test_offline_and_not_cached_says_what_to_do(source, tmp_path, monkeypatch):
    """Without network and cache the error names both ways out."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set") as caught:
        identify(source)
    assert "hf download" in caught.value.hint


@pytest.mark.parametrize("source", ["", "a b", "owner/name/more", "../up", "/no/where", "-x"])
def test_what_cannot_be_a_hub_id_never_asks_the_hub(source):
    """A path that is not there is answered at once."""
    with pytest.raises(ModelError):
        identify(source)


def test_a_dead_hub_is_an_error_after_few_attempts(tmp_path):
    """A Hub that refuses connections is asked a few times, and the error says so."""
    code = textwrap.dedent("""
        import sys
        attempts = []
        sys.addaudithook(lambda event, _: event == "socket.connect" and attempts.append(event))
        from batchsent.errors import ModelError
        from batchsent.model.loading import identify
        try:
            identify("owner/name")
        except ModelError as error:
            print(error)
        print(len(attempts), "attempts")
    """)
    env = {
        **os.environ,
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert "the Hub cannot be reached" in done.stdout, done.stderr
    attempts = int(re.search(r"^(\d+) attempts$", done.stdout, re.M)[1])
    assert 1 <= attempts <= 4


def test_a_folder_has_no_revision(tiny_model):
    """--revision with a folder is a mistake that is said."""
    with pytest.raises(UsageError, match="no revision"):
        identify(str(tiny_model), "main")


@pytest.mark.parametrize(("kind", "limit"), [("distilbert", 64), ("bert", 64), ("roberta", 64)])
def test_the_models_own_limit_counts(tmp_path, kind, limit):
    """RoBERTa's two reserved positions do not count as tokens."""
    folder = make_model(tmp_path / kind, kind)
    change_config(folder, "tokenizer_config.json", model_max_length=10**30)
    assert identify(str(folder)).max_length == limit


@pytest.mark.parametrize("max_length", [0, 2, 65, -1])
def test_max_length_outside_of_the_models_limits_is_refused(tiny_model, max_length):
    """--max-length says what the model allows."""
    with pytest.raises(UsageError, match="3 to 64"):
        load_model(identify(str(tiny_model)), max_length=max_length)


def test_loading_prints_nothing(folder, capfd):
    """No bar and no report of the library's reaches the terminal."""
    load_model(identify(str(folder)))
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


@pytest.mark.parametrize("limit_kb", [300_000, 700_000, 1_000_000])
def test_k14_too_little_memory_is_said_in_plain_words(tiny_model, limit_kb):
    """K14: under ulimit -v libraries fail in words of their own: exit 7 and what to lower or raise."""
    done = subprocess.run(
        [sys.executable, "-m", "batchsent", "predict", "good", "-m", str(tiny_model)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit_kb << 10, limit_kb << 10)),
    )
    assert done.returncode == 7, done.stderr
    assert "ulimit -v" in done.stderr
    assert "a bug" not in done.stderr


def test_hostile_names_are_escaped(tmp_path):
    """Terminal escapes in a path do not reach the message raw."""
    with pytest.raises(ModelError) as caught:
        identify("\x1b]52;c;evil\x07")
    assert "\x1b" not in str(caught.value)


def test_a_model_may_be_asked_to_read_more_than_its_tokenizer_leaves(folder):
    """A model fine-tuned on 16 tokens reads 16, and up to the 64 of its weights where --max-length
    says so.
    """
    change_config(folder, "tokenizer_config.json", model_max_length=16)
    identity = identify(str(folder))
    assert load_model(identity).max_length == 16
    assert load_model(identity, max_length=64).max_length == 64
