"""Training computes the last layer for the first token only, and learns exactly the same."""

import pytest

from batchsent.training.firsttoken import first_token_only
from tests.models import make_model


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["distilbert", "bert", "roberta"])
def test_loss_and_gradients_are_those_of_the_whole_layer(tmp_path, kind, attention):
    """For texts of different lengths in one batch, every weight gets the gradient that transformers
    gives it.
    """
    import torch
    import transformers

    folder = make_model(tmp_path / kind, kind)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation=attention
    )
    model.eval()  # dropout would draw other numbers
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [
        "great",
        "a boring plot and awful acting in the worst movie ever",
        "it was " + "very " * 30 + "good",
    ]
    inputs = tokenizer(texts, padding=True, return_tensors="pt") | {
        "labels": torch.tensor([1, 0, 1])
    }

    def learn():
        model.zero_grad()
        output = model(**inputs)
        output.loss.backward()
        return output, {name: weight.grad.clone() for name, weight in model.named_parameters()}

    whole, expected = learn()
    with first_token_only(model) as shortened:
        assert shortened
        ours, gradients = learn()
        inside = model(**inputs, output_hidden_states=True).hidden_states[-1].shape
    assert torch.allclose(ours.logits, whole.logits, atol=1e-6)
    assert ours.loss.item() == pytest.approx(whole.loss.item(), abs=1e-6)
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    for name, gradient in expected.items():
        assert torch.allclose(gradients[name], gradient, atol=1e-5 * largest), name
    assert inside[1] == 1
    assert model(**inputs, output_hidden_states=True).hidden_states[-1].shape[1] > 1


def test_another_architecture_is_left_alone(tmp_path):
    """A model that is not known is trained as transformers has it."""
    import transformers

    config = transformers.AlbertConfig(
        vocab_size=50, embedding_size=8, hidden_size=16, num_attention_heads=2, intermediate_size=16
    )
    with first_token_only(transformers.AlbertForSequenceClassification(config)) as shortened:
        assert not shortened
