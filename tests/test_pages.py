"""The pages: what they say, what they weigh, and that nothing in them runs."""

import base64
import hashlib
import html
import json
import re

import pytest

from batchsent.chunk import SCORED
from batchsent.errors import InputError
from batchsent.evaluation import summary
from batchsent.evaluation.advice import warning
from batchsent.evaluation.gold import GoldRule
from batchsent.evaluation.tally import Tally
from batchsent.pages import charts, template
from batchsent.pages.comparison import render_comparison
from batchsent.pages.report import render
from batchsent.pages.training import render_training
from tests.pages import ATTRIBUTES, ELEMENTS, HOSTILE, Reader
from tests.scored_rows import FOUR, TWO, Rows, small
from tests.summaries import document


@pytest.fixture(scope="module")
def scored():
    performance = {
        "rows_per_s": 17.0,
        "tokens_per_s": 4_000.0,
        "seconds": {"read": 0.5, "tokenize": 3.0, "score": 170.0, "write": 0.4},
        "bottleneck": "reading the input (the device waits 59% of the time)",
        "device_busy_share": 0.412,
        "padding_share": 0.01,
    }
    run = {
        "elapsed_s": 192.4,
        "ended": "2026-01-05T03:06:31+00:00",
        "command": ["batchsent", "batch", "a b.csv"],
    }
    return document(Rows().tally(unsure_below=0.7).sections(), performance=performance, run=run)


def test_the_page_says_what_the_summary_says(scored):
    """Verdict, warnings with what to do, rows, labels, figures, stages and provenance are on the
    page.
    """
    text = Reader(render(scored)).text
    evaluation = scored["evaluation"]
    for said in (
        "Scores of reviews.csv",
        "3,000 of 3,000 rows were scored in 3 min 12 s.",
        f"Of 3,000 rows with a gold label {evaluation['accuracy']:.1%} are right",
        f"What to do: {scored['warnings'][0]['hint']}",
        "Confusion matrix",
        f"{evaluation['confusion']['counts'][0][1]:,}",
        "read up to 512",
        "ROC curve",
        "Precision and recall",
        "Can the scores be read as chances?",
        "How right are the sure ones?",
        "0.7 unsure below",
        "By length of the text",
        "cut by the model",
        "what bounded their speed was reading the input (the device waits 59% of the time)",
        "The device ran a batch for 41.2% of the time",
        "batchsent batch 'a b.csv'",
        "0" * 64,
        "have a score under 0.7 and count as unsure",
    ):
        assert said in text


@pytest.mark.parametrize(
    "labels", [(), ("only",), TWO, FOUR, tuple(f"label {i}" for i in range(300))]
)
@pytest.mark.parametrize("gold", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 300])
def test_every_summary_has_a_page(labels, gold, rows):
    """No rows, one row, one label, hundreds of labels, with and without gold: there is a page,
    under 500 kB.
    """
    tally = (
        Rows(labels, rows=rows).tally(gold=gold)
        if labels
        else Tally((), GoldRule.parse(()) if gold else None)
    )
    page = render(document(tally.sections()))
    assert Reader(page).open == []
    assert len(page) < 500_000


def test_a_failed_run_has_a_page():
    """The page of a failed run says what went wrong and what to do."""
    sections = Tally(()).sections()
    failed = document(
        sections,
        status="failed",
        exit_code=6,
        error={"message": "no model", "hint": "name a folder"},
        model={},
        input={},
        outputs=[],
        run={},
        performance={},
        device={},
    )
    text = Reader(render(failed)).text
    assert "The run ended with an error: no model" in text
    assert "name a folder" in text
    assert "No label was given." in text
    assert "There was no text to read." in text


def test_a_page_is_the_same_every_time(scored):
    """The page of a summary is the same bytes, also after the summary was written and read back."""
    assert render(scored) == render(json.loads(summary.dumps(scored)))


def hostile_page():
    rows = Rows((HOSTILE, "ok", f"2{HOSTILE}"), rows=60)
    rows.gold[:5] = [f"?{HOSTILE}"] * 5
    return render(
        document(
            rows.tally().sections(),
            status=HOSTILE,
            warnings=[warning("w", HOSTILE, HOSTILE)],
            error={"message": HOSTILE, "hint": HOSTILE},
            input={"path": f"x/{HOSTILE}", "columns": {HOSTILE: HOSTILE}},
            outputs=[{"path": HOSTILE}],
            model={"source": HOSTILE, "max_length": 512},
            run={"options": {HOSTILE: HOSTILE}, "command": [HOSTILE], "ended": HOSTILE},
            performance={"seconds": {HOSTILE: 1.0}, "bottleneck": HOSTILE},
            package={HOSTILE: HOSTILE},
        )
    )


def test_hostile_names_are_words():
    """Markup, templates, formulas, escapes and overrides in names are shown as words and do
    nothing.
    """
    page = hostile_page()
    reader = Reader(page)
    assert set(reader.elements) <= ELEMENTS
    assert "<script>alert(1)</script>" in reader.text
    assert "{{ 7*7 }}" in reader.text
    assert "49" not in re.findall(r"</title><script>.{60}", reader.text)[0]
    assert not set(page.decode()) & set("\u202e\x1b\x07\r")


@pytest.mark.parametrize(
    "make", [hostile_page, lambda: render(document(Rows().tally().sections()))]
)
def test_nothing_on_a_page_runs_or_calls_out(make):
    """No script, no handler, no style attribute, no address.

    The policy allows the page's own style sheet alone.
    """
    page = make()
    reader = Reader(page)
    names = {name for name, _ in reader.attributes}
    assert names <= ATTRIBUTES
    for name, value in reader.attributes:
        assert name != "href" or re.fullmatch(r"(#|\./)[\w./%~-]+", value), value
    (policy,) = [
        value for name, value in reader.attributes if name == "content" and "default-src" in value
    ]
    css = re.search(rb"<style>(.*?)</style>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(css).digest()).decode()
    assert (
        policy
        == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert not re.search(rb"url\(|@import|https?:", css)


def test_curves_of_several_labels_are_told_apart_without_colour():
    """Each of several curves has a dash of its own, and a legend that shows it."""
    page = render(document(Rows(FOUR).tally().sections())).decode()
    assert len(set(re.findall(r'class="line" stroke-dasharray="([^"]+)"', page))) == 4
    assert page.count('class="key"') == 8


def test_labels_are_not_twisted_by_writing_direction():
    """A label in Arabic or Hebrew stands apart from the words around it."""
    page = render(document(Rows(("سلبي", "חיובי"), rows=50).tally().sections())).decode()
    assert "<bdi>سلبي</bdi>" in page


def with_options(words=("/opt/bin/batchsent", "batch", "a b.csv"), **options):
    """Return the summary of a judged run with these options."""
    run = document(Rows().tally().sections())
    return run | {"run": {**run["run"], "command": list(words), "options": options}}


def test_gates_are_on_the_page():
    """A floor that the run is under is the first thing below the verdict.

    Floors that hold are named as passed.
    """
    assert (
        "Gate failed: accuracy is" in Reader(render(with_options(fail_under=["accuracy=1.0"]))).text
    )
    passed = Reader(render(with_options(fail_under=["accuracy=0.01", "mcc=-1"]))).text
    assert "All gates passed: accuracy=0.01, mcc=-1." in passed
    assert "Gate failed" not in passed
    for nothing in ([], None):
        assert not re.search("[Gg]ate", Reader(render(with_options(fail_under=nothing))).text)
    for damaged in (["acuracy=1"], ["?"], 5, [5]):
        with pytest.raises(InputError):
            render(with_options(fail_under=damaged))


@pytest.mark.parametrize(
    ("first", "shown"),
    [
        ("/opt/venv/bin/batchsent", "batchsent batch 'a b.csv'"),
        ("/opt/site-packages/batchsent/__main__.py", "batchsent batch 'a b.csv'"),
        ("nightly.py", "nightly.py batch 'a b.csv'"),
    ],
)
def test_the_command_is_one_to_type(first, shown):
    """Where the program lies is not part of it.

    A program that called the function keeps its name.
    """
    assert shown in Reader(render(with_options([first, "batch", "a b.csv"]))).text


def test_stars_are_called_an_agreement():
    """Figures against star ratings are not sold as accuracy."""
    tally = Tally(TWO, GoldRule.parse(TWO, stars="1-2:NEGATIVE,4-5:POSITIVE"))
    tally.add(*small(["t"] * 4, [SCORED] * 4, gold=[5, "3", 1.0, None]))
    text = Reader(render(document(tally.sections()))).text
    assert "Agreement with star ratings" in text
    assert "agree with the star ratings" in text
    assert "agreement 95%:" in text
    assert "Not judged: 1 without a gold value, 1 left out by the rule." in text


@pytest.mark.parametrize(
    "spoil", ["rows", "predictions", "text", "evaluation", "outputs", "performance"]
)
def test_a_damaged_summary_is_an_error(scored, spoil):
    """A summary whose sections do not hold what they should is refused and not half shown."""
    with pytest.raises(InputError, match="damaged"):
        render({**scored, spoil: {"rows": [1], "seconds": 5} if spoil != "outputs" else [3]})


def test_figures_beyond_all_measure_are_damage(scored):
    """Numbers that no float holds, and a section nested a thousand deep, are refused in one line."""
    deep: list = []
    for _ in range(5_000):
        deep = [deep]
    for spoiled in (
        {"predictions": {**scored["predictions"], "mean_score": 10**400}},
        {"device": {"name": deep}},
    ):
        with pytest.raises(InputError, match="damaged"):
            render({**scored, **spoiled})


CURVE = (
    "step,epoch,loss,learning_rate,grad_norm,eval_accuracy,eval_loss,eval_macro_f1\n"
    "10,0.5,0.7,0.001,0.5,,,\n20,1.0,0.5,0.0005,0.4,0.8,0.55,0.79\n40,2.0,0.3,0.0,0.3,0.9,0.35,0.89\n"
)


def trained(name="reviews.csv", labels=TWO):
    """Return a metrics.json as finetune writes it."""
    own = {"precision": 0.9, "recall": 0.9, "f1": 0.9, "support": 24.0}
    rows = {"kind": "file", "name": name, "rows": 48, "labels": dict.fromkeys(labels, 24)}
    return {
        "created": "2026-01-05T03:06:31+00:00",
        "labels": list(labels),
        "metrics": {
            "loss": 0.35,
            "accuracy": 0.9,
            "macro_f1": 0.89,
            "per_class": dict.fromkeys(labels, own),
            "majority_baseline": 0.5,
        },
        "base_model": {"kind": "hub", "name": name},
        "data": {"train": {**rows, "rows": 432}, "eval": rows},
        "hyperparameters": {"learning_rate": 2e-5, "epochs": 2},
        "training": {"steps": 40, "runtime_s": 75.0, "device": "cpu"},
        "versions": {"torch": "2.13.0"},
    }


def test_the_page_of_a_model():
    """The page of a fine-tuned model shows how it learned, its figures by label, its data and its
    settings.
    """
    reader = Reader(render_training(trained(), CURVE))
    for said in (
        "Fine-tuned from reviews.csv",
        "90.0% of 48 evaluation rows got the right label; always answering the commonest one "
        "would get 50.0%.",
        "1 min 15 s",
        "Loss",
        "Learning rate",
        "NEGATIVE",
        "2e-05",
    ):
        assert said in reader.text
    assert reader.elements.count("svg") == 3 + 2 + 2 + 2  # charts, their legends' lines, bars


def test_the_page_of_a_model_is_inert_too():
    """Hostile names of files, models and labels are words on the page of a model."""
    page = render_training(trained(HOSTILE, (HOSTILE, "ok")), CURVE)
    assert set(Reader(page).elements) <= ELEMENTS
    assert not set(page.decode()) & set("\u202e\x1b\x07\r")


def test_a_long_training_makes_a_small_page():
    """A curve of 200,000 steps is thinned out to what a screen can show."""
    curve = "step,loss\n" + "".join(f"{i},{1 / i}\n" for i in range(1, 200_001))
    assert len(render_training(trained(), curve)) < 60_000


def test_what_was_measured_once_is_a_dot():
    """After one epoch the evaluation's loss is one point, and figures without a course have no
    empty chart.
    """
    curve = "step,loss,eval_loss,eval_accuracy\n1,0.7,,\n2,0.6,,\n2,,0.5,0.9\n"
    once = trained() | {"hyperparameters": {"epochs": 1}}
    reader = Reader(render_training(once, curve))
    assert reader.elements.count("circle") == 2  # in the chart and in its legend
    assert "Figures on the evaluation rows" not in reader.text
    assert "1 epoch" in reader.text
    assert "1 epochs" not in reader.text


@pytest.mark.parametrize("curve", ["", "step,loss\n", "step,loss\n1,\n"])
def test_a_model_without_a_curve_has_a_page(curve):
    """A training that logged nothing has a page without charts."""
    assert "How it learned" in Reader(render_training(trained(), curve)).text


def test_a_damaged_metrics_file_is_an_error():
    """A metrics.json that lacks its figures, or a curve that holds words, is refused."""
    with pytest.raises(InputError, match="damaged"):
        render_training({**trained(), "metrics": {}}, CURVE)
    with pytest.raises(InputError, match="damaged"):
        render_training(trained(), "step,loss\none,two\n")


def test_accuracy_against_coverage(scored):
    """Each threshold that sets rows aside is a dot, from all rows at the right to the surest at the
    left.
    """
    page = render(scored).decode()
    drawn = re.search(r'aria-label="Accuracy against coverage">(.*?)</svg>', page)[1]
    places = [float(x) for x in re.findall(r'<circle class="dot" cx="([^"]+)"', drawn)]
    rows = scored["evaluation"]["rows"]
    kept = {entry["rows"] for entry in scored["evaluation"]["coverage"]} - {rows, 0}
    assert len(places) == 1 + len(kept)
    assert places == sorted(places, reverse=True)
    assert places[0] == charts.WIDTH - charts.RIGHT
    words = re.findall(r">(0\.\d+)</text>", drawn.partition("<circle")[2])
    assert words == sorted(set(words))


def test_without_anything_to_set_aside_there_is_no_coverage_chart():
    """Where every score is above every threshold the table says so, and no chart is drawn."""
    tally = Tally(TWO, GoldRule.parse(TWO))
    tally.add(*small(["t"] * 4, [SCORED] * 4, gold=["pos"] * 4, p=(0.001, 0.999)))
    text = Reader(render(document(tally.sections()))).text
    assert "How right are the sure ones?" not in text
    assert "Only the sure ones" in text


def test_three_pages_share_one_head(scored):
    """Policy, style sheet and everything else of the head stand in one template."""
    made = [render(scored), render_comparison(scored, scored), render_training(trained(), CURVE)]
    heads = {re.sub(rb"<title>.*?</title>", b"", page.partition(b"<body>")[0]) for page in made}
    assert len(heads) == 1
    templates = template.FOLDER.glob("*.html")
    assert sum("<head>" in template.read_text() for template in templates) == 1


def test_the_contents_lead_to_every_section(scored):
    """Each section stands in the contents, in the order of the page; labels and quality first."""
    grouped = scored | {"outputs": [*scored["outputs"], GROUPS]}
    for run in (scored, grouped, {**scored, "evaluation": None}):
        reader = Reader(render(run))
        linked = [
            value[1:] for name, value in reader.attributes if name == "href" if value[0] == "#"
        ]
        sections = [value for name, value in reader.attributes if name == "id"]
        assert linked == sections
        assert sections[0] == "labels"
        assert ("quality" in sections) == (run["evaluation"] is not None)
        assert ("groups" in sections) == (run is grouped)
    assert sections[-1] == "origin"


def test_options_and_versions_are_folded_away(scored):
    """What only matters where something is wrong is there, but closed."""
    page = render(scored).decode()
    folded = re.findall(r"<details class=\"card\"><summary>(\w+)", page)
    assert {"Run", "Input", "Model", "Versions"} <= set(folded)
    assert "<details open" not in page


def test_states_that_no_row_is_in_are_a_sentence(scored):
    """Where every row has a score there is no table of zeros; else only states that occur."""
    text = Reader(render(scored)).text
    assert (
        "All 3,000 rows have a label and a score. None are blank (without text), rejected (could "
        "not be read) or nonfinite (the model gave no number)."
    ) in text
    assert "0.0%" not in text[text.index("Rows and files", 2_000) :]
    rows = {**scored["rows"], "blank": 30, "read": 3_030}
    text = Reader(render({**scored, "rows": rows})).text
    assert "blank without text; kept, label and score empty 30 1.0%" in text
    assert "None are rejected (could not be read) or nonfinite (the model gave no number)." in text


GROUPS = {
    "role": "groups",
    "path": "out.groups.csv",
    "rows": 3,
    "bytes": 1_234,
    "column": "stars",
    "largest": [
        {
            "value": value,
            "rows": 40,
            "scored": 39,
            "shares": [0.25, 0.75],
            "mean_score": 0.8,
            "unsure": 3,
            "truncated": 0,
            "judged": 30,
            "accuracy": 0.9,
            "accuracy_interval": [0.744, 0.965],
        }
        for value in ("1", "", None)
    ],
}


def without_gold(group):
    """A group as a run without gold labels writes it."""
    judged = ("judged", "accuracy", "accuracy_interval")
    return {name: value for name, value in group.items() if name not in judged}


def test_groups_are_a_table(scored):
    """Every group has its rows, share, mean score and accuracy with its interval and a picture."""
    page = render(scored | {"outputs": [{"role": "data", "path": "out.csv"}, GROUPS]})
    text = Reader(page).text
    assert "1 40 0.800 3 75.0% 0.900 0.744–0.965 on 30 empty 40" in text
    assert "no value 40" in text
    assert '<a href="./out.groups.csv">' in page.decode()
    assert "The whole table: out.groups.csv" in text


CORRECTED = {
    "why_not": None,
    "hint": None,
    "held_out_rows": 1_000,
    "drift": {"distance": 0.034, "limit": 0.127},
    "labels": [
        {"label": "N", "counted": 0.17, "share": 0.1, "interval": [0.07, 0.13], "emq": 0.11},
        {"label": "<b>", "counted": 0.83, "share": 0.9, "interval": [0.87, 0.93], "emq": 0.89},
    ],
}


def test_corrected_shares_are_a_table(scored):
    """Counted and corrected share with interval and check; labels are inert; of groups too."""
    groups = [
        group | {"corrected_shares": [0.3, 0.7], "corrected_intervals": [[0.2, 0.4], [0.6, 0.8]]}
        for group in GROUPS["largest"]
    ]
    predictions = scored["predictions"] | {"corrected": CORRECTED, "expected_accuracy": 0.914}
    outputs = [{"role": "data", "path": "out.csv"}, GROUPS | {"largest": groups}]
    text = Reader(render(scored | {"predictions": predictions, "outputs": outputs})).text
    assert "<b> 83.0% 90.0% 0.870–0.930 89.0%" in text
    assert "(distance 0.034, at most 0.127)" in text
    assert "91.4%" in text
    assert "70.0% 0.600–0.800" in text


def test_a_page_says_why_no_share_is_corrected(scored):
    """With what to do; pages of older summaries say nothing."""
    why = CORRECTED | {"why_not": "the texts are odd", "hint": "label some", "labels": []}
    page = render(scored | {"predictions": scored["predictions"] | {"corrected": why}})
    text = Reader(page).text
    assert "mistakes: the texts are odd" in text
    assert "What to do: label some" in text
    new = ("corrected", "expected_accuracy")
    old = {name: value for name, value in scored["predictions"].items() if name not in new}
    assert "corrected" not in Reader(render(scored | {"predictions": old})).text


def test_groups_of_many_labels_name_the_commonest(scored):
    """Beyond three labels a group shows its commonest label and no accuracy it does not have."""
    shares = [0.1, 0.2, 0.4, 0.3]
    large = [without_gold(group) | {"shares": shares} for group in GROUPS["largest"]]
    outputs = [GROUPS | {"largest": large, "rows": 812}]
    model = scored["model"] | {"labels": list(FOUR)}
    text = Reader(render(scored | {"outputs": outputs, "model": model})).text
    assert "commonest label 1 40" in text
    assert f"{FOUR[2]} 40.0%" in text
    assert "The 3 largest of 812 groups, those with the most rows first." in text
    assert "accuracy" not in text[text.index("commonest label 1") : text.index("The 3 largest")]


@pytest.mark.parametrize(
    ("data", "other", "folder", "link"),
    [
        ("out.csv", "out.groups.csv", ".", "./out.groups.csv"),
        ("d/out.csv", "e/far.csv", ".", "./../e/far.csv"),
        ("/a/b/out.csv", "/a/far.csv", ".", "./../far.csv"),
        ("d/out.csv", "d/a b#?.csv", ".", "./a%20b%23%3F.csv"),
        ("out.csv", "javascript:alert(1)", ".", "./javascript%3Aalert%281%29"),
        ("out.csv", '"><script>', ".", "./%22%3E%3Cscript%3E"),
        ("out.csv", "far.csv", "../scored", "./../scored/far.csv"),
        ("/a/out.csv", "far.csv", ".", None),
        ("../out.csv", "far.csv", ".", None),
        ("out.csv", "far.csv", None, None),
    ],
)
def test_files_beside_the_page_are_links(data, other, folder, link):
    """Links are relative and escaped; where a file lies elsewhere by an unknown way there is none."""
    outputs = [{"role": "data", "path": data}, {"role": "disagreements", "path": other}]
    run = document(Rows(rows=5).tally().sections(), outputs=outputs)
    page = render(run, folder).decode()
    hrefs = [html.unescape(found) for found in re.findall(r'href="(\.[^"]*)"', page)]
    assert (link in hrefs) if link else not any("far" in href for href in hrefs)
    assert "disagreements" in page


def test_no_table_is_cut_on_a_phone(scored):
    """Every table scrolls in a box of its own; in one that stacks every figure has its name."""
    grouped = scored | {"outputs": [{"role": "data", "path": "out.csv"}, GROUPS]}
    for page in (render(grouped), render_comparison(scored, scored)):
        tables = re.findall(r"(.{20})<table([^>]*)>(.*?)</table>", page.decode(), re.DOTALL)
        assert len(tables) >= 2
        for before, kind, body in tables:
            assert before.endswith('<div class="scroll">')
            rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
            if "stack" not in kind:
                assert "matrix" in kind or max(row.count("<td") for row in rows) <= 4
                continue
            for row in rows[1:]:
                _first, *cells = re.findall(r"<td([^>]*)>(.*?)</td>", row, re.DOTALL)
                for attributes, content in cells:
                    assert "data-name" in attributes or not content or "<svg" in content


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 B"), (999, "999 B"), (351_630, "352 kB"), (12_300_000_000, "12.3 GB")],
)
def test_sizes_have_a_unit(number, said):
    """Bytes are shown with three digits."""
    assert template.size(number) == said


def test_options_in_advice_are_not_broken(scored):
    """An option stays on one line; what stands around it, and markup in it, is text."""
    said = template.unbroken("try --long-text or <b>-- x")
    assert said == ('try <span class="keep">--long-text</span> or &lt;b&gt;-- x')


def said_on_hover(page, element):
    """The words that the pointer finds in elements of this name."""
    return re.findall(rf"<{element}\b[^>]*><title>([^<]*)</title>", page)


def test_bars_and_points_say_their_figures_under_the_pointer(scored):
    """Every bar of a histogram has its range and rows, every point its figures and interval."""
    page = render(scored).decode()
    bars = said_on_hover(page, "g")
    edges = scored["predictions"]["score_histogram"]["edges"]
    for label in scored["predictions"]["labels"]:
        for low, high, rows in zip(edges, edges[1:], label["score_counts"], strict=False):
            if rows:
                said = f"{low:.4g} to {high:.4g}: {rows:,} row{'' if rows == 1 else 's'}"
                bars.remove(said)
    assert all(re.fullmatch(r"[\d,]+( to [\d,]+)? (characters|tokens): .*", bar) for bar in bars)
    evaluation = scored["evaluation"]
    low, high = evaluation["accuracy_interval"]
    assert (
        f"share of rows kept 1.000, accuracy among them {evaluation['accuracy']:.3f} "
        f"(95%: {low:.3f} to {high:.3f}), 3,000 rows"
    ) in said_on_hover(page, "circle")
    assert "recall 1.000, precision 0." in said_on_hover(page, "path")[-1]


def test_points_of_several_curves_say_whose_they_are():
    """Where curves share a chart, each point begins with the label of its curve."""
    page = render(document(Rows(FOUR).tally().sections())).decode()
    spots = said_on_hover(page, "path")
    assert {said.split(":")[0] for said in spots} == set(FOUR)
    assert len(spots) <= 2 * (charts.MOST_SPOTS + len(FOUR))


@pytest.mark.parametrize("most", [1, 2, 5, 7, 10, 99, 1_234, 5_000_000])
def test_axes_have_round_counts(most):
    """An axis of counts has a few ticks at whole, round numbers, whatever the counts."""
    chart = charts.histogram([most, 0, 1], [], title="t", x_title="x")
    words = re.findall(r'text-anchor="end">([^<]+)</text>', chart)
    assert words[0] == "0"
    assert 2 <= len(words) <= 6
    assert all(re.fullmatch(r"\d+|[\d.]+[kMG]", word) for word in words)
