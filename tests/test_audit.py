"""Accuracy and shares of a dump from a few labels: the estimator, its coverage, and the command."""

import csv
import importlib.util
import io
import json
from pathlib import Path

import numpy as np
import pytest

from batchsent.cli import cli
from batchsent.commands.audit import audit
from batchsent.commands.evaluate import evaluate
from batchsent.commands.sample import sample
from batchsent.errors import GateFailed, InputError, UsageError
from batchsent.evaluation.audit import Design, labels_alone, prediction_powered
from batchsent.evaluation.gold import GoldRule
from batchsent.evaluation.quality import interval
from batchsent.formats import ReadOptions
from batchsent.terminal.audit import show_audit

LABELS = ("NEGATIVE", "POSITIVE")
RULE = GoldRule.parse(LABELS)


@pytest.fixture(scope="module")
def simulation():
    """The script that simulates audits, as a module."""
    path = Path(__file__).parents[1] / "examples" / "audit_coverage.py"
    spec = importlib.util.spec_from_file_location("audit_coverage", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("accuracy", [0.75, 0.92, 0.96])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_intervals_hold_the_truth_95_times_of_100(simulation, share, accuracy):
    """Of 2,000 audits of 200 labels each 93 to 97 % hold the accuracy, and as many the share.

    The estimates themselves are right on average.
    """
    simulated = simulation.Simulation(share, accuracy)
    for estimates, truth in (
        (simulated.of_accuracy(), simulated.accuracy),
        (simulated.of_share(), simulated.share),
    ):
        assert 0.93 <= simulation.coverage(estimates, truth) <= 0.97
        assert np.mean([entry.value for entry in estimates]) == pytest.approx(truth, abs=0.002)


@pytest.mark.parametrize("sharpness", [0.4, 3.0])
def test_a_model_that_is_wrongly_sure_costs_width_not_truth(simulation, sharpness):
    """Scores that are no probabilities do not make the interval wrong."""
    simulated = simulation.Simulation(0.3, 0.85, sharpness=sharpness)
    assert 0.93 <= simulation.coverage(simulated.of_accuracy(), simulated.accuracy) <= 0.97
    assert 0.93 <= simulation.coverage(simulated.of_share(), simulated.share) <= 0.97


def test_the_models_word_narrows_the_interval(simulation):
    """The share from 200 labels and the model is known as well as from 800 labels alone."""
    simulated = simulation.Simulation(0.5, 0.92)
    powered = simulation.width(simulated.of_share())
    alone = simulation.width(simulated.of_labels_alone())
    assert powered < 0.5 * alone
    # What 200 rows drawn without any strata would give, by Wilson.
    low, high = interval(100, 200)
    assert alone == pytest.approx(high - low, rel=0.1)


def test_one_stratum_is_the_estimator_of_the_paper():
    """Without strata it is the mean prediction plus the mean rectifier, with the rectifier's
    variance (Angelopoulos et al. 2023, section 2.1), for a dump so large that its mean is known.
    """
    random = np.random.default_rng(3)
    gold, said = (random.random((2, 300)) < 0.4).astype(float)
    design = Design(np.array([10**12]), np.zeros(300, dtype=np.int64))
    (found,) = prediction_powered(0.4, (gold - said)[None], design, np.array([9]))
    assert found.value == pytest.approx(0.4 + (gold - said).mean())
    variance = (gold - said).var(ddof=1) / 300 + 0.25 / 300**2
    half = 1.959963984540054 * variance**0.5
    # Wilson's interval of so many rows is that of the normal distribution, but for its centre.
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.02)


def test_the_stratified_mean_by_hand():
    """Two strata of 60 and 40 rows: 0.6 times the mean of one and 0.4 times that of the other."""
    design = Design(np.array([60, 40]), np.array([0, 0, 1, 1]))
    differences = np.array([[0.0, 1.0, 0.0, 0.0]])
    (found,) = prediction_powered(0.2, differences, design, np.array([1]))
    assert found.value == pytest.approx(0.2 + 0.6 * 0.5)
    (alone,) = labels_alone(np.array([[1.0, 1.0, 0.0, 1.0]]), design)
    assert alone.value == pytest.approx(0.6 * 1 + 0.4 * 0.5)


def test_when_every_row_is_labelled_nothing_is_unsure():
    """The interval of a whole census is a point."""
    design = Design(np.array([2, 2]), np.array([0, 0, 1, 1]))
    (found,) = prediction_powered(0.5, np.array([[0.0, 1.0, 0.0, 0.0]]), design, np.array([1]))
    assert (found.low, found.value, found.high) == (0.75, 0.75, 0.75)


def test_a_stratum_without_labels_joins_its_neighbour():
    """Its rows stay in the dump, with the weight of the stratum beside it."""
    design = Design(np.array([50, 30, 20, 10]), np.array([0, 0, 2, 2, 2, 3])).joined()
    assert design.rows.tolist() == [80, 30]
    assert design.stratum.tolist() == [0, 0, 1, 1, 1, 1]
    assert Design(np.array([5, 9]), np.array([1, 1])).joined().rows.tolist() == [14]
    assert design.weights.sum() == pytest.approx(1)


ROWS = 400


def write_dump(path, *, rows=ROWS, changed=()):
    """A scored dump: every tenth label is wrong, and its score is low."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "truth", "label", "score"])
        for n in range(rows):
            if n % 40 == 39:
                writer.writerow([n, "", "", "", ""])
                continue
            truth = LABELS[n % 3 == 0]
            wrong = n % 10 == 5
            label = LABELS[(n % 3 == 0) != wrong]
            text = f"other {n}" if n in changed else f"review {n}"
            writer.writerow([n, text, truth, label, 0.6 if wrong else 0.95 + (n % 5) / 100])
    return path


@pytest.fixture
def dump(tmp_path):
    return write_dump(tmp_path / "scored.csv")


@pytest.fixture
def labelled(dump, tmp_path):
    """A sample of 100 rows with every label typed in."""
    path = tmp_path / "to_label.csv"
    sample(dump, path, rows=100)
    return fill_in(path)


def fill_in(path, *, label=lambda row: row["truth"], keep=lambda row: True, delimiter=","):
    """Type labels into a sample, and save it as a spreadsheet would."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["audit_gold"] = label(row)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(row for row in rows if keep(row))
    return path


def damage(path, row, column, cell):
    """Write another cell into one row of a sample."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[row][column] = cell
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def audited(dump, labelled, rule=RULE, **options):
    return audit(str(dump), str(labelled), ReadOptions(), rule, **options)


def test_the_audit_of_a_dump(dump, labelled):
    """Figures of the whole dump, their intervals around the truth, beside those of the labels."""
    document = audited(dump, labelled)
    section = document["audit"]
    assert document["rows"] == {"read": 400, "scored": 390}
    assert section["labelled"] == section["drawn"] == 100
    low, high = section["accuracy"]["interval"]
    assert low < 1 - 40 / 390 < high
    negative, positive = section["labels"]
    assert negative["value"] + positive["value"] == pytest.approx(1)
    assert positive["predicted"] == pytest.approx(positive_share(dump, "label"))
    assert positive["interval"][0] < positive_share(dump, "truth") < positive["interval"][1]
    alone = positive["labels_alone"]["interval"]
    assert positive["interval"][1] - positive["interval"][0] < alone[1] - alone[0]
    assert positive["worth_labels"] > 100


def positive_share(path, column):
    with path.open(newline="") as file:
        cells = [row[column] for row in csv.DictReader(file) if row["label"]]
    return cells.count("POSITIVE") / len(cells)


def test_a_spreadsheet_may_have_saved_the_labels(dump, labelled):
    """Semicolons, a byte order mark, 12.0 for 12, another order of rows: the same audit."""
    expected = audited(dump, labelled)["audit"]
    text = fill_in(labelled, delimiter=";").read_text()
    header, *lines = text.splitlines()
    columns = header.split(";")
    place = columns.index("audit_row")
    changed = []
    for line in reversed(lines):
        fields = line.split(";")
        fields[place] += ".0"
        changed.append(";".join(fields))
    labelled.write_text("\n".join([header, *changed]) + "\n", encoding="utf-8-sig")
    assert audited(dump, labelled)["audit"] == expected


@pytest.mark.parametrize(
    "options", [{"delimiter": "^"}, {"quotechar": "'"}, {"escapechar": "\\"}, {"skip_lines": 1}]
)
def test_a_sample_in_the_dialect_of_the_dump_is_read(dump, tmp_path, options):
    """A sample that nobody saved anew has the delimiter, quotes and first lines of its dump."""
    other, drawn = tmp_path / "other.csv", tmp_path / "drawn.csv"
    quote = options.get("quotechar", '"')
    with dump.open(newline="") as file, other.open("w", newline="") as target:
        target.write("# a dump\n" * options.get("skip_lines", 0))
        writer = csv.writer(target, delimiter=options.get("delimiter", ","), quotechar=quote)
        for number, row in enumerate(csv.reader(file)):
            text = row[1] and f"{row[1]}, it says"
            writer.writerow([row[0], text if number else row[1], *row[2:]])
    sample(other, drawn, rows=50, **options)
    document = audit(str(other), str(drawn), ReadOptions(**options), RULE, gold="truth")
    assert document["audit"]["labelled"] == 50


def test_blank_labels_are_counted_and_their_strata_stand_in(dump, labelled):
    """Rows left blank are no mistakes and no hits; a warning says what is assumed of them."""
    fill_in(labelled, label=lambda row: "" if int(row["audit_row"]) % 4 == 0 else row["truth"])
    document = audited(dump, labelled)
    section = document["audit"]
    assert section["blank"] + section["labelled"] == 100
    assert section["blank"] > 10
    low, high = section["accuracy"]["interval"]
    assert low < 1 - 40 / 390 < high
    assert document["warnings"][0]["code"] == "audit_unlabelled"


def test_rows_taken_out_of_the_sample_are_like_blank_ones(dump, labelled):
    """A few removed rows leave their stratum's others; the dump's rows stay all there."""
    kept = fill_in(labelled, keep=lambda row: int(row["audit_row"]) % 7 != 0)
    document = audited(dump, kept)
    section = document["audit"]
    low, high = section["accuracy"]["interval"]
    assert low < 1 - 40 / 390 < high
    assert section["drawn"] == 100
    assert section["removed"] == 100 - section["labelled"] > 5
    assert document["warnings"][0]["code"] == "audit_unlabelled"
    assert f"{section['removed']} of them were removed" in document["warnings"][0]["message"]


@pytest.mark.parametrize("column", ["audit_row", "audit_stratum", "audit_stratum_rows"])
@pytest.mark.parametrize("cell", ["", "0", "nan", "inf", "9223372036854775808", "1_1", "-3", "1.5"])
def test_a_damaged_number_is_refused_with_its_row(dump, labelled, column, cell):
    """However large it is, and wherever it stands."""
    damage(labelled, 6, column, cell)
    with pytest.raises(InputError, match=rf"row 7: {column} .* is not a whole number from 1"):
        audited(dump, labelled)


@pytest.mark.parametrize("cell", ["", "nan", "0", "100000", "many"])
def test_a_damaged_weight_is_refused_with_its_row(dump, labelled, cell):
    """It says how many rows were drawn, so it must be one that sample can have written."""
    damage(labelled, 6, "audit_weight", cell)
    with pytest.raises(InputError, match=r"row 7: audit_weight .* is not a number from 1 to"):
        audited(dump, labelled)


def test_a_stratum_taken_out_is_refused(dump, labelled):
    """Nothing is known of its rows, so the figures of the whole dump cannot be told."""
    fill_in(labelled, keep=lambda row: row["audit_stratum"] != "1")
    with pytest.raises(InputError, match=r"hold \d+ rows, but 390 rows") as caught:
        audited(dump, labelled)
    assert "keep every row" in caught.value.hint


def test_labels_may_be_used_for_another_model(dump, labelled, tmp_path):
    """The same rows scored anew need no new labels."""
    anew = tmp_path / "anew.csv"
    with dump.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["label"], row["score"] = (row["truth"], 0.9) if row["label"] else ("", "")
    with anew.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    document = audited(anew, labelled)
    assert document["audit"]["accuracy"]["mistakes"] == 0
    assert document["audit"]["accuracy"]["interval"][0] > 0.9
    assert "audit_few_mistakes" in {entry["code"] for entry in document["warnings"]}


def test_a_sample_of_another_dump_is_refused(labelled, tmp_path):
    """Other texts, fewer rows: the message names the row."""
    other = write_dump(tmp_path / "other.csv", changed=range(ROWS))
    with pytest.raises(InputError, match=r"drawn from another dump: its row \d+ does not have"):
        audited(other, labelled)
    short = write_dump(tmp_path / "short.csv", rows=60)
    with pytest.raises(InputError, match=r"drawn from another dump: it has row \d+"):
        audited(short, labelled)
    longer = write_dump(tmp_path / "longer.csv", rows=500)
    with pytest.raises(InputError, match=r"hold 390 rows, but \d+ rows of .*longer\.csv have"):
        audited(longer, labelled)


def test_a_mistyped_label_is_refused_with_its_row(dump, labelled):
    """It is neither a mistake of the model nor left out in silence."""
    with labelled.open(newline="") as file:
        third = list(csv.DictReader(file))[2]["id"]
    fill_in(labelled, label=lambda row: "POSITVE" if row["id"] == third else row["truth"])
    with pytest.raises(InputError, match="row 3: 'POSITVE' is not a label of the model"):
        audited(dump, labelled)
    assert audited(dump, labelled, GoldRule.parse(LABELS, "POSITVE="))["audit"]["left_out"] == 1


def test_too_few_labels_are_refused(dump, labelled):
    """Nine labels say nothing about a dump."""
    fill_in(labelled, label=lambda row: "")
    with pytest.raises(InputError, match="0 of 100 rows have a label in audit_gold"):
        audited(dump, labelled)


def test_what_is_no_sample_is_refused(dump, labelled, tmp_path):
    """A file without the columns of a sample, a repeated row, a changed number."""
    with pytest.raises(UsageError, match="is not a sample: it has no column audit_text"):
        audited(dump, dump)
    header, *lines = labelled.read_text().splitlines()
    labelled.write_text("\n".join([header, *lines, lines[0]]))
    with pytest.raises(InputError, match=r"audit_row \d+ is there twice"):
        audited(dump, labelled)
    place = header.split(",").index("audit_stratum_rows")
    fields = lines[4].split(",")
    fields[place] = "many"
    labelled.write_text("\n".join([header, *lines[:4], ",".join(fields)]))
    with pytest.raises(InputError, match="row 5: audit_stratum_rows 'many' is not a whole number"):
        audited(dump, labelled)


def test_another_column_may_hold_the_labels(dump, labelled):
    """--gold names it; what its cells mean is said as for evaluate."""
    assert audited(dump, labelled, gold="truth") == audited(dump, labelled)
    with pytest.raises(UsageError, match="no column called trut"):
        audited(dump, labelled, gold="trut")


def test_an_audit_on_a_terminal(dump, labelled):
    """The table fits 80 columns and shows both intervals of each figure."""
    stream = io.StringIO()
    document = audited(dump, labelled)
    show_audit(document, stream)
    text = stream.getvalue()
    low, high = document["audit"]["accuracy"]["interval"]
    assert f"{low:.1%} to {high:.1%}" in text
    assert "labels alone" in text
    assert max(map(len, text.splitlines())) <= 80


def evaluated(dump, labelled, **options):
    return evaluate(dump, audit=str(labelled), **options)


def test_evaluate_with_an_audit(dump, labelled):
    """`evaluate --audit` is the audit of the file's own labels, by the rule that it was given."""
    assert evaluated(dump, labelled) == audited(dump, labelled)
    fill_in(labelled, label=lambda row: row["truth"].lower()[:3])
    assert evaluated(dump, labelled)["audit"]["labelled"] == 100
    fill_in(labelled, label=lambda row: f"it is {row['truth']}")
    rule = "it is POSITIVE=POSITIVE,it is NEGATIVE=NEGATIVE"
    assert evaluated(dump, labelled, gold_map=rule)["audit"]["labelled"] == 100


def test_the_accuracy_of_an_audit_is_a_gate(dump, labelled):
    """Under its floor it ends with 8; a figure that an audit does not tell is under any floor."""
    assert evaluated(dump, labelled, fail_under=("accuracy=0.5",))
    with pytest.raises(GateFailed, match=r"accuracy is 0\.\d+, below 0.99") as caught:
        evaluated(dump, labelled, fail_under=("accuracy=0.99",))
    assert caught.value.document["audit"]["labelled"] == 100
    with pytest.raises(GateFailed, match="macro_f1 could not be computed"):
        evaluated(dump, labelled, fail_under=("macro_f1=0.1",))
    with pytest.raises(UsageError, match="no figure 'acuracy'"):
        evaluated("missing.csv", "missing.csv", fail_under=("acuracy=0.1",))


@pytest.mark.parametrize(
    "options",
    [{"model": "m"}, {"gold_stars": "stars"}, {"stars": "1:NEGATIVE"}, {"unsure_below": 0.5}],
)
def test_what_does_not_go_with_an_audit_is_refused(dump, labelled, options):
    """Rather than left out in silence."""
    with pytest.raises(UsageError, match="cannot be used with --audit"):
        evaluated(dump, labelled, **options)


def test_sample_and_audit_as_typed(dump, tmp_path, capsys):
    """The two commands print what they did; --json prints the documents."""

    def command(*words):
        return cli.main([str(word) for word in words], standalone_mode=False)

    drawn = tmp_path / "drawn.csv"
    assert command("sample", dump, "-n", "50", "-o", drawn) == 0
    assert f"50 of 390 scored rows are in {drawn}" in capsys.readouterr().out.replace("\n", " ")
    fill_in(drawn)
    assert command("evaluate", dump, "--audit", drawn) == 0
    assert "50 labelled rows of 50 drawn" in capsys.readouterr().out
    assert command("evaluate", dump, "--audit", drawn, "--json") == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "batchsent.audit/1"
