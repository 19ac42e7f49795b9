"""Model folders made to harm: only files are opened, and nothing too large is read or built."""

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchsent.errors import ModelError
from batchsent.model import calibration
from batchsent.model.files import MAX_SETTINGS_BYTES, MAX_TEXT_BYTES
from batchsent.model.loading import identify, load_model
from batchsent.model.options import ModelOptions
from batchsent.model.scorer import ModelScorer
from batchsent.model.sizes import check_sizes, count_layers
from batchsent.model.weight_files import MAX_HEADER_BYTES
from batchsent.training.base import locate_base

# Everything that batchsent, transformers or a tokenizer opens in some model folder.
NAMES = [
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "additional_chat_templates/more.jinja",
    "generation_config.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "bpe.codes",
    "emoji.json",
    "calibration.json",
    "held_out.json",
    "canaries.json",
]


@pytest.fixture(autouse=True)
def no_endless_wait():
    """Whatever waits on a pipe for ever fails here."""

    def hang(*_):
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def folder(tiny_model, tmp_path):
    """Copy the tiny model, to make it hostile."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        before = Path.cwd()
        os.chdir(path.parent)  # the name of a socket is short
        made.bind(path.name)
        os.chdir(before)


def link_to_device(path):
    path.symlink_to("/dev/null")


def make_folder(path):
    path.mkdir()


# --- what is no file


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (make_pipe, "a named pipe"),
        (link_to_device, "a device"),
        (make_socket, "a socket"),
        (make_folder, "a folder"),
    ],
)
def test_k13_what_is_no_file_is_refused_and_never_opened(folder, name, make, kind):
    """K13: a pipe, a device, a socket or a folder under a name that is opened: exit 6."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    make(path)
    for ask in (identify, lambda source: locate_base(source, None)):
        with pytest.raises(
            ModelError, match=f"{path.name} is {kind}, not a file; it was not opened"
        ) as caught:
            ask(str(folder))
        assert caught.value.exit_code == 6


def test_links_to_files_are_fine(folder):
    """The Hub's cache is made of them."""
    wanted = identify(str(folder))
    blobs = folder.parent / "blobs"
    blobs.mkdir()
    for path in list(folder.iterdir()):
        path.rename(blobs / path.name)
        path.symlink_to(blobs / path.name)
    (folder / "checkpoints").mkdir()
    (folder / "notes.txt").symlink_to("nowhere")
    (folder / "reviews.csv").write_text("text\n")
    assert identify(str(folder)) == wanted
    load_model(wanted)


@pytest.mark.parametrize("name", ["config.json", "special_tokens_map.json", "calibration.json"])
def test_k13_a_file_that_only_looks_empty_is_refused(folder, name):
    """K13: /proc has files without a size that never end, or wait: no link to one is opened."""
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("/proc/self/status")
    with pytest.raises(ModelError, match="not a plain file"):
        identify(str(folder))


def sparse(path, size):
    """Make a file of a size without the bytes."""
    with path.open("wb") as file:
        file.truncate(size)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("config.json", MAX_SETTINGS_BYTES + 1),
        ("tokenizer_config.json", MAX_SETTINGS_BYTES + 1),
        *(
            (name, MAX_TEXT_BYTES + 1)
            for name in ("tokenizer.json", "special_tokens_map.json", "vocab.txt")
        ),
        *(
            (name, 24 << 30)
            for name in ("config.json", "tokenizer.json", "chat_template.jinja", "bpe.codes")
        ),
    ],
)
def test_k13_a_file_that_is_too_large_is_refused_by_its_size(folder, name, size):
    """K13: 24 GB of tokenizer are not read to find out that they are none."""
    sparse(folder / name, size)
    with pytest.raises(ModelError, match=f"{name} is too large .* {size:,} bytes"):
        identify(str(folder))


def test_k13_a_header_is_bounded(folder):
    """K13: a header of weights may not be larger than a hundred thousand tensors need."""
    path = folder / "model.safetensors"
    sparse(path, MAX_HEADER_BYTES + 100)
    with path.open("r+b") as file:
        file.write((MAX_HEADER_BYTES + 1).to_bytes(8, "little"))
    with pytest.raises(ModelError, match="header claims 10,000,001 bytes"):
        identify(str(folder))


def test_k13_a_calibration_that_is_no_file_is_refused(folder):
    """K13: --calibrated reads a file of the model folder too."""
    make_pipe(folder / "calibration.json")
    with pytest.raises(ModelError, match="is a named pipe"):
        calibration.read(folder)
    (folder / "calibration.json").unlink()
    sparse(folder / "calibration.json", MAX_SETTINGS_BYTES + 1)
    with pytest.raises(ModelError, match="is too large"):
        calibration.read(folder)


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "model.safetensors", "special_tokens_map.json"]
)
@pytest.mark.parametrize(
    "command", [("predict", "good", "-m"), ("info",), ("finetune", "--base-model")]
)
def test_k13_the_commands_end_with_6_and_without_the_memory(
    fork_server, folder, tmp_path, name, command
):
    """K13: a link to /dev/zero: exit 6 and one line, in a process of 2 GB at most."""
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("/dev/zero")
    words = [*command, str(folder)]
    if command[0] == "finetune":
        reviews = tmp_path / "reviews.csv"
        reviews.write_text("text,label\n" + "good film,pos\nbad film,neg\n" * 30)
        words += ["--train", str(reviews), "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [fork_server.python, "-m", "batchsent", *words],
        capture_output=True,
        text=True,
        timeout=100,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30)),
    )
    assert done.returncode == 6, done.stderr
    assert "is a device, not a file; it was not opened" in done.stderr
    assert "Traceback" not in done.stderr


# --- other files than those that were checked


@pytest.mark.parametrize("whole", [True, False])
def test_an_adapter_beside_a_whole_model_is_refused(folder, whole):
    """Transformers would put it on top of the weights that were checked, pickled or not."""
    (folder / "adapter_config.json").write_text(
        '{"base_model_name_or_path": "/", "peft_type": "LORA"}'
    )
    if not whole:
        (folder / "model.safetensors").unlink()
    said = "beside a whole model" if whole else "not a whole model"
    for ask in (identify, lambda source: locate_base(source, None)):
        with pytest.raises(ModelError, match=f"holds an adapter, {said}"):
            ask(str(folder))


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("config.json", "transformers_weights", "adapter_model.bin"),
        ("config.json", "transformers_weights", "other.safetensors"),
        (
            "tokenizer_config.json",
            "fast_tokenizer_files",
            ["tokenizer.4.0.0.json", "tokenizer.json"],
        ),
    ],
)
def test_a_configuration_that_names_other_files_is_refused(folder, name, key, value):
    """What is loaded is what was checked and hashed."""
    document = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(document | {key: value}))
    with pytest.raises(ModelError, match=f"{key} names other files"):
        identify(str(folder))


# --- tokenizers that do not fit


def change_tokenizer_settings(folder, **changes):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", ["cls_token", "sep_token"])
def test_g12_a_special_token_that_the_model_does_not_know_is_refused(folder, name):
    """G12: such a token is added when the tokenizer loads, with an id after the last word."""
    change_tokenizer_settings(folder, **{name: "[NEW]"})
    with pytest.raises(ModelError, match=r"has ids up to \d+, the model knows \d+ words"):
        load_model(identify(str(folder)), device="cpu")


def test_a_tokenizer_without_a_token_for_unknown_words_is_refused(folder):
    """It would end the run at the first word that it does not know."""
    change_tokenizer_settings(folder, unk_token=None)
    with pytest.raises(ModelError, match="tokenizer does not work: WordPiece error: Missing"):
        ModelScorer.open(identify(str(folder)), ModelOptions(device="cpu"))


def test_what_a_tokenizer_prints_is_not_among_the_data(fork_server, folder):
    """The library behind tokenizers prints to stdout what it does not know of a token."""
    token = {"content": "[MASK]", "special": True, "lstrip": False, "colour": "red"}
    change_tokenizer_settings(folder, added_tokens_decoder={"4": token})
    command = [
        fork_server.python,
        "-m",
        "batchsent",
        "predict",
        "a great film",
        "--json",
        "-m",
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["text"] == "a great film"


# --- numbers


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"n_layers": 10**7},
            "lacks weights: config.json has 10,000,000 layers (n_layers), the weights have 2",
        ),
        ({"n_layers": 65}, "lacks weights"),
        ({"n_layers": 0}, "n_layers is 0, less than 1"),
        ({"n_layers": -6}, "n_layers is -6"),
        ({"n_layers": 1e7}, "n_layers is 10000000.0, not a whole number"),
        ({"n_layers": "2"}, "n_layers is 2, not a whole number"),
        ({"n_layers": True}, "not a whole number"),
        ({"n_layers": [2]}, "not a whole number"),
        ({"n_heads": 0}, "n_heads is 0"),
        ({"n_heads": -2}, "n_heads is -2"),
        ({"n_heads": 10**9}, "n_heads is 1000000000, more than the weights allow"),
        ({"n_heads": 5}, "dim is 32, not a multiple of 5 heads (n_heads)"),
        ({"dim": 0}, "dim is 0"),
        ({"dim": -32}, "dim is -32"),
        ({"dim": 10**12}, "dim is 1000000000000, more than the weights allow"),
        ({"hidden_dim": 10**12}, "hidden_dim is 1000000000000"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"vocab_size": 10**12}, "vocab_size is 1000000000000"),
        ({"max_position_embeddings": 10**15}, "max_position_embeddings is"),
        ({"max_position_embeddings": -1}, "max_position_embeddings is -1"),
        ({"num_hidden_layers": 10**7}, "lacks weights"),
        ({"text_config": {"num_hidden_layers": 10**7}}, "lacks weights"),
        ({"block_sizes": [4, 10**7]}, "block_sizes is 10000000, more than 1,024"),
        ({"num_memory_blocks": 10**7}, "num_memory_blocks is 10000000"),
        ({"num_experts": 10**9}, "num_experts is 1000000000"),
    ],
)
def test_k13_impossible_numbers_are_refused_before_anything_is_built(folder, changes, said):
    """K13: ten million layers, none, or fewer; sizes that no weight has: exit 6, before torch."""
    change_config(folder, **changes)
    for ask in (identify, lambda source: locate_base(source, None)):
        with pytest.raises(ModelError) as caught:
            ask(str(folder))
        assert said in caught.value.message


def test_k13_more_tokens_than_any_table_are_refused(folder):
    """A model that reads one token has no room for a text."""
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 1}))
    with pytest.raises(ModelError, match="reads 1 tokens of a text"):
        identify(str(folder))


@pytest.mark.parametrize("padding", ["one", -1, [1], 1.5])
def test_a_padding_id_that_is_none_is_refused(folder, padding):
    """RoBERTa counts its positions from there."""
    change_config(folder, model_type="roberta", pad_token_id=padding)
    with pytest.raises(ModelError, match="pad_token_id"):
        identify(str(folder))


def test_a_way_with_long_texts_that_is_none_is_refused(folder):
    """What finetune notes is one of its own words."""
    change_config(folder, long_text={"all": True})
    with pytest.raises(ModelError, match="long_text"):
        identify(str(folder))


ARCHITECTURES = (
    *(
        "Albert",
        "Bert",
        "Canine",
        "ConvBert",
        "DebertaV2",
        "DistilBert",
        "Electra",
        "FNet",
        "Flaubert",
        "Funnel",
    ),
    *(
        "IBert",
        "Longformer",
        "MPNet",
        "MobileBert",
        "ModernBert",
        "Perceiver",
        "RoFormer",
        "Roberta",
        "SqueezeBert",
    ),
    *("T5", "XLM", "XLMRoberta", "XLNet"),
)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_architecture_is_refused_at_its_usual_size(name):
    """Shared layers, other names for the same numbers, no table of positions: all of them pass."""
    config = getattr(transformers, f"{name}Config")()
    with torch.device("meta"):  # without the memory
        model = getattr(transformers, f"{name}ForSequenceClassification")(config)
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    check_sizes(Path("config.json"), json.loads(config.to_json_string()), shapes)


def test_layers_are_counted_by_the_names_of_weights():
    """The longest row of numbers counts, with gaps left out."""
    assert count_layers([]) == 0
    assert (
        count_layers(
            ["head.weight", "encoder.layer.0.a", "encoder.layer.0.b", "encoder.layer.11.a"]
        )
        == 2
    )
    assert count_layers([f"block.{i}.layer.{j}.w" for i in range(6) for j in range(2)]) == 6


# --- labels


@pytest.mark.parametrize(
    "name", ["", "  ", "\u200b", "\t", "a\nb", "\x1b]52;c;evil\x07", "\u202eEVITISOP", "\udc80"]
)
def test_k18_labels_that_cannot_be_read_are_refused(folder, name):
    """K18: an empty, blank or unprintable name in id2label: exit 6, with what to give instead."""
    change_config(folder, id2label={"0": "NEGATIVE", "1": name}, label2id={})
    with pytest.raises(ModelError, match=r"is (blank|not printable)") as caught:
        identify(str(folder))
    assert caught.value.exit_code == 6
    assert str(caught.value).replace("\n", "").isprintable()


@pytest.mark.parametrize("name", [None, {}, ["POSITIVE"], 1.5])
def test_k18_labels_that_are_no_names_are_refused(folder, name):
    """K18: null is not the label "None"."""
    change_config(folder, id2label={"0": "NEGATIVE", "1": name}, label2id={})
    with pytest.raises(ModelError, match="id2label is not a table of label names"):
        identify(str(folder))


@pytest.mark.parametrize("name", ["5 stars", "très bien", "好", "👍", "=1+1", "a,b", "<b>"])
def test_other_labels_are_fine(folder, name):
    """Any language, signs and spaces inside."""
    change_config(folder, id2label={"0": "NEGATIVE", "1": name}, label2id={})
    assert identify(str(folder)).labels == ("NEGATIVE", name)


# --- anything


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=4,
)
KEYS = (
    *(
        "architectures",
        "model_type",
        "id2label",
        "num_labels",
        "problem_type",
        "n_layers",
        "n_heads",
        "dim",
    ),
    *(
        "hidden_dim",
        "vocab_size",
        "max_position_embeddings",
        "pad_token_id",
        "long_text",
        "auto_map",
    ),
    *(
        "quantization_config",
        "attn_implementation",
        "num_hidden_layers",
        "hidden_size",
        "block_sizes",
    ),
)


@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes=st.dictionaries(st.sampled_from(KEYS), json_values, min_size=1, max_size=3))
def test_any_configuration_is_taken_or_refused(tiny_model, tmp_path_factory, changes):
    """Whatever stands in config.json, the answer is a model or exit 6, never "a bug"."""
    folder = tmp_path_factory.mktemp("fuzz") / "model"
    shutil.copytree(tiny_model, folder)
    change_config(folder, **changes)
    with contextlib.suppress(ModelError):
        identify(str(folder))
    shutil.rmtree(folder)
