"""The card of a fine-tuned model: metadata that the Hub reads, and commands that can be copied."""

import huggingface_hub
import pytest

from batchsent.commands.finetune import finetune
from batchsent.training.card_metadata import BaseCard, read_base_card
from tests.models import make_model
from tests.reviews import write_reviews

QUICK = {"batch_size": 8, "device": "cpu", "max_length": 16, "epochs": 1}
BASE_CARD = """---
license: apache-2.0
language: [en, de]
base_model: owner/encoder
---
# A base
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model made from a base with a card: its folder and its document."""
    folder = tmp_path_factory.mktemp("card")
    base = make_model(folder / "base")
    (base / "README.md").write_text(BASE_CARD)
    reviews = write_reviews(folder / "reviews.csv")
    options = QUICK | {"train": reviews, "base_model": str(base)}
    output = folder / "my model"
    return output, finetune(output, torch_save=str(folder / "state.pt"), **options)


def test_the_card_has_the_metadata_of_the_hub(made):
    """Language, licence and base model are those of the base's card; the figures are a model-index."""
    folder, document = made
    data = huggingface_hub.ModelCard.load(folder / "README.md").data
    assert (data.language, data.license, data.base_model) == (
        ["en", "de"],
        "apache-2.0",
        "owner/encoder",
    )
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-classification")
    assert data.model_name == "my model"
    found = {result.metric_type: result for result in data.eval_results}
    assert found.keys() == {"accuracy", "precision", "recall", "f1"}
    assert found["accuracy"].metric_value == round(document["metrics"]["accuracy"], 4)
    assert found["f1"].metric_value == round(document["metrics"]["macro_f1"], 4)
    assert found["accuracy"].dataset_name == "reviews.csv"
    assert found["accuracy"].task_type == "text-classification"


def test_its_commands_can_be_copied(made):
    """Commands name the model, quoted where they must be, and no placeholder is left."""
    card = (made[0] / "README.md").read_text()
    assert "--model 'my model'" in card
    assert 'pipeline("text-classification", model="my model")' in card
    assert 'torch.load("state.pt", weights_only=True)' in card
    assert "FOLDER" not in card
    assert '"FILE"' not in card


def test_the_card_has_interval_matrix_and_base_model(made):
    """What the page shows, the card has too."""
    folder, document = made
    card = (folder / "README.md").read_text()
    low, high = document["evaluation"]["accuracy_interval"]
    assert f"| {document['metrics']['accuracy']:.4f} | {low:.4f} to {high:.4f} |" in card
    assert "|  | NEGATIVE | POSITIVE |" in card
    assert "## Beside its base model" in card
    assert "apache" in card.partition("## Licence")[2]


@pytest.mark.parametrize(
    "text",
    [
        "no metadata",
        "---\nlicense: [a, b]\nlanguage: {en: 1}\nbase_model: 3\n---\n",
        "---\nlicense: &a [*a]\n---\n",
        "---\nlicense: !!python/object/apply:os.system ['false']\n---\n",
        "---\n: : :\n---\n",
        "---\n- a\n- b\n---\n",
        "",
    ],
)
def test_a_base_card_that_says_nothing_useful_is_passed_over(tmp_path, text):
    """Metadata of other types, or none, or damaged, is not taken over and stops no training."""
    (tmp_path / "README.md").write_text(text)
    assert read_base_card(tmp_path) == BaseCard()


def test_an_unknown_licence_is_not_invented(tmp_path):
    """Without a base card the licence is unknown and the language absent."""
    assert read_base_card(tmp_path) == BaseCard()
    reviews = write_reviews(tmp_path / "reviews.csv")
    finetune(
        tmp_path / "out", train=reviews, base_model=str(make_model(tmp_path / "base")), **QUICK
    )
    data = huggingface_hub.ModelCard.load(tmp_path / "out" / "README.md").data
    assert (data.license, data.language, data.base_model) == ("unknown", None, None)
