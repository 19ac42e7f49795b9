"""What changed between two runs, and the conditions that fail a cron job."""

import copy
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsent.chunk import BLANK, SCORED
from batchsent.commands.compare import compare as compare_command
from batchsent.errors import InputError
from batchsent.evaluation.compare import check, compare, ks_distance, psi
from batchsent.evaluation.tally import Tally
from batchsent.options import names_affecting
from batchsent.run.options import BatchOptions
from batchsent.terminal import tables
from tests.scored_rows import FOUR, TWO, Rows, small
from tests.summaries import HOSTILE, document, summary_of


def figures(comparison):
    return {figure["name"]: figure for figure in comparison["figures"]}


def test_a_figure_that_did_not_change_is_not_minus_zero(monday):
    """A drop of nothing is 0, not -0, in a gate's message and in the JSON."""
    comparison = compare(monday, monday)
    assert (
        check(comparison, ["accuracy_drop>=0"])[0]["message"]
        == "accuracy_drop is 0: accuracy_drop>=0"
    )
    assert "-0.0" not in json.dumps(comparison["gates"])


@pytest.mark.parametrize("labels", [(), TWO, FOUR])
def test_a_run_does_not_differ_from_itself(labels):
    """Compared with itself a run has no drift, no change and no difference."""
    itself = document(Tally(()).sections()) if not labels else summary_of(Rows(labels))
    comparison = compare(itself, itself)
    assert all(not figure["change"] for figure in [*comparison["figures"], *comparison["labels"]])
    assert not any(
        value for name, value in comparison["drift"].items() if not name.endswith("noise")
    )
    assert comparison["differences"] == []


def test_two_samples_of_one_source_are_alike(monday, tuesday):
    """Chance alone fires no gate and no verdict."""
    comparison = compare(monday, tuesday)
    assert comparison["verdict"] == (
        "the scores are alike; the text lengths are alike; accuracy changed no more than chance "
        "would"
    )
    assert (
        check(comparison, ["psi>0.1", "ks>0.1", "accuracy_drop>0.03", "label_share_change>5%"])
        == []
    )


def test_a_dump_of_another_kind_fires_the_gate(monday, short_reviews):
    """Other lengths, other shares and other scores are drift, by any of its figures."""
    comparison = compare(monday, short_reviews)
    fired = check(
        comparison,
        [
            "psi>0.2",
            "length_psi>0.2",
            "ks > 0.2",
            "label_share_change>=10%",
            "accuracy_drop>0.01",
            "psi>50",
        ],
    )
    assert [failure["name"] for failure in fired] == [
        "psi",
        "length_psi",
        "ks",
        "label_share_change",
        "accuracy_drop",
    ]
    assert "differ much" in comparison["verdict"]
    assert "accuracy fell" in comparison["verdict"]


def test_changes_of_shares_and_figures():
    """Every change is the second run's figure minus the first one's."""
    first, second = Tally(TWO), Tally(TWO)
    first.add(*small(["good"] * 8 + [None] * 2, [SCORED] * 8 + [BLANK] * 2))
    second.add(*small(["good"] * 5, [SCORED] * 5, p=(0.8, 0.2)))
    second.reject(3)
    comparison = compare(document(first.sections()), document(second.sections()))
    changes = {name: figure["change"] for name, figure in figures(comparison).items()}
    assert changes["rows"] == -2
    assert changes["blank_share"] == pytest.approx(-0.2)
    assert changes["rejected_share"] == pytest.approx(3 / 8)
    assert changes["mean_score"] == pytest.approx(-0.1)
    assert [(label["name"], label["a"], label["b"]) for label in comparison["labels"]] == [
        ("NEGATIVE", 0, 1),
        ("POSITIVE", 1, 0),
    ]
    assert comparison["gates"]["rows_drop"] == pytest.approx(0.2)
    assert comparison["gates"]["label_share_change"] == 1


def test_the_expected_accuracy_is_compared_where_both_have_it(monday, tuesday):
    """Its fall is a gate that needs no gold labels; an older summary has no such figure."""
    before = monday | {"predictions": monday["predictions"] | {"expected_accuracy": 0.91}}
    after = tuesday | {"predictions": tuesday["predictions"] | {"expected_accuracy": 0.76}}
    comparison = compare(before, after)
    assert figures(comparison)["expected_accuracy"]["change"] == pytest.approx(-0.15)
    (failure,) = check(comparison, ["expected_accuracy_drop>0.1"])
    assert failure["value"] == pytest.approx(0.15)
    old = {k: v for k, v in monday["predictions"].items() if k != "expected_accuracy"}
    comparison = compare(monday | {"predictions": old}, after)
    assert "expected_accuracy" not in figures(comparison)
    assert comparison["gates"]["expected_accuracy_drop"] is None


def test_figures_with_gold_are_compared_where_both_have_it(monday, tuesday):
    """Accuracy and its kin are compared between two runs with gold; with one there is nothing to
    compare.
    """
    both = compare(monday, tuesday)
    expected = tuesday["evaluation"]["macro"]["f1"] - monday["evaluation"]["macro"]["f1"]
    assert figures(both)["macro_f1"]["change"] == pytest.approx(expected)
    assert both["gates"]["accuracy_drop"] == pytest.approx(-figures(both)["accuracy"]["change"])
    one = compare(monday, summary_of(Rows(seed=2), gold=False))
    assert "accuracy" not in figures(one)
    assert one["gates"]["accuracy_drop"] is None


def test_a_gate_without_its_figure_fails():
    """A gate on accuracy does not pass because the gold labels went missing."""
    comparison = compare(summary_of(Rows()), summary_of(Rows(), gold=False))
    (failure,) = check(comparison, ["accuracy_drop>0.01"])
    assert failure["value"] is None
    assert (
        failure["message"]
        == "accuracy_drop could not be computed, which counts as accuracy_drop>0.01"
    )


def test_unsure_shares_are_compared_at_one_threshold():
    """Unsure below 0.6 and unsure below 0.7 are two figures, not a change of one."""
    at = [summary_of(Rows(), unsure_below=threshold) for threshold in (0.6, 0.6, 0.7)]
    assert figures(compare(at[0], at[1]))["unsure_share"]["change"] == 0
    assert "unsure_share" not in figures(compare(at[0], at[2]))
    assert compare(at[0], at[2])["gates"]["unsure_share_rise"] is None


def test_model_option_and_version_differences_are_listed(monday):
    """What else than the data differs is told: model, options, versions.

    Options that change no file of a run are left out, as the command does.
    """
    other = summary_of(
        Rows(seed=1),
        model={**monday["model"], "precision": "float16"},
        run={**monday["run"], "options": {"text_column": "body", "overwrite": True}},
        package={**monday["package"], "torch": "9.9"},
    )
    ignored = names_affecting(BatchOptions, "nothing")
    found = [
        (entry["section"], entry["name"], entry["b"])
        for entry in compare(monday, other, ignored=ignored)["differences"]
    ]
    assert found == [
        ("model", "precision", "float16"),
        ("options", "text_column", "body"),
        ("package", "torch", "9.9"),
    ]


def test_models_of_other_labels_can_be_compared(monday):
    """A label that one model lacks counts as none of its rows."""
    comparison = compare(monday, summary_of(Rows(FOUR)))
    assert [label["name"] for label in comparison["labels"]] == [*TWO, *FOUR]
    assert comparison["drift"]["ks"] == pytest.approx(1)


def test_ks_is_that_of_the_positive_probability(monday, short_reviews):
    """With two labels the KS distance is scipy's, of the second label's probability, up to its
    bins.
    """
    from scipy.stats import ks_2samp

    first, second = Rows(seed=1), Rows(seed=5, spread=1.0)
    exact = ks_2samp(first.p[:, 1], second.p[:, 1]).statistic
    assert compare(monday, summary_of(second))["drift"]["ks"] == pytest.approx(exact, abs=0.03)


def test_psi_by_hand():
    """PSI is the sum of (q - p) ln(q / p): 50:50 against 75:25 is 0.2747."""
    index, _ = psi(np.array([50_000, 50_000]), np.array([75_000, 25_000]))
    assert index == pytest.approx(0.25 * np.log(1.5) - 0.25 * np.log(0.5), abs=1e-4)


def test_noise_is_what_chance_does():
    """Of 400 pairs of samples from one source about one in twenty is beyond the noise."""
    random = np.random.default_rng(4)
    shares = random.dirichlet(np.ones(12))
    beyond_psi = beyond_ks = 0
    for _ in range(400):
        a, b = random.multinomial(2_000, shares), random.multinomial(3_000, shares)
        (index, index_noise), (gap, gap_noise) = psi(a, b), ks_distance(a, b)
        beyond_psi += index > index_noise
        beyond_ks += gap > gap_noise
    assert 5 <= beyond_psi <= 40
    # Kolmogorov's bound is for continuous values; few cells only make it more cautious.
    assert beyond_ks <= 30


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=30),
    st.lists(st.integers(0, 50), min_size=1, max_size=30),
)
def test_drift_figures_are_finite(a, b):
    """Empty cells and empty runs give a number or None, never an infinity."""
    cells = max(len(a), len(b))
    a, b = (np.array(counts + [0] * (cells - len(counts))) for counts in (a, b))
    for value in (*psi(a, b), *ks_distance(a, b)):
        assert value is None or (np.isfinite(value) and value >= 0)


def test_comparison_on_a_terminal(monday, short_reviews):
    """The table names what changed, beside what chance would do."""
    stream = io.StringIO()
    comparison = compare(monday, short_reviews)
    tables.show_comparison(comparison, stream)
    text = stream.getvalue()
    for said in (
        "share of POSITIVE",
        "PSI of scores",
        "accuracy",
        "by chance up to",
        comparison["verdict"],
    ):
        assert said in text
    assert max(map(len, text.splitlines()[:-1])) <= 80


def test_hostile_labels_in_a_comparison():
    """A label cannot write to the terminal what is not shown."""
    stream = io.StringIO()
    hostile = summary_of(Rows((HOSTILE, "ok")), model={"source": HOSTILE})
    tables.show_comparison(compare(hostile, summary_of(Rows())), stream)
    assert "[red]" in stream.getvalue()
    assert not set(stream.getvalue()) & set("\x1b\x07\u202e\r")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d["rows"].update(read="many"),
        lambda d: d["predictions"].update(mean_score=10**400),
        lambda d: d["text"].pop("characters"),
        lambda d: d["text"]["characters"]["histogram"].update(counts=5),
        lambda d: d["text"]["characters"]["histogram"]["counts"].pop(),
        lambda d: d["predictions"].update(labels=[1]),
        lambda d: d["predictions"]["labels"][0].update(score_counts=[None, "x"]),
        lambda d: d["evaluation"].update(macro=None),
        lambda d: d["run"].update(options=[3]),
        lambda d: d.update(outputs=["x"]),
    ],
)
def test_a_damaged_summary_is_no_bug_of_ours(monday, spoil):
    """Figures that are not what they should be end in one line that says so, whichever side they
    are on.
    """
    broken = copy.deepcopy(dict(monday))
    spoil(broken)
    for pair in ((broken, monday), (monday, broken)):
        with pytest.raises(InputError, match="one of the summaries is damaged"):
            compare(*pair)


def test_the_command_leaves_out_options_that_change_no_figure(monday, tmp_path):
    """Two runs that differ by --overwrite, --restart, --lock-wait and --report alone are alike.

    The page says the same as the document.
    """
    options = monday["run"].get("options") or {}
    other = copy.deepcopy(dict(monday))
    other["run"]["options"] = options | {
        "overwrite": True,
        "restart": True,
        "lock_wait": 5.0,
        "report": True,
        "encoding": "cp1252",
    }
    paths = [tmp_path / "a.summary.json", tmp_path / "b.summary.json"]
    for path, content in zip(paths, (monday, other), strict=True):
        path.write_text(json.dumps(content))
    comparison = compare_command(*paths, html=tmp_path / "page.html")
    assert [entry["name"] for entry in comparison["differences"]] == ["encoding"]
    page = (tmp_path / "page.html").read_text()
    assert "cp1252" in page
    assert "lock_wait" not in page
