"""Labelled reviews as people have them: formats, label spellings, star ratings, gaps, duplicates."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchsent.errors import InputError, UsageError
from batchsent.formats import ReadOptions
from batchsent.training.examples import Examples, Table, hold_out, sample, select_examples
from batchsent.training.labels import decide_labels
from batchsent.training.read_labelled import is_file, read_dataset, read_file

ROWS = [
    ("007", "A fine film.", "pos"),
    ("008", "NA", "neg"),
    ("009", 'He said "no",\nand left.', "neg"),
    ("010", "Ünïcode ✓ null", "pos"),
]


def table(cells, texts=None):
    """Return a table of the given label cells."""
    return Table("reviews.csv", texts or [f"text {i}" for i in range(len(cells))], cells, {})


def write_csv(path, delimiter=",", opener=open):
    """Write ROWS with every field quoted."""
    lines = [delimiter.join(("id", "text", "label"))]
    lines += [delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in ROWS]
    with opener(path, "wt", encoding="utf-8", newline="") as file:
        file.write("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    "name", ["r.csv", "r.tsv", "r.csv.gz", "r.jsonl", "r.jsonl.gz", "r.parquet"]
)
def test_every_format_gives_the_same_rows(tmp_path, name):
    """NA is a text, quoted newlines stay, and a label is what the file says, whatever the file's
    format.
    """
    path = tmp_path / name
    opener = gzip.open if name.endswith(".gz") else open
    if "jsonl" in name:
        with opener(path, "wt", encoding="utf-8") as file:
            file.writelines(
                json.dumps({"id": i, "text": t, "label": label}) + "\n" for i, t, label in ROWS
            )
    elif name.endswith(".parquet"):
        pq.write_table(
            pa.table(dict(zip(("id", "text", "label"), zip(*ROWS, strict=True), strict=True))), path
        )
    else:
        write_csv(path, "\t" if name == "r.tsv" else ",", opener)
    read = read_file(str(path), ReadOptions(), None)
    assert list(read.texts) == [text for _, text, _ in ROWS]
    assert list(read.cells) == [label for *_, label in ROWS]
    assert read.facts["columns"] == ["text", "label"]
    assert len(read.facts["sha256"]) == 64


def test_columns_can_be_named(tmp_path):
    """Any two columns serve as text and label."""
    path = tmp_path / "r.csv"
    path.write_text("opinion,stars\nlovely,9\nawful,2\n")
    read = read_file(str(path), ReadOptions(text_column="opinion"), "stars")
    assert (list(read.texts), list(read.cells)) == (["lovely", "awful"], ["9", "2"])


def test_a_missing_label_column_is_refused_with_the_columns(tmp_path):
    """Without an obvious label column the error lists what there is and says which option to use."""
    path = tmp_path / "r.csv"
    path.write_text("text,stars\nlovely,9\n")
    with pytest.raises(UsageError, match="text, stars") as caught:
        read_file(str(path), ReadOptions(), None)
    assert "--label-column" in caught.value.hint
    with pytest.raises(UsageError, match="no column called starz") as caught:
        read_file(str(path), ReadOptions(), "starz")
    assert "stars" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a", "label": 1}\n{"text": ', "line 2: not a JSON object"),
        ('{"text": "a", "label": 1}\n\n["a"]\n', "line 3: not a JSON object"),
        (
            '{"text": "a", "label": 1}\n{"text": 5, "label": 1}\n',
            "line 2: the member text is a num",
        ),
    ],
)
def test_broken_json_lines_are_named(tmp_path, content, message):
    """A line that is no JSON object with a text is an error with its number."""
    path = tmp_path / "r.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_file(str(path), ReadOptions(), None)


def test_half_characters_in_json_do_not_stop_the_tokenizer(tmp_path):
    """A lone surrogate, which JSON can hold and UTF-8 cannot, becomes U+FFFD."""
    path = tmp_path / "r.jsonl"
    path.write_text(
        '{"text": "odd \\ud83d end", "label": 0}\n{"text": "smile \\ud83d\\ude00", "label": 1}\n'
    )
    read = read_file(str(path), ReadOptions(), None)
    found = select_examples(read, decide_labels(read, None, None, None))
    assert found.texts == ["odd \ufffd end", "smile \N{GRINNING FACE}"]


@pytest.mark.parametrize(
    ("cells", "names", "numbers"),
    [
        ([0, 1, 1], ["NEGATIVE", "POSITIVE"], [0, 1, 1]),
        (["0", "1", "1"], ["NEGATIVE", "POSITIVE"], [0, 1, 1]),
        ([1.0, 0.0], ["NEGATIVE", "POSITIVE"], [1, 0]),
        ([True, False], ["NEGATIVE", "POSITIVE"], [1, 0]),
        (["true", "false"], ["NEGATIVE", "POSITIVE"], [1, 0]),
        (["0.0", "1.0"], ["NEGATIVE", "POSITIVE"], [0, 1]),
        (["pos", "neg"], ["NEGATIVE", "POSITIVE"], [1, 0]),
        (["Positive", "negative ", "NEGATIVE"], ["NEGATIVE", "POSITIVE"], [1, 0, 0]),
        (["neutral", "pos", "neg"], ["NEGATIVE", "NEUTRAL", "POSITIVE"], [1, 2, 0]),
        (["spam", "ham"], ["ham", "spam"], [1, 0]),
        ([1, 2], ["1", "2"], [0, 1]),
        (["10", "9", "8"], ["8", "9", "10"], [2, 1, 0]),
        ([3.0, 1.0, 2.0], ["1", "2", "3"], [2, 0, 1]),
    ],
)
def test_usual_labels_need_no_option(cells, names, numbers):
    """0/1, neg/pos and their like become NEGATIVE and POSITIVE.

    Other values are classes as they are, sorted.
    """
    rows = table(cells)
    rule = decide_labels(rows, None, None, None)
    assert list(rule.labels) == names
    assert select_examples(rows, rule).labels == numbers


def test_labels_can_be_named():
    """--labels names the classes 0, 1, 2."""
    rows = table([2, 0, 1])
    rule = decide_labels(rows, "bad,so-so,good", None, None)
    assert list(rule.labels) == ["bad", "so-so", "good"]
    assert select_examples(rows, rule).labels == [2, 0, 1]


def test_values_can_be_mapped():
    """--label-map says what values mean; an empty right side leaves them out, counted."""
    rows = table(["thumbs up", "thumbs down", "unsure", "thumbs up"])
    rule = decide_labels(rows, None, "thumbs down=NEGATIVE,thumbs up=POSITIVE,unsure=", None)
    found = select_examples(rows, rule)
    assert list(rule.labels) == ["NEGATIVE", "POSITIVE"]
    assert found.labels == [1, 0, 1]
    assert found.facts["left_out"] == {"without_label": 0, "outside_rule": 1, "without_text": 0}


def test_stars_become_classes_and_the_middle_is_left_out():
    """1-4 and 7-10 stars are classes; 5 and 6 are left out and counted."""
    rows = table(["1", "4", "5", "6", "7", "10", ""])
    found = select_examples(rows, decide_labels(rows, None, None, "1-4:NEGATIVE,7-10:POSITIVE"))
    assert found.texts == ["text 0", "text 1", "text 4", "text 5"]
    assert found.labels == [0, 0, 1, 1]
    assert found.facts["left_out"] == {"without_label": 1, "outside_rule": 2, "without_text": 0}


def test_rows_without_text_are_left_out():
    """Null, empty and white texts teach nothing; they are counted."""
    rows = table([0, 1, 0, 1, 0], ["good", None, "", " \n", "bad"])
    found = select_examples(rows, decide_labels(rows, None, None, None))
    assert found.texts == ["good", "bad"]
    assert found.facts["left_out"]["without_text"] == 3


def test_a_label_that_the_rule_does_not_know_is_refused():
    """A value that is none of the classes ends the run with the value and its count, not with fewer
    rows.
    """
    rule = decide_labels(table(["pos", "neg"]), None, None, None)
    with pytest.raises(
        UsageError,
        match=r"2 rows have labels that are not one of NEGATIVE, POSITIVE: 'mixed' \(2\)",
    ):
        select_examples(table(["pos", "mixed", "mixed"]), rule)


@pytest.mark.parametrize(
    ("cells", "options", "message"),
    [
        (["pos", "pos"], (None, None, None), "only one class: POSITIVE"),
        ([None, ""], (None, None, None), "no label at all"),
        ([str(i) for i in range(500)], (None, None, None), "500 different values"),
        ([0, 1], ("A", None, None), "only one class: A"),
        ([0, 1], ("A,A", None, None), "empty or repeated names"),
        ([0, 1], ("A,,B", None, None), "empty or repeated names"),
        ([0, 1], (None, "0>NEGATIVE", None), "cannot read"),
        ([0, 1], (None, None, "1-4=NEGATIVE,5:POSITIVE"), "cannot read"),
        ([0, 1], (None, None, "1-4:NEGATIVE,3-5:POSITIVE"), "overlap"),
    ],
)
def test_label_rules_that_cannot_work_are_refused(cells, options, message):
    """One class, too many classes and rules that say nothing are refused before anything is loaded."""
    with pytest.raises(UsageError, match=message):
        decide_labels(table(cells), *options)


@pytest.mark.parametrize(
    ("cells", "rule"),
    [
        ([1, 2, 3, 4, 7, 8, 9, 10], "1-4:NEGATIVE,7-10:POSITIVE"),
        ([str(stars) for stars in range(1, 11)], "1-4:NEGATIVE,7-10:POSITIVE"),
        ([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0], "0.5-2:NEGATIVE,3.5-5:POSITIVE"),
    ],
)
def test_ratings_without_a_rule_are_refused_with_the_rule_to_add(cells, rule):
    """Ten stars are no ten classes: the rule that the error proposes works, and so do named
    classes.
    """
    rows = table(cells)
    with pytest.raises(UsageError, match=f"{len(cells)} different numbers, from") as caught:
        decide_labels(rows, None, None, None)
    assert f"--stars {rule}, or" in caught.value.hint
    found = select_examples(rows, decide_labels(rows, None, None, rule))
    assert set(found.labels) == {0, 1}
    names = caught.value.hint.partition("--labels ")[2]
    assert len(decide_labels(rows, names, None, None).labels) == len(cells)


def test_four_numbers_and_words_with_numbers_are_classes():
    """Up to four numbers are classes, and so are more values where one of them is a word."""
    for cells in ([1, 2, 3, 4], ["1", "2", "3", "4", "5", "6", "none"]):
        rule = decide_labels(table(cells), None, None, None)
        assert list(rule.labels) == [str(cell) for cell in cells]


def test_five_stars_require_a_rule():
    """It is made from the values; classes that are named are trained."""
    with pytest.raises(UsageError, match="5 different numbers, from 1 to 5") as caught:
        decide_labels(table([1, 2, 3, 4, 5]), None, None, None)
    assert caught.value.hint.startswith("add --stars 1-2:NEGATIVE,4-5:POSITIVE")
    rule = decide_labels(table([1, 2, 3, 4, 5]), "1,2,3,4,5", None, None)
    assert list(rule.labels) == ["1", "2", "3", "4", "5"]


def test_a_file_of_a_spreadsheet_is_trained_on(tmp_path):
    """--delimiter and --encoding are batch's, and invalid bytes are told as batch tells them."""
    path = tmp_path / "reviews.csv"
    path.write_bytes("text;label\nschön;pos\nübel;neg\n".encode("cp1252"))
    found = read_file(str(path), ReadOptions(delimiter=";", encoding="cp1252"), None)
    assert (found.texts, found.cells) == (["schön", "übel"], ["pos", "neg"])
    assert not found.warnings
    (warning,) = read_file(str(path), ReadOptions(delimiter=";"), None).warnings
    assert "not valid utf-8" in warning["message"]


def test_the_sample_is_that_of_the_notebook():
    """The sample is what datasets.Dataset.shuffle(seed=42).select(range(n)) gives."""
    import datasets

    texts = [f"text {i}" for i in range(100)]
    expected = (
        datasets.Dataset.from_dict({"text": texts}).shuffle(seed=42).select(range(7))["text"][:]
    )
    assert sample(Examples(texts, [0] * 100, {}), 7, seed=42).texts == expected
    # A row that may not be taken is replaced by the next in line; the others stay.
    allowed = [i for i in range(100) if texts[i] != expected[2]]
    without = sample(Examples(texts, [0] * 100, {}), 7, seed=42, rows=allowed).texts
    assert without[:6] == expected[:2] + expected[3:]
    assert len(without) == 7


@pytest.mark.parametrize(
    ("counts", "misspelled", "meant"),
    [
        ({"positive": 60, "negative": 50, "postive": 3}, "postive", "positive"),
        ({"Positive": 6, "negative": 5, "negatve": 5}, "negatve", "negative"),
        ({"spam": 100, "ham": 90, "spamm": 2}, "spamm", "spam"),
    ],
)
def test_a_typing_error_in_a_label_is_told(counts, misspelled, meant):
    """A rare value that is nearly a frequent one, or a usual label, is refused with the mapping
    that mends it.
    """
    cells = [value for value, count in counts.items() for _ in range(count)]
    with pytest.raises(
        UsageError, match=f"'{misspelled}' .* looks like a typing error of '{meant}'"
    ) as caught:
        decide_labels(table(cells), None, None, None)
    mapping = caught.value.hint.split("'")[1]
    assert f"{misspelled}={meant}" in mapping
    rule = decide_labels(table(cells), None, mapping, None)
    assert len(set(select_examples(table(cells), rule).labels)) == 2
    assert len(decide_labels(table(cells), ",".join(counts), None, None).labels) == 3


@pytest.mark.parametrize(
    "counts",
    [
        {"good": 10, "goods": 9},
        {"1 star": 100, "2 stars": 3, "3 stars": 2},
        {"class_1": 100, "class_2": 1},
        {"very positive": 100, "positive": 90, "negative": 1},
    ],
)
def test_names_that_are_alike_are_no_typing_errors(counts):
    """Names in like numbers, numbered names, and names with a word more are classes of their own."""
    cells = [value for value, count in counts.items() for _ in range(count)]
    assert set(decide_labels(table(cells), None, None, None).labels) == set(counts)


def test_a_label_that_is_nearly_one_of_the_named_is_told():
    """Values that --labels or --label-map do not cover come with the name that was probably meant."""
    with pytest.raises(UsageError, match="not one of NEGATIV, POSITIVE") as caught:
        select_examples(
            table(["negative", "positive"]),
            decide_labels(table([]), "NEGATIV,POSITIVE", None, None),
        )
    assert "'negative' is nearly 'NEGATIV'; say what they mean" in caught.value.hint


@given(
    labels=st.lists(st.integers(0, 2), min_size=12, max_size=60).filter(
        lambda drawn: all(drawn.count(n) > 1 for n in drawn)
    ),
    share=st.floats(0.05, 0.6),
    seed=st.integers(0, 5),
)
@settings(deadline=None, max_examples=60)
def test_the_held_out_share_has_every_class(labels, share, seed):
    """Held-out rows and training rows share the input between them, with each class on both sides."""
    whole = Examples([f"text {i}" for i in range(len(labels))], labels, {})
    train, held = hold_out(whole, share, seed)
    assert sorted(train.texts + held.texts) == sorted(whole.texts)
    assert set(train.labels) == set(held.labels) == set(labels)
    for label in set(labels):
        assert held.labels.count(label) == min(
            max(1, round(share * labels.count(label))), labels.count(label) - 1
        )
    assert hold_out(whole, share, seed)[1].texts == held.texts


def test_copies_of_a_text_are_held_out_together():
    """A review that occurs five times is not learned by heart on one side and measured on the
    other.
    """
    texts = [f"text {i % 8}" for i in range(40)]
    train, held = hold_out(Examples(texts, [i % 2 for i in range(40)], {}), 0.25, seed=1)
    assert not set(train.texts) & set(held.texts)
    assert len(held.texts) == 10


def test_a_class_with_one_text_cannot_be_held_out():
    """A class that would be on one side only is refused with what to do."""
    with pytest.raises(UsageError, match="single text") as caught:
        hold_out(Examples(["a", "b", "c"], [0, 0, 1], {}), 0.1, seed=1)
    assert "--eval" in caught.value.hint


def test_the_hash_tells_texts_and_labels_apart():
    """The hash of the rows changes with any text, label or order, and not with how they were read."""
    base = Examples(["ab", "c"], [0, 1], {})
    others = [
        Examples(["a", "bc"], [0, 1], {}),
        Examples(["ab", "c"], [1, 0], {}),
        Examples(["c", "ab"], [1, 0], {}),
    ]
    assert len({rows.sha256() for rows in [base, *others]}) == 4
    assert Examples(["ab", "c"], [0, 1], {"name": "elsewhere"}).sha256() == base.sha256()


def test_a_folder_of_data_files_is_a_data_set(tmp_path, monkeypatch):
    """A folder with train and test files is loaded like a data set of the Hub, class numbers by
    their names.
    """
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["ham", "spam"])}
    )
    folder = tmp_path / "mails"
    folder.mkdir()
    data = datasets.Dataset.from_dict(
        {"text": ["x", "y", "z"], "label": [1, 0, -1]}, features=features
    )
    data.to_parquet(folder / "train.parquet")
    data.to_parquet(folder / "test.parquet")
    assert not is_file(str(folder))
    read, splits = read_dataset(
        str(folder),
        config=None,
        revision=None,
        split="train[:100%]",
        reading=ReadOptions(),
        label_column=None,
    )
    assert list(read.cells) == ["spam", "ham", None]
    assert splits == ["train", "test"]
    assert read.facts["name"] == "mails"
