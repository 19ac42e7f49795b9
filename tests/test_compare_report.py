"""The page of two runs side by side: what it says, and that nothing in it runs."""

import copy
import json
import re

import pytest

from batchsent.chunk import SCORED
from batchsent.errors import InputError, UsageError
from batchsent.evaluation import summary
from batchsent.evaluation.tally import Tally
from batchsent.pages import charts
from batchsent.pages.comparison import render_comparison
from tests.pages import ATTRIBUTES, ELEMENTS, HOSTILE, Reader
from tests.scored_rows import FOUR, TWO, Rows, small
from tests.summaries import document


def test_the_page_says_what_moved(monday, short_reviews):
    """Verdict, gates that failed, drift, figures, labels, scores, lengths and differences are on
    the page.
    """
    text = Reader(render_comparison(monday, short_reviews, ["psi>0.2", "accuracy_drop>90%"])).text
    for said in (
        "The scores differ much; the text lengths differ much",
        "Gate failed: psi is",
        "drift of scores much",
        "● -",
        "macro F1",
        "Scores of NEGATIVE",
        "Scores of POSITIVE",
        "In characters",
        "In tokens",
        f"Median: {monday['text']['characters']['p50']:,} in A, 19 in B",
    ):
        assert said in text
    assert "accuracy_drop is" not in text


def test_the_contents_lead_to_every_section(monday, tuesday):
    """Each section of the page stands in its contents, in order."""
    reader = Reader(render_comparison(monday, tuesday))
    linked = [value[1:] for name, value in reader.attributes if name == "href"]
    assert linked == [value for name, value in reader.attributes if name == "id"]
    assert linked[0] == "figures"


def test_shares_that_are_zero_in_both_runs_are_a_sentence(monday, tuesday):
    """Where no row of either run was rejected there is no line of zeros for it."""
    text = Reader(render_comparison(monday, tuesday)).text
    assert "None in either run: blank rows, rejected rows, nonfinite rows." in text
    rows = {**tuesday["rows"], "rejected": 3}
    text = Reader(render_comparison(monday, {**tuesday, "rows": rows})).text
    assert "None in either run: blank rows, nonfinite rows." in text
    assert "rejected rows 0.00% 0.10% +0.1 pts ±" in text


def test_two_samples_of_one_source_are_alike_on_the_page(monday, tuesday):
    """What chance explains is not marked, and gates that passed are named."""
    text = Reader(render_comparison(monday, tuesday, ["psi>0.2"])).text
    assert "The scores are alike; the text lengths are alike" in text
    assert "All gates passed: psi>0.2" in text
    assert "Model, options, versions and device are the same." in text


@pytest.mark.parametrize(
    "labels", [(), ("only",), TWO, FOUR, tuple(f"label {n}" for n in range(300))]
)
@pytest.mark.parametrize("rows", [0, 1, 300])
def test_every_pair_of_summaries_has_a_page(labels, rows):
    """No rows, one label, hundreds of labels, other labels on either side: there is a page, under
    500 kB.
    """
    one = document((Rows(labels, rows=rows).tally() if labels else Tally(())).sections())
    other = document(Rows(FOUR, rows=20).tally(gold=False).sections())
    for pair in ((one, one), (one, other), (other, one)):
        page = render_comparison(*pair)
        assert Reader(page).open == []
        assert len(page) < 500_000


def hostile():
    rows = Rows((HOSTILE, "ok"), rows=60)
    return document(
        rows.tally().sections(),
        status=HOSTILE,
        input={"path": f"x/{HOSTILE}"},
        outputs=[{"path": HOSTILE}],
        model={HOSTILE: HOSTILE, "labels": [HOSTILE]},
        run={"options": {HOSTILE: HOSTILE}, "ended": HOSTILE},
        package={HOSTILE: HOSTILE},
    )


def test_nothing_on_the_page_runs(monday):
    """Hostile names of files, labels, options and models are words.

    No script, no style attribute, no address.
    """
    for pair in ((hostile(), monday), (monday, hostile())):
        page = render_comparison(*pair)
        reader = Reader(page)
        assert set(reader.elements) <= ELEMENTS
        assert {name for name, _ in reader.attributes} <= ATTRIBUTES
        assert "<script>alert(1)</script>" in reader.text
        assert not set(page.decode()) & set("\u202e\x1b\x07\r")
        (policy,) = [v for n, v in reader.attributes if n == "content" and "default-src" in v]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")


def test_a_page_is_the_same_every_time(monday, short_reviews):
    """The page of two summaries is the same bytes, also after they were written and read back."""
    read = [json.loads(summary.dumps(each)) for each in (monday, short_reviews)]
    assert render_comparison(monday, short_reviews) == render_comparison(*read)


@pytest.mark.parametrize("spoil", ["rows", "predictions", "text", "evaluation", "outputs", "run"])
def test_a_damaged_summary_is_an_error(monday, spoil):
    """A summary whose sections do not hold what they should is refused and not half shown."""
    broken = copy.deepcopy(dict(monday)) | {
        spoil: [3] if spoil == "outputs" else {"rows": [1], "options": 5}
    }
    with pytest.raises(InputError, match="damaged"):
        render_comparison(monday, broken)


def test_a_misspelt_gate_is_an_error(monday):
    """A condition on a figure that does not exist is refused, also here."""
    with pytest.raises(UsageError, match="pis"):
        render_comparison(monday, monday, ["pis>0.2"])


def test_both_distributions_are_drawn_to_one_scale():
    """The highest bin of either run reaches the top, and each bin its share of it."""
    drawn = charts.outlines([0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [], title="t", x_title="x")
    shapes = re.findall(r'class="(soft|line)" d="([^"]+)"', drawn)
    assert [kind for kind, _ in shapes] == ["soft", "line"]
    heights = [[float(point.split()[1]) for point in path[1:].split("L")] for _, path in shapes]
    base, top = charts.HEIGHT - charts.BOTTOM, charts.TOP
    assert min(heights[1]) == top
    assert heights[0][1] == pytest.approx(base - (base - top) * 0.5 / 0.8, abs=0.1)
    assert heights[0][0] == heights[0][-1] == base


def test_bins_say_the_shares_of_both_runs():
    """Under the pointer each bin that is not empty names its values and both shares."""
    drawn = charts.outlines(
        [0.5, 0.5, 0.0], [0.25, 0.75, 0.0], [], title="t", x_title="x", bins=["a", "b", "c"]
    )
    assert re.findall(r"<title>([^<]+)</title>", drawn) == [
        "a: A 50.0%, B 25.0%",
        "b: A 50.0%, B 75.0%",
    ]


def test_nothing_scored_draws_nothing():
    """Two runs without rows have a page without charts."""
    tally = Tally(TWO)
    nothing = document(tally.sections())
    assert Reader(render_comparison(nothing, nothing)).elements.count("svg") == 2 * len(TWO)
    tally.add(*small(["a"], [SCORED]))
    assert (
        Reader(render_comparison(nothing, document(tally.sections()))).elements.count("figure") >= 2
    )
