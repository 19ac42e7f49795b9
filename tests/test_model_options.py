"""Options of a model are refused before anything is read, in the words of its loading."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from batchsent.errors import BatchsentError, UsageError
from batchsent.model.loading import identify
from batchsent.model.options import ModelOptions, check_model_options
from batchsent.model.scorer import ModelScorer


@pytest.fixture(scope="module")
def identity(tiny_model):
    return identify(str(tiny_model))


BAD = [
    {"max_length": 99_999},
    {"max_length": 2},
    {"max_length": -1},
    {"precision": "fp16"},
    {"precision": "float16", "device": "cpu"},
    {"precision": "int8", "device": "cuda"},
    {"device": "gpu"},
    {"device": "cuda:99"},
    {"batch_tokens": 0},
    {"batch_tokens": -5},
    {"long_text": "middle"},
    {"long_text": "head-tail", "max_length": 5},
]


@pytest.mark.parametrize("options", BAD, ids=str)
def test_k06_a_bad_option_is_refused_from_the_identity_alone(identity, options):
    """K06: with exit 2 or 7, before the model loads, in the same words as by loading."""
    said = []
    for ask in (check_model_options, ModelScorer.open):
        with pytest.raises(BatchsentError) as caught:
            ask(identity, ModelOptions(**options))
        assert caught.value.exit_code in {2, 7}
        said.append(str(caught.value))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_length": 3},
        {"max_length": 64},
        {"device": "cpu", "precision": "float32"},
        {"batch_tokens": 1},
        {"long_text": "head-tail", "max_length": 6},
        {"long_text": "window", "max_length": 3},
    ],
    ids=str,
)
def test_options_that_are_fine_pass_and_load(identity, options):
    """What is not refused runs."""
    check_model_options(identity, ModelOptions(**options))
    scorer = ModelScorer.open(identity, ModelOptions(**{"device": "cpu", **options}))
    texts = ["a great film " * 30]
    assert scorer.score(scorer.prepare(texts)).probabilities.sum() == pytest.approx(1)


def test_the_models_own_way_with_long_texts_counts(identity):
    """A model trained on head and tail refuses a --max-length that leaves no head."""
    from dataclasses import replace

    trained = replace(identity, long_text="head-tail")
    check_model_options(trained, ModelOptions())
    with pytest.raises(UsageError, match="head-tail requires 4 tokens"):
        check_model_options(trained, ModelOptions(max_length=4))


def test_checking_the_defaults_imports_neither_torch_nor_transformers(tiny_model):
    """A run that is up to date is told so in less time than torch takes to load."""
    code = textwrap.dedent("""
        import sys
        from batchsent.model.loading import identify
        from batchsent.model.options import ModelOptions, check_model_options
        identity = identify(sys.argv[1])
        for device in ("auto", "cpu"):
            for precision in ("auto", "float32"):
                check_model_options(identity, ModelOptions(device=device, precision=precision, max_length=9))
        assert not {"torch", "transformers"} & set(sys.modules), "heavy import"
    """)
    subprocess.run(
        [sys.executable, "-c", code, str(tiny_model)], check=True, cwd=Path(__file__).parents[1]
    )
