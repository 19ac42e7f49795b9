"""Scores of a chunk, row by row: whatever the order, the batches, the interruptions or the device's
memory.
"""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchsent.chunk import BLANK, NONFINITE, PENDING, SCORED
from batchsent.commands.predict import Model, load
from batchsent.errors import DeviceError, UsageError
from batchsent.model.batches import MOST_TEXTS, plan_batches
from batchsent.model.cpu import has_fast_bfloat16
from batchsent.model.device import Device
from batchsent.model.loading import LoadedModel, identify
from batchsent.model.options import ModelOptions
from batchsent.model.scorer import ModelScorer
from tests.character_model import FirstCharacter, InFloat32, score, scorer_of
from tests.models import change_weights, make_model


def expected(texts):
    return [np.nan if not text or text[0] in " \u200bx" else ord(text[0]) / 100 for text in texts]


# First characters below "d" are probabilities below 1.
row_texts = st.one_of(
    st.none(),
    st.sampled_from(["", "  ", "x not finite", "\u200b"]),
    st.tuples(st.sampled_from("0123ABCab"), st.integers(0, 40)).map(lambda t: t[0] + "." * t[1]),
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    texts=st.lists(row_texts, max_size=40),
    budget=st.integers(1, 60),
    shape=st.sampled_from(["packed", "padded"]),
)
def test_every_row_gets_the_score_of_its_own_text(texts, budget, shape):
    """Rows of any length, order, blankness and number of copies get their own result."""
    scores = score(scorer_of(FirstCharacter(shape=shape), budget), texts)
    np.testing.assert_allclose(
        scores.probabilities[:, 1], np.array(expected(texts), dtype=np.float32)
    )
    blank = [text is None or text in {"", "  ", "\u200b"} for text in texts]
    odd = [not b and text[0] == "x" for text, b in zip(texts, blank, strict=True)]
    wanted = np.where(blank, BLANK, np.where(odd, NONFINITE, SCORED)) if texts else []
    assert list(scores.status) == list(wanted)
    assert list(scores.n_tokens) == [
        0 if b else len(text) for text, b in zip(texts, blank, strict=True)
    ]
    assert scores.distinct == len({text for text, b in zip(texts, blank, strict=True) if not b})


def test_a_text_that_stands_in_several_rows_runs_once():
    """I05: identical rows cost one forward pass."""
    encoder = FirstCharacter()
    scores = score(scorer_of(encoder), ["0aaa", "1b", "0aaa", "0aaa"])
    assert encoder.batches == [[4, 2]]
    assert scores.distinct == 2
    assert (scores.status == SCORED).all()


@settings(max_examples=100)
@given(lengths=st.lists(st.integers(1, 50), max_size=60), budget=st.integers(1, 200))
@pytest.mark.parametrize("shape", ["equal", "padded", "packed"])
def test_batches_hold_every_row_once_within_the_budget(shape, lengths, budget):
    """A plan is a permutation, longest first, and no batch of two costs more than the budget."""
    sizes = np.array(lengths, dtype=np.int64)
    plan = plan_batches(sizes, budget, shape)
    assert sorted(row for batch in plan for row in batch) == list(range(len(lengths)))
    assert [lengths[row] for batch in plan for row in batch] == sorted(lengths, reverse=True)
    for batch in plan:
        cost = sizes[batch].max() * len(batch) if shape != "packed" else sizes[batch].sum()
        assert len(batch) == 1 or cost <= budget
        assert shape != "equal" or len(set(sizes[batch])) == 1


@pytest.mark.parametrize("shape", ["equal", "padded", "packed"])
def test_no_batch_holds_more_texts_than_cuda_can_count(shape):
    """A million texts of one word are not one pack, however large the budget."""
    plan = plan_batches(np.full(100_000, 3, dtype=np.int64), 10**9, shape)
    assert [len(batch) for batch in plan] == [MOST_TEXTS] * 3 + [100_000 - 3 * MOST_TEXTS]
    assert MOST_TEXTS == 32_768


def test_i04_one_long_row_does_not_pad_the_short_ones():
    """A long text among short ones shares its batch with few of them."""
    sizes = np.array([512] + [10] * 1000)
    padded = sum(sizes[batch].max() * len(batch) for batch in plan_batches(sizes, 4096, "padded"))
    assert padded < 1.4 * sizes.sum()


# --- memory


def test_g01_out_of_memory_halves_and_remembers():
    """A batch that does not fit is halved until it does.

    Later batches are not tried at the old size.
    """
    texts = [f"{i % 10}" + "." * (9 + i // 10) for i in range(40)]
    encoder = FirstCharacter(memory=30)
    scorer = scorer_of(encoder, batch_tokens=200)
    scores = score(scorer, texts)
    np.testing.assert_allclose(
        scores.probabilities[:, 1], np.array(expected(texts), dtype=np.float32)
    )
    backoffs = scorer.facts()["device"]["oom_backoffs"]
    assert backoffs > 0
    score(scorer, [text + "!" for text in texts])
    assert scorer.facts()["device"]["oom_backoffs"] <= backoffs + 1


def test_g01_the_same_labels_as_with_enough_memory():
    """Running out of memory changes no label."""
    texts = [chr(48 + i) + "." * (i * 7 % 23) for i in range(40)]
    enough = score(scorer_of(FirstCharacter(), 500), texts)
    little = score(scorer_of(FirstCharacter(memory=25), 500), texts)
    assert list(enough.winners) == list(little.winners)


def test_g02_one_text_that_does_not_fit_is_a_device_error():
    """At one row nothing is left to halve: exit 7, with what to do."""
    with pytest.raises(DeviceError, match="no memory for one text of 40 tokens") as caught:
        score(scorer_of(FirstCharacter(memory=30), 200), ["0" + "." * 39, "1..."])
    assert caught.value.exit_code == 7
    assert "--max-length" in caught.value.hint


def test_g04_another_error_of_an_accelerator_is_a_device_error():
    """A sticky CUDA error ends the run as retryable; it is not tried again in this process."""
    calls = []

    def broken():
        calls.append(1)
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore lines")

    with pytest.raises(DeviceError, match="illegal memory access") as caught:
        score(scorer_of(FirstCharacter(raises=broken), device="cuda:0"), ["0...", "1..."])
    assert "more lines" not in str(caught.value)
    assert len(calls) == 1


def test_an_error_on_a_cpu_is_a_bug_and_stays_one():
    """A RuntimeError without an accelerator is not dressed up as the device's fault."""

    def broken():
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes cannot"):
        score(scorer_of(FirstCharacter(raises=broken)), ["0..."])


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "CUDA out of memory. Tried to allocate 20.00 MiB",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes",
    ],
)
def test_g01_a_library_without_room_counts_as_out_of_memory(said):
    """Its words for a full device are its own: the batch its is halved all the same."""
    scorer = scorer_of(FirstCharacter(memory=30, full=lambda: RuntimeError(said)), batch_tokens=200)
    texts = [f"{i % 10}" + "." * 9 for i in range(40)]
    scores = score(scorer, [f"{text}{i}" for i, text in enumerate(texts)])
    assert (scores.status == SCORED).all()
    assert scorer.facts()["device"]["oom_backoffs"] > 0


def test_g01_memory_that_runs_out_in_numpy_counts_too():
    """A MemoryError of the process itself halves the batch like the device's."""
    scorer = scorer_of(FirstCharacter(memory=30, full=MemoryError), batch_tokens=200)
    assert (score(scorer, [f"{i % 10}" + "." * i for i in range(20)]).status == SCORED).all()


def test_g04_an_error_that_comes_with_the_results_is_a_device_error():
    """CUDA tells of a failed kernel when its result is fetched: exit 7 with the first line."""

    class Late:
        def cpu(self):
            raise RuntimeError("CUDA error: unspecified launch failure\nmore lines")

    class LateEncoder(FirstCharacter):
        def probabilities(self, ids, lengths):
            return Late()

    with pytest.raises(DeviceError, match="unspecified launch failure") as caught:
        score(scorer_of(LateEncoder(), device="cuda:0"), ["0...", "1..."])
    assert "more lines" not in str(caught.value)


# --- results that are not finite


def many_texts(odd=("x.overflow",), count=500):
    """Return 500 texts with the odd ones spread among them."""
    texts = [chr(48 + i % 9) + "." * (1 + i * 7 % 23) + str(i) for i in range(count - len(odd))]
    for number, text in enumerate(odd):
        texts.insert(100 * number + 37, text)
    return texts


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_k04_a_text_that_half_precision_cannot_hold_runs_in_float32(precision):
    """K04: one text of 500 without a finite result runs once more in float32, and is counted."""
    opened = []
    exact = InFloat32()
    scorer = scorer_of(
        FirstCharacter(),
        300,
        precision=precision,
        open_float32=lambda: opened.append(1) or exact,
    )
    texts = many_texts()
    first = score(scorer, texts[:20])
    assert not opened
    assert (first.status == SCORED).all()
    scores = score(scorer, texts)
    assert (scores.status == SCORED).all()
    assert scores.probabilities[texts.index("x.overflow")].tolist() == [0.75, 0.25]
    assert exact.batches == [[len("x.overflow")]]
    assert scorer.facts()["device"]["nonfinite_retried"] == 1
    score(scorer, ["x.another", "x.overflow"])
    assert len(opened) == 1
    assert scorer.facts()["device"]["nonfinite_retried"] == 3


def test_k04_what_float32_cannot_hold_either_has_no_score():
    """K04: such a row is not finite, and is not tried a third time when the chunk is resumed."""
    exact = InFloat32()
    texts = many_texts(("x.fine", "xx broken", "x.too"))
    scorer = scorer_of(FirstCharacter(), 300, precision="float16", open_float32=lambda: exact)
    scores = score(scorer, texts)
    assert [texts[row] for row in np.flatnonzero(scores.status == NONFINITE)] == ["xx broken"]
    assert scorer.facts()["device"]["nonfinite_retried"] == 3
    again = score(scorer, texts, done=scores)
    assert again.probabilities.tobytes() == scores.probabilities.tobytes()
    assert len(exact.batches) == 3


def test_k04_in_float32_nothing_is_tried_again():
    """K04: a model that is not finite in float32 is not run twice."""
    scorer = scorer_of(FirstCharacter(), 300, open_float32=lambda: pytest.fail("opened"))
    scores = score(scorer, many_texts())
    assert (scores.status == NONFINITE).sum() == 1
    assert scorer.facts()["device"]["nonfinite_retried"] == 0


@pytest.mark.parametrize("after", [*range(12), 20, 30, 60])
def test_k04_an_interrupted_chunk_gives_the_same_as_one_in_one_sitting(after):
    """K04: stopped before any batch, or any text in float32, and resumed: the same bytes."""
    texts = many_texts(("x.a", "x.bb", "xx", "x.a"))

    def opened():
        return scorer_of(FirstCharacter(), 300, precision="float16", open_float32=InFloat32)

    whole = score(opened(), texts)
    asked = iter(range(1_000))
    part = score(opened(), texts, stop=lambda: next(asked) >= after)
    done = score(opened(), texts, done=part)
    assert done.probabilities.tobytes() == whole.probabilities.tobytes()
    assert done.status.tobytes() == whole.status.tobytes()
    assert not (done.status == PENDING).any()


def test_k04_a_text_in_windows_is_whole_in_float32(tiny_model):
    """K04: all windows of a long text run in float32 where one of them is not finite."""
    scorer = ModelScorer.open(
        identify(str(tiny_model)), ModelOptions(device="cpu", long_text="window")
    )
    exact = scorer.encoder
    text = "great movie " * 60 + "awful " * 60
    wanted = score(scorer, [text]).probabilities[0]

    class Odd(FirstCharacter):
        """Gives no finite number for one of the windows."""

        def probabilities(self, ids, lengths):
            return exact.probabilities(ids, lengths) * torch.tensor(
                [[1.0]] * (len(lengths) - 1) + [[np.nan]]
            )

    runs = []

    class Counted(FirstCharacter):
        def probabilities(self, ids, lengths):
            runs.append(len(lengths))
            return exact.probabilities(ids, lengths)

    half = LoadedModel(scorer.identity, None, None, Device("cpu", "CPU", "bfloat16", "test"), 64)
    odd = ModelScorer(half, Odd(), scorer.text_encoder, 10_000, open_float32=Counted)
    scores = score(odd, [text])
    assert scores.probabilities[0] == pytest.approx(wanted, abs=1e-6)
    assert len(runs) > 2
    assert set(runs) == {1}
    assert odd.facts()["device"]["nonfinite_retried"] == 1


def test_k04_a_model_that_does_not_fit_into_bfloat16_scores_as_float32(tmp_path):
    """K04: a weight beyond bfloat16: every text runs in float32 and gets exactly its score."""
    if not has_fast_bfloat16():
        pytest.skip("bfloat16 is refused on this CPU")
    folder = make_model(tmp_path / "model")

    def overflow(bias):
        bias[1] = 3.3985e38  # float32 holds it, in bfloat16 it is infinity

    change_weights(folder, "classifier.bias", overflow)
    texts = ["a great film", "", "bad plot", "the cast was boring"]
    with pytest.warns(UserWarning, match="do not fit into bfloat16"):
        half = load(str(folder), device="cpu", precision="bfloat16")
    exact = load(str(folder), device="cpu", precision="float32", batch_tokens=1)
    assert half.predict(texts) == exact.predict(texts)
    assert half.predict(texts)[0].score == 1.0
    facts = half.scorer.facts()["device"]
    assert facts["nonfinite_retried"] == 6
    assert "transformers" in facts["path"]
    assert "--precision float32" in facts["warnings"][0]


# --- interruption


@pytest.mark.parametrize("long_text", ["head", "window"])
@pytest.mark.parametrize("after", range(8))
def test_a_chunk_in_two_sittings_gives_the_bytes_of_one(tiny_model, after, long_text):
    """Stopped after any batch and resumed, a chunk has the same scores to the last bit, by
    whole batches.
    """
    texts = [" ".join(["great bad movie plot"[: 4 + i % 9]] * (i % 37 + 1)) for i in range(60)]
    options = ModelOptions(device="cpu", batch_tokens=200, long_text=long_text)
    whole = score(ModelScorer.open(identify(str(tiny_model)), options), texts)
    first = ModelScorer.open(identify(str(tiny_model)), options)
    asked = iter(range(100))
    part = score(first, texts, stop=lambda: next(asked) >= after)
    assert ((part.status == PENDING).sum() == 0) == (after > 100)
    second = ModelScorer.open(identify(str(tiny_model)), options)
    done = score(second, texts, done=part)
    assert done.probabilities.tobytes() == whole.probabilities.tobytes()
    assert done.status.tobytes() == whole.status.tobytes()
    assert done.n_tokens.tobytes() == whole.n_tokens.tobytes()


def test_a_text_in_windows_gets_the_mean_of_their_probabilities(tiny_model):
    """--long-text window reads all of a text, and counts its tokens once."""
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(tiny_model).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    text = " ".join(["great movie", "awful plot", "very boring ending"] * 20)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) == 140
    pieces = [ids[0:62], ids[39:101], ids[78:140]]  # of 64 - 2 tokens, evenly spread
    inputs = torch.tensor(
        [[tokenizer.cls_token_id, *piece, tokenizer.sep_token_id] for piece in pieces]
    )
    with torch.no_grad():
        mean = torch.softmax(model(inputs).logits, dim=-1).mean(dim=0)
    scorer = ModelScorer.open(
        identify(str(tiny_model)), ModelOptions(device="cpu", long_text="window")
    )
    scores = score(scorer, ["good", text, None])
    assert scores.probabilities[1] == pytest.approx(mean.numpy(), abs=1e-6)
    assert list(scores.n_tokens) == [3, 142, 0]
    assert not scores.truncated_tokens.any()
    head = score(ModelScorer.open(identify(str(tiny_model)), ModelOptions(device="cpu")), ["good"])
    assert head.probabilities[0] == pytest.approx(scores.probabilities[0], abs=1e-6)


def test_what_is_done_does_not_run_again():
    """Going on runs the missing batches only."""
    texts = [chr(48 + i) + "." * i for i in range(30)]
    encoder = FirstCharacter()
    scorer = scorer_of(encoder, 40)
    asked = iter(range(100))
    part = score(scorer, texts, stop=lambda: next(asked) >= 3)
    assert len(encoder.batches) == 3
    total = len(scorer.prepare(texts).content.batches)
    score(scorer, texts, done=part)
    assert len(encoder.batches) == total


# --- the Python API


@pytest.mark.parametrize("kind", ["distilbert", "bert", "roberta"])
def test_predict_gives_what_a_pipeline_gives(tmp_path, kind):
    """Label and score equal those of transformers.pipeline on the same folder."""
    from transformers import pipeline

    folder = str(make_model(tmp_path / kind, kind))
    texts = [
        "a great movie",
        "boring plot, awful acting!",
        "it was " + "very " * 100 + "long",
        "10",
        "?",
    ]
    theirs = pipeline("sentiment-analysis", model=folder, tokenizer=folder, device="cpu")(
        texts, truncation=True
    )
    ours = load(folder, device="cpu").predict(texts)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.label == other["label"]
        assert mine.score == pytest.approx(other["score"], abs=1e-5)
        assert sum(mine.probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_a_text_without_anything_to_read_has_no_score(model):
    """Blank texts and None come back as missing, in their place."""
    predictions = model.predict(["", None, "good", " \t", "\u200b"])
    assert [p.label is None for p in predictions] == [True, True, False, True, True]
    assert predictions[0].score is None
    assert predictions[0].probabilities == {}


def test_no_texts_give_no_predictions(model):
    """An empty list is fine."""
    assert model.predict([]) == []


def test_a_bare_string_is_not_a_list_of_letters(model):
    """predict("text") says what was meant."""
    with pytest.raises(UsageError, match="list of texts"):
        model.predict("good")
    with pytest.raises(UsageError, match="text 1 is not text but float"):
        model.predict(["good", 1.5])


def test_an_unknown_option_names_the_nearest(tiny_model):
    """A typo in an option is told."""
    with pytest.raises(UsageError, match="no option 'devise'") as caught:
        load(str(tiny_model), devise="cpu")
    assert "device" in caught.value.hint


def test_facts_say_which_way_the_model_runs_and_why(model):
    """The summary's sections name path, reason, budget and peak memory."""
    facts = model.scorer.facts()
    assert facts["model"]["labels"] == ["NEGATIVE", "POSITIVE"]
    assert facts["model"]["precision"] == "float32"
    assert facts["device"]["path"] == "packed"
    assert facts["device"]["tokenizer_path"] == "word cache"
    assert facts["device"]["peak_memory_bytes"] > 10**6


def test_an_int8_run_says_how_far_it_agrees_with_float32(tiny_model):
    """One text in 150 goes through both, so that a short run costs no more than it must. The summary
    has label flips and the largest difference.
    """
    try:
        eight = load(str(tiny_model), precision="int8")
    except UsageError as reason:
        pytest.skip(str(reason))
    assert eight.scorer.facts()["model"]["agreement"] is None
    texts = [f"{'good ' * (n % 50)}{n}" for n in range(1_000)]
    exact = load(str(tiny_model), device="cpu").predict(texts)
    scores = eight.predict(texts)
    agreement = eight.scorer.facts()["model"]["agreement"]
    assert agreement["with"] == "float32"
    assert agreement["texts"] == 7
    assert agreement["label_flips"] == sum(
        a.label != b.label for a, b in zip(exact[:7], scores[:7], strict=True)
    )
    seen = max(
        abs(a.probabilities["POSITIVE"] - b.probabilities["POSITIVE"])
        for a, b in zip(exact, scores, strict=True)
    )
    assert agreement["largest_difference"] <= seen + 1e-3
    assert eight.scorer.facts()["model"]["precision"] == "int8"
    assert eight.scorer.reference is None


def test_batch_tokens_must_be_positive(tiny_model):
    """--batch-tokens 0 is refused."""
    with pytest.raises(UsageError, match="--batch-tokens 0"):
        load(str(tiny_model), batch_tokens=0)


def test_scores_do_not_depend_on_the_batch_size(tiny_model):
    """G07: one text a batch or all in one gives the same labels and scores to five digits."""
    texts = ["good " * n for n in range(1, 40)]
    results = [
        load(str(tiny_model), device="cpu", batch_tokens=n).predict(texts)
        for n in (1, 100, 100_000)
    ]
    for first, second, third in zip(*results, strict=True):
        assert first.label == second.label == third.label
        assert first.score == pytest.approx(third.score, abs=1e-5)


def test_the_model_is_a_scorer(model):
    """Model wraps the same scorer that a run uses."""
    assert isinstance(model, Model)
    assert isinstance(model.scorer, ModelScorer)
