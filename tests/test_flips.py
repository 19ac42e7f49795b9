"""Two scored files of the same rows: which labels changed, what that means, and what is refused."""

import csv
import io
import json
import os
import subprocess
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchsent.commands.batch import batch
from batchsent.commands.compare import compare
from batchsent.errors import GateFailed, InputError, OutputError, UsageError
from batchsent.evaluation.flips import MOST_GROUPS, OTHERS, Flips, mcnemar
from batchsent.formats import ReadOptions
from batchsent.formats.scored_rows import ScoredFile, side_by_side
from batchsent.terminal.flips import show_flips
from tests.hash_model import HashModels

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e"


def counted(rows, **settings):
    """Count (old, new, old score, new score, group, gold) rows."""
    flips = Flips(
        group_by="product" if settings.get("group") else None, gold=settings.get("gold", False)
    )
    old, new, old_scores, new_scores, groups, gold = zip(*rows, strict=True)
    flips.add(
        old,
        new,
        np.array(old_scores, np.float32),
        np.array(new_scores, np.float32),
        groups if settings.get("group") else None,
        gold if settings.get("gold") else None,
    )
    return flips.document()


ROWS = [
    # old, new, old score, new score, group, gold
    ("P", "P", 0.99, 0.98, "tea", "P"),
    ("P", "N", 0.55, 0.60, "tea", "P"),
    ("N", "P", 0.95, 0.51, "cup", "P"),
    ("N", "N", 0.70, 0.80, "cup", "P"),
    ("N", "N", 0.90, 0.90, None, None),
    ("P", "N", 0.65, 0.70, "cup", "N"),
    (None, "P", float("nan"), 0.9, "cup", "P"),
    ("P", None, 0.9, float("nan"), "cup", "P"),
    (None, None, float("nan"), float("nan"), "cup", "P"),
]


def test_flips_by_hand():
    """Three of six rows with a label on both sides changed it; one was sure before."""
    document = counted(ROWS)
    assert document["rows"] == {
        "read": 9,
        "compared": 6,
        "flipped": 3,
        "sure_flipped": 1,
        "label_lost": 1,
        "label_gained": 1,
    }
    assert document["flips"] == 0.5
    assert [(d["old"], d["new"], d["rows"]) for d in document["directions"]] == [
        ("P", "N", 2),
        ("N", "P", 1),
    ]
    assert document["directions"][0]["mean_old_score"] == pytest.approx(0.6)
    assert document["directions"][0]["mean_new_score"] == pytest.approx(0.65)


def test_how_far_scores_moved():
    """Of two labels p(P) counts on every row that has a label in both files, also where the label
    changed; of more labels only rows that keep theirs tell.
    """
    change = counted(ROWS)["score_change"]
    # p(P): 0.99 to 0.98, 0.55 to 0.40, 0.05 to 0.51, 0.30 to 0.20, 0.10 to 0.10, 0.65 to 0.30
    assert (change["rows"], change["all_rows"]) == (6, True)
    assert change["mean"] == pytest.approx((0.01 + 0.15 + 0.46 + 0.1 + 0 + 0.35) / 6, abs=1e-6)
    assert change["p50"] == pytest.approx(0.1, rel=1e-3)
    assert change["max"] == pytest.approx(0.46, abs=1e-6)
    change = counted([*ROWS, ("neither", "P", 0.4, 0.8, None, None)])["score_change"]
    assert (change["rows"], change["all_rows"]) == (3, False)
    assert change["mean"] == pytest.approx((0.01 + 0.1 + 0) / 3, abs=1e-6)
    out = io.StringIO()
    show_flips(counted(ROWS) | {"flipped_rows": None}, out)
    assert "0.1783" in out.getvalue()


def test_shares_move_by_what_left_and_joined():
    """Of six rows P had three and has two, N the rest; the noise is that of three coins."""
    negative, positive = counted(ROWS)["labels"]
    assert (positive["a"], positive["b"]) == (0.5, 2 / 6)
    assert (positive["left"], positive["joined"]) == (2, 1)
    assert negative["change"] == pytest.approx(1 / 6)
    assert positive["noise"] == pytest.approx(1.96 * 3**0.5 / 6, rel=1e-4)


def test_bands_are_of_the_old_score():
    """A score of exactly 0.9 counts from 0.9 up, also as the float32 that a file holds."""
    bands = {band["from"]: (band["rows"], band["flipped"]) for band in counted(ROWS)["bands"]}
    assert bands == {
        0.0: (0, 0),
        0.5: (1, 1),
        0.6: (1, 1),
        0.7: (1, 0),
        0.8: (0, 0),
        0.9: (1, 0),
        0.95: (1, 1),
        0.99: (1, 0),
    }


def test_groups_with_most_flips_come_first():
    """Rows without a value are a group; what is not compared is in none."""
    groups = counted(ROWS, group=True)["groups"]
    assert groups["column"] == "product"
    assert [(g["group"], g["rows"], g["flipped"]) for g in groups["shown"]] == [
        ("cup", 3, 2),
        ("tea", 2, 1),
        (None, 1, 0),
    ]


def test_groups_are_bounded():
    """Beyond the cap rows are counted together, none is lost."""
    flips, rows = Flips(group_by="id"), MOST_GROUPS + 10
    scores = np.full(rows, 0.6, np.float32)
    flips.add(["P"] * rows, ["N"] * rows, scores, scores, [str(n) for n in range(rows)])
    groups = flips.document()["groups"]
    assert groups["count"] == MOST_GROUPS
    assert groups["shown"][-1] == {"group": OTHERS, "rows": 10, "flipped": 10, "flips": 1.0}


def test_against_gold():
    """Rows with a gold label and a label on both sides are judged: one newly wrong, two newly right."""
    document = counted(ROWS, gold=True)
    gold = document["gold"]
    assert (gold["rows"], gold["newly_wrong"], gold["newly_right"]) == (5, 1, 2)
    assert gold["accuracy_old"] == pytest.approx(2 / 5)
    assert gold["accuracy_new"] == pytest.approx(3 / 5)
    assert document["gates"]["accuracy_drop"] == pytest.approx(-1 / 5)


def test_few_pairs_are_tested_exactly():
    """The p value is that of scipy's two-sided binomial test, for every pair of small counts."""
    from scipy.stats import binomtest

    for pairs in range(25):
        for wrong in range(pairs + 1):
            found = mcnemar(wrong, pairs - wrong)
            assert found["method"] == "exact binomial"
            expected = binomtest(wrong, pairs, 0.5).pvalue if pairs else 1.0
            assert found["p"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("wrong", "right"), [(0, 25), (12, 13), (13, 13), (40, 60), (300, 200), (5_000, 4_800)]
)
def test_many_pairs_are_tested_by_chi_square(wrong, right):
    """The p value is that of scipy's chi-square distribution, with Edwards' correction."""
    from scipy.stats import chi2

    found = mcnemar(wrong, right)
    statistic = max(abs(wrong - right) - 1, 0) ** 2 / (wrong + right)
    assert found["statistic"] == pytest.approx(statistic)
    assert found["p"] == pytest.approx(chi2.sf(statistic, 1), rel=1e-9)


LABELS = st.sampled_from([None, "a", "b", "c"])
SCORES = st.floats(0, 1, width=32)


@settings(deadline=None)  # the first example imports scikit-learn
@given(
    st.lists(
        st.tuples(LABELS, LABELS, SCORES, SCORES, st.sampled_from(["x", "y", None]), LABELS),
        min_size=1,
        max_size=40,
    ),
    st.integers(1, 40),
)
def test_figures_are_those_of_scikit_learn_and_do_not_depend_on_chunks(rows, cut):
    """Accuracies and the table of changes are scikit-learn's; two chunks give what one gives."""
    from sklearn.metrics import accuracy_score, confusion_matrix

    whole = counted(rows, group=True, gold=True)
    flips = Flips(group_by="product", gold=True)
    for part in (rows[:cut], rows[cut:]):
        if part:
            old, new, old_scores, new_scores, groups, gold = zip(*part, strict=True)
            scores = [np.array(values, np.float32) for values in (old_scores, new_scores)]
            flips.add(old, new, *scores, groups, gold)
    assert json.dumps(flips.document()) == json.dumps(whole)

    both = [row for row in rows if row[0] and row[1]]
    assert whole["rows"]["compared"] == len(both)
    if both:
        names = ["a", "b", "c"]
        table = confusion_matrix([r[0] for r in both], [r[1] for r in both], labels=names)
        changed = {(d["old"], d["new"]): d["rows"] for d in whole["directions"]}
        for i, before in enumerate(names):
            for j, after in enumerate(names):
                if i != j:
                    assert changed.get((before, after), 0) == table[i, j]
    judged = [row for row in both if row[5]]
    assert whole["gold"]["rows"] == len(judged)
    if judged:
        truth = [row[5] for row in judged]
        for side, name in ((0, "accuracy_old"), (1, "accuracy_new")):
            expected = accuracy_score(truth, [row[side] for row in judged])
            assert whole["gold"][name] == pytest.approx(expected)


def test_nothing_to_compare_fails_every_gate():
    """A gate does not pass because no row has a label; every figure is there or null."""
    document = counted([(None, None, float("nan"), float("nan"), None, None)], gold=True)
    assert document["verdict"] == "no row has a label in both files"
    assert document["gates"]["flips"] is None
    assert document["gates"]["mcnemar_p"] is None
    json.dumps(document, allow_nan=False)


@pytest.fixture
def reviews(tmp_path):
    """A dump of 500 reviews with gold labels and products."""
    path = tmp_path / "reviews.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "product", "gold"])
        for n in range(500):
            text = "" if n % 50 == 7 else f'review "{n}",\r\n{"long " * (n % 13)}'
            writer.writerow([f"{n:04}", text, f"product {n % 4}", ["neg", "pos"][n % 2]])
    return path


@pytest.fixture
def pair(reviews, tmp_path):
    """The dump scored, and the same with the labels of every tenth scored row changed."""
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    batch(reviews, old, models=HashModels())
    with old.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for n, row in enumerate(rows):
        if n % 10 == 3 and row["label"]:
            row["label"] = {"POSITIVE": "NEGATIVE", "NEGATIVE": "POSITIVE"}[row["label"]]
            row["score"] = "0.5"
    with new.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return old, new


def test_two_scored_files(pair):
    """Fifty rows changed, as they were made to; the blank ones have no label on either side."""
    document = compare(*pair, gold="gold", group_by="product")
    assert document["rows"]["read"] == 500
    assert document["rows"]["compared"] == 490
    assert document["rows"]["flipped"] == 50
    assert document["old"]["path"] == str(pair[0])
    assert sum(group["flipped"] for group in document["groups"]["shown"]) == 50
    assert document["gold"]["newly_wrong"] + document["gold"]["newly_right"] == 50
    assert compare(pair[0], pair[0])["verdict"] == "no label changed"


@pytest.mark.parametrize(("old_rows", "new_rows"), [(7, 50), (50, 7), (1, 500), (500, 3), (64, 64)])
def test_files_that_are_cut_elsewhere_stay_in_step(pair, old_rows, new_rows):
    """Chunks of the first file come with the same rows of the second, wherever that was cut."""
    with (
        closing(ScoredFile(str(pair[0]), ReadOptions(chunk_rows=old_rows), "", {})) as old,
        closing(ScoredFile(str(pair[1]), ReadOptions(chunk_rows=new_rows), "", {})) as new,
    ):
        rows = 0
        for chunk, first, second in side_by_side(old, new):
            assert chunk.start_row == first.start_row == second.start_row == rows
            assert first.texts == second.texts
            assert first.rows == len(second.labels) == len(second.scores)
            rows += first.rows
    assert rows == 500


@pytest.mark.parametrize("chunk_rows", [1, 7, 64])
def test_files_of_other_formats_are_compared(pair, tmp_path, chunk_rows):
    """CSV against Parquet: the same figures, however many rows are read at once."""
    expected = compare(*pair)
    table = {name: [] for name in ("id", "text", "product", "gold", "label", "score")}
    with pair[1].open(newline="") as file:
        for row in csv.DictReader(file):
            for name, values in table.items():
                values.append(row[name] or None)
    table["score"] = pa.array([s and float(s) for s in table["score"]], pa.float32())
    pq.write_table(pa.table(table), tmp_path / "new.parquet", row_group_size=90)
    for first, second in ((pair[0], tmp_path / "new.parquet"), (tmp_path / "new.parquet", pair[0])):
        found = compare(first, second, chunk_rows=chunk_rows)
        assert found["rows"] == {**expected["rows"], "sure_flipped": found["rows"]["sure_flipped"]}
    assert compare(pair[0], tmp_path / "new.parquet")["gates"] == expected["gates"]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "arrow"])
def test_the_rows_that_changed_are_written(pair, tmp_path, suffix):
    """Each with the columns of the old file untouched, its number and what the new file says."""
    target = tmp_path / f"flipped.{suffix}"
    document = compare(*pair, flips=target)
    assert document["flipped_rows"] == str(target)
    with pair[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = read(target)
    numbers = [int(number) for number in found["flip_row"]]
    assert numbers == [n + 1 for n in range(500) if n % 10 == 3 and rows[n]["label"]]
    for name in ("id", "text", "product", "label", "score"):
        assert [str(cell) for cell in found[name]] == [rows[n - 1][name] for n in numbers]
    assert [float(score) for score in found["new_score"]] == [0.5] * 50
    assert all(old != new for old, new in zip(found["label"], found["new_label"], strict=True))


def read(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pydict()
    if path.suffix == ".arrow":
        with pa.ipc.open_stream(path) as reader:
            return reader.read_all().to_pydict()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_the_table_of_changed_rows_is_whole_or_absent(fork_server, pair, tmp_path):
    """A file of that name is kept without --overwrite; a full disk leaves none."""
    target = tmp_path / "flipped.csv"
    done = subprocess.run(
        [fork_server.python, "-m", "batchsent", "compare", *pair, "--flips", target],
        env=os.environ | {"BATCHSENT_FAULT": "write:1:enospc"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == OutputError.exit_code
    assert "no space left on device" in done.stderr
    assert not [path for path in tmp_path.iterdir() if "flipped" in path.name]
    target.write_text("mine")
    with pytest.raises(UsageError, match=r"flipped\.csv exists already"):
        compare(*pair, flips=target)
    for path in pair:
        with pytest.raises(UsageError, match="is the file that is read"):
            compare(*pair, flips=path, overwrite=True)
    compare(*pair, flips=target, overwrite=True)
    assert target.read_text().startswith("id,text,product,gold,label,score,flip_row")
    with pytest.raises(UsageError, match="--html and --flips are the same file"):
        compare(*pair, flips=tmp_path / "x.csv", html=tmp_path / "x.csv")


def changed(path, target, row, **cells):
    """Copy a CSV with one row changed, or without it."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if cells:
        rows[row] |= cells
    else:
        del rows[row:]
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return target


@pytest.mark.parametrize("chunk_rows", [1, 100, 8192])
def test_rows_that_are_not_the_same_are_refused(pair, tmp_path, chunk_rows):
    """Another text is named by its row; so is the end of the shorter file, whichever it is."""
    other = changed(pair[1], tmp_path / "other.csv", 321, text="another review")
    with pytest.raises(InputError, match=r"row 322: the text of .*old\.csv differs"):
        compare(pair[0], other, chunk_rows=chunk_rows)
    short = changed(pair[1], tmp_path / "short.csv", 400)
    with pytest.raises(InputError, match=r"short\.csv ends after row 400, .*old\.csv does not"):
        compare(pair[0], short, chunk_rows=chunk_rows)
    with pytest.raises(InputError, match=r"short\.csv ends after row 400, .*old\.csv does not"):
        compare(short, pair[0], chunk_rows=chunk_rows)


def test_a_refused_comparison_leaves_no_table(pair, tmp_path):
    """Rows written before the difference was met are not left behind."""
    other = changed(pair[1], tmp_path / "other.csv", 321, text="another review")
    with pytest.raises(InputError):
        compare(pair[0], other, flips=tmp_path / "flipped.csv", chunk_rows=50)
    assert not [path for path in tmp_path.iterdir() if "flipped" in path.name]


def test_one_scored_file_and_one_summary_are_refused(pair):
    """The message says which is which."""
    summary = f"{pair[0]}.summary.json"
    for first, second in ((pair[0], summary), (summary, pair[0])):
        with pytest.raises(UsageError, match=r"old\.csv is a scored file and .*json is not"):
            compare(first, second)


@pytest.mark.parametrize(
    "options", [{"gold": "gold"}, {"group_by": "product"}, {"flips": "f.csv"}, {"prefix": "p_"}]
)
def test_summaries_have_no_rows_to_count(pair, options):
    """Options that need rows are refused for two summaries, not left out."""
    summary = f"{pair[0]}.summary.json"
    name = next(iter(options)).replace("_", "-")
    with pytest.raises(UsageError, match=f"--{name} requires two scored files"):
        compare(summary, summary, **options)


def test_gates(pair):
    """A condition that holds ends with 8 and carries the document; others pass."""
    assert compare(*pair, fail_on=["flips>11%", "labels_lost>0"])
    with pytest.raises(GateFailed, match=r"flips is 0\.102041: flips>1%") as caught:
        compare(*pair, fail_on=["flips>1%"])
    assert caught.value.document["rows"]["flipped"] == 50
    with pytest.raises(GateFailed, match="accuracy_drop could not be computed"):
        compare(*pair, fail_on=["accuracy_drop>0.01"])


def test_a_misspelt_gate_is_refused_before_anything_is_read(tmp_path):
    """The files need not even be there."""
    with pytest.raises(UsageError, match="no figure 'flip'"):
        compare(tmp_path / "no.csv", tmp_path / "no.csv", fail_on=["flip>1%"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gold": "golden"}, "no column called golden"),
        ({"group_by": "produkt"}, "did you mean --group-by product"),
        ({"prefix": "p_"}, "--prefix"),
        ({"gold_map": "a=POSITIVE"}, "--gold-map requires --gold"),
        ({"text_column": "body"}, "no column called body"),
    ],
)
def test_columns_that_are_not_there_are_refused(pair, options, message):
    """By name, with the nearest one."""
    with pytest.raises(UsageError) as caught:
        compare(*pair, **options)
    assert message in str(caught.value)


def test_gold_values_are_read_by_a_mapping(pair):
    """What is left out by the mapping is not judged."""
    document = compare(*pair, gold="gold", gold_map="pos=POSITIVE,neg=")
    assert document["gold"]["rows"] == sum(1 for n in range(500) if n % 2 and n % 50 != 7)


def test_gold_without_a_single_label_is_refused(pair, tmp_path):
    """A column of other values, or of blanks, says nothing of which model is right."""
    with pytest.raises(InputError, match="no row has a gold label in gold"):
        compare(*pair, gold="gold", gold_map="nothing=POSITIVE", flips=tmp_path / "flips.csv")
    assert not (tmp_path / "flips.csv").exists()


def test_a_comparison_on_a_terminal(pair):
    """What changed, in tables that fit 80 columns, and one sentence at the end."""
    stream = io.StringIO()
    document = compare(*pair, gold="gold", group_by="product")
    show_flips(document, stream)
    text = stream.getvalue()
    for said in ("POSITIVE to NEGATIVE", "product 3", "McNemar p", "50 of 490 labels changed"):
        assert said in text
    assert max(map(len, text.splitlines()[:-1])) <= 80


def test_hostile_labels_and_groups_are_words(tmp_path):
    """Neither the terminal nor the page obeys what a label or a group holds."""
    names = {}
    for side, label in (("old", HOSTILE), ("new", "ok")):
        names[side] = tmp_path / f"{side}.csv"
        with names[side].open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([("text", "kind", "label", "score"), ("a", HOSTILE, label, "0.9")])
    page = tmp_path / "page.html"
    document = compare(names["old"], names["new"], group_by="kind", html=page)
    stream = io.StringIO()
    show_flips(document, stream)
    assert not set(stream.getvalue()) & set("\x1b\u202e")
    assert b"<script" not in page.read_bytes()


def test_the_page(pair, tmp_path):
    """Verdict, gates, shares, directions, scores, groups and accuracies are on it."""
    page = tmp_path / "page.html"
    with pytest.raises(GateFailed):
        compare(*pair, gold="gold", group_by="product", html=page, fail_on=["flips>1%"])
    text = page.read_text()
    for said in (
        "50 of 490 labels changed",
        "Gate failed:",
        "Shares of the labels",
        "Which labels changed",
        "By the old score",
        "product 3",
        "McNemar",
        "10.20%",
    ):
        assert said in text
    compare(pair[0], pair[0], html=page, fail_on=["flips>1%"])
    assert "No label changed" in page.read_text()
    assert "All gates passed: flips&gt;1%" in page.read_text()
