"""The summary document: its schema, its JSON, its warnings."""

import io
import json
import subprocess
import sys
from importlib import resources
from pathlib import PurePosixPath

import jsonschema
import numpy as np
import pytest
from rich.console import Console

from batchsent.chunk import BLANK, NONFINITE, SCORED
from batchsent.commands.batch import batch
from batchsent.errors import InputError
from batchsent.evaluation import summary
from batchsent.evaluation.advice import advise, warning
from batchsent.evaluation.gold import GoldRule
from batchsent.evaluation.tally import Tally
from batchsent.pages.report import render
from batchsent.terminal import summaries
from batchsent.text import elapsed, printable
from batchsent.versions import SCORING, versions
from tests.scored_rows import FOUR, TWO, Rows, small
from tests.summaries import HOSTILE, document


@pytest.fixture(scope="module")
def scored():
    return document(Rows().tally(unsure_below=0.7).sections())


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(
        resources.files("batchsent.evaluation").joinpath("summary.schema.json").read_bytes()
    )
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("labels", [(), ("only",), TWO, FOUR])
@pytest.mark.parametrize("gold", [False, True])
@pytest.mark.parametrize("rows", [0, 40])
def test_every_summary_is_valid(validator, labels, gold, rows):
    """With and without rows, gold and labels, a summary agrees with the schema that is shipped."""
    tally = (
        Rows(labels, rows=rows).tally(gold=gold)
        if labels
        else Tally((), GoldRule.parse(()) if gold else None)
    )
    validator.validate(json.loads(summary.dumps(document(tally.sections()))))


def test_a_device_is_described_by_what_the_bits_depend_on(validator):
    """Capability, PyTorch and CUDA of a GPU, its warnings, and the texts that were run again."""
    device = {
        "name": "cuda:0",
        "description": "NVIDIA H200",
        "capability": "9.0",
        "torch": "2.13.0+cu130",
        "cuda": "13.0",
        "warnings": ["scoring is slow"],
        "nonfinite_retried": 1,
    }
    validator.validate(document(Tally(TWO).sections(), device=device))
    validator.validate(
        document(Tally(TWO).sections(), device=device | {"capability": None, "cuda": None})
    )


def test_a_failed_run_has_a_valid_summary(validator):
    """A run that failed before it had a model writes a summary with its error."""
    failed = summary.build(
        status="failed",
        exit_code=6,
        run={},
        package=versions(SCORING),
        input={},
        outputs=[],
        model={},
        device={},
        tally_sections=Tally(()).sections(),
        performance={},
        error={"message": "no model", "hint": "name a folder"},
    )
    validator.validate(failed)
    assert "no model" in summaries.line(failed)


def test_the_schema_is_strict(validator, scored):
    """A section too much, a figure misspelt or a share above 1 is against the schema."""
    assert validator.is_valid(scored)
    for spoil in (
        lambda d: d.update(extra=1),
        lambda d: d["rows"].update(raed=1),
        lambda d: d["evaluation"].update(accuracy=1.5),
        lambda d: d["evaluation"].pop("mcc"),
        lambda d: d["evaluation"]["accuracy_interval"].append(1),
        lambda d: d["outputs"][0].update(sha256="short"),
        lambda d: d["device"].update(capability="new"),
        lambda d: d["device"].update(nonfinite_retried=-1),
    ):
        spoilt = json.loads(summary.dumps(scored))
        spoil(spoilt)
        assert not validator.is_valid(spoilt)


def test_written_and_read_back(tmp_path, scored):
    """What is written is read back equal, to the last digit."""
    path = tmp_path / "out.summary.json"
    path.write_bytes(summary.dumps(scored))
    assert summary.read(path) == scored


def test_strict_json():
    """NaN and infinity become null, numpy numbers and paths become JSON's types, the rest is
    refused.
    """
    content = summary.dumps(
        {
            "nan": float("nan"),
            "inf": np.float64("-inf"),
            "half": np.float32(0.5),
            "count": np.int64(3),
            "list": np.array([1.0, np.nan]),
            "path": PurePosixPath("a/b"),
            "pair": (1, 2),
            "empty": {},
        }
    )
    values = json.loads(content, parse_constant=pytest.fail)
    assert list(values.values()) == [None, None, 0.5, 3, [1.0, None], "a/b", [1, 2], {}]
    with pytest.raises(TypeError, match="bytes"):
        summary.dumps({"a": b"x"})


def test_summary_is_safe_to_print():
    """A summary is ASCII without control characters: a hostile name cannot reach the terminal
    through cat.
    """
    content = summary.dumps({HOSTILE: [HOSTILE, "\udc80", "評論"]})
    assert content.endswith(b"\n")
    assert all(byte == 10 or 32 <= byte < 127 for byte in content)
    assert json.loads(content) == {HOSTILE: [HOSTILE, "\udc80", "評論"]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"id,text\n1,good\n", "not JSON"),
        (b'{"schema": NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a summary"),
        (b'{"schema": "other/1"}', "not a summary"),
        (b'{"schema": "batchsent.summary/9"}', "another version"),
        (b'{"schema": "batchsent.summary/1"}', "lacks the section"),
    ],
)
def test_what_is_no_summary_is_refused(tmp_path, content, said):
    """A file that is not a summary is named, with what was expected."""
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        summary.read(path)
    assert "x.json" in caught.value.message
    assert caught.value.hint


def test_a_section_of_the_wrong_type_is_refused(tmp_path, scored):
    """A summary whose rows are not an object is no summary."""
    path = tmp_path / "x.json"
    path.write_bytes(summary.dumps({**scored, "rows": []}))
    with pytest.raises(InputError, match="lacks the section 'rows'"):
        summary.read(path)


def test_a_missing_file_is_an_input_error(tmp_path):
    """A summary that is not there is said so in one line."""
    with pytest.raises(InputError, match="No such file"):
        summary.read(tmp_path / "none.json")


def test_versions_import_nothing_heavy():
    """Versions are told without importing torch or transformers."""
    code = (
        "import sys; from batchsent.versions import SCORING, versions; found = versions(SCORING);"
        "assert found['torch'][0].isdigit() and found['python'].startswith('3.'), found;"
        "assert not {'torch', 'transformers', 'evaluate', 'sklearn', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def codes(sections):
    """Return the codes of the warnings that sections call for."""
    return [found["code"] for found in advise(sections)]


def test_an_ordinary_run_has_no_warnings():
    """Nothing is said where nothing needs a hand."""
    rows = Rows(rows=1_000)
    rows.cut[:] = 0
    assert codes(rows.tally().sections()) == []


def test_truncated_texts_are_a_warning():
    """Many texts that the model did not read to the end are worth a word, with the share."""
    (found,) = advise(Rows(rows=1_000).tally().sections())
    assert found["code"] == "truncated"
    assert "% of the texts are longer than the model reads" in found["message"]


@pytest.mark.parametrize(
    ("long_text", "proposed"),
    [
        ("head", "try --long-text head-tail, or window"),
        ("head-tail", "try --long-text window"),
        ("tail", "try --long-text window"),
        (None, "try --long-text head-tail, or window"),
    ],
)
def test_advice_never_proposes_what_is_in_use(long_text, proposed):
    """A run that reads head-tail is not told to try head-tail."""
    (found,) = advise(Rows(rows=1_000).tally().sections(), {"long_text": long_text})
    assert found["hint"].startswith(proposed)


def test_float32_is_not_proposed_to_a_run_in_float32():
    """Rows without a number get other advice where float32 gave none, by itself or as a retry."""
    tally = Tally(TWO)
    tally.add(*small(["a", "b"], [SCORED, NONFINITE]))
    hints = [
        advise(tally.sections(), {"precision": used})[0]["hint"] for used in ("int8", "float32")
    ]
    assert hints == [
        "score with --precision float32",
        "use another copy of the model: this one has no number in float32 either",
    ]


def test_rows_without_score_are_a_warning():
    """Blank, rejected and non-finite rows are named with their counts."""
    tally = Tally(TWO)
    tally.add(*small(["a", None, "b"], [SCORED, BLANK, NONFINITE]))
    tally.reject(2)
    assert codes(tally.sections()) == ["nonfinite", "rejected", "blank"]


def test_one_label_for_all_rows_is_a_warning():
    """A hundred rows with one and the same label look like a wrong column or model."""
    tally = Tally(TWO)
    tally.add(*small(["a"] * 100, [SCORED] * 100))
    assert codes(tally.sections()) == ["one_label"]


def test_labels_upside_down_are_a_warning():
    """Gold values that mean the opposite are noticed: accuracy below the majority, scores far off."""
    rows = Rows(rows=500)
    rows.cut[:] = 0
    rows.gold = [TWO[1 - i] for i in rows.y]
    assert codes(rows.tally().sections()) == ["below_majority", "calibration"]


def test_gold_that_matches_nothing_is_a_warning():
    """A gold column in other words is never silently an accuracy of 0."""
    tally = Tally(TWO, GoldRule.parse(TWO))
    tally.add(*small(["a"] * 3, [SCORED] * 3, gold=["gut", "schlecht", "gut"]))
    assert codes(tally.sections()) == ["unmatched_gold", "no_gold"]


def test_warnings_of_the_run_come_first():
    """What the run itself warns of stands before what the figures tell."""
    sections = Rows(rows=1_000).tally().sections()
    built = document(sections, warnings=[warning("fallback", "no GPU", "use --device cpu")])
    assert [found["code"] for found in built["warnings"]] == ["fallback", "truncated"]


def shown(built, **console):
    """Return what a terminal of 100 columns gets."""
    stream = io.StringIO()
    summaries.show(built, Console(file=stream, width=100, **console) if console else stream)
    return stream.getvalue()


def test_a_dozen_lines_for_a_person(scored):
    """The end of a run fits a glance: rows, time, labels, scores, text, accuracy, model, output."""
    lines = shown(scored, force_terminal=False).splitlines()
    assert 9 <= len(lines) <= 16
    text = "\n".join(lines)
    for said in (
        "3,000 of 3,000 rows scored",
        "3 min 12 s, 17 rows/s while scoring, 1,000 rows from an earlier run",
        "POSITIVE",
        "macro F1",
        "models/mini, float32, cpu",
        "scored.csv",
        f"accuracy  {scored['evaluation']['accuracy']:.4f}",
    ):
        assert said in text
    assert "\x1b" not in text


def test_what_the_sure_rows_are_worth(scored):
    """With --unsure-below and gold labels the end of a run says how right the rest is."""
    (own,) = [entry for entry in scored["evaluation"]["coverage"] if entry["score_at_least"] == 0.7]
    assert f"{own['accuracy']:.4f} of the {own['share']:.1%} with a score of 0.7 or more" in shown(
        scored
    )
    assert "with a score of" not in shown(document(Rows().tally().sections()))


def test_one_plain_line_for_a_log(scored):
    """A log gets one line without escapes or line breaks."""
    said = summaries.line(scored)
    assert said.isprintable()
    assert said.startswith(
        "complete: 3,000 of 3,000 rows scored; 3 min 12 s, 17 rows/s while scoring"
    )
    assert said.endswith("1 warning; scored.csv")


def test_the_start_is_told_apart_from_the_scoring(scored):
    """Rows by seconds is not the speed that is shown: the line says what the start took."""
    started = scored | {
        "performance": scored["performance"] | {"seconds": {"check": 2, "load": 10}}
    }
    said = "3 min 12 s (12.0 s of it to check and load), 17 rows/s while scoring"
    assert said in summaries.line(started)
    assert said in shown(started)


def test_hostile_names_are_shown_as_they_are():
    """Labels, paths and messages cannot write markup, escapes or bidirectional overrides to the
    terminal.
    """
    rows = Rows((HOSTILE, "ok"), rows=50)
    built = document(
        rows.tally().sections(),
        outputs=[{"path": HOSTILE}],
        model={"source": HOSTILE},
        warnings=[warning("w", HOSTILE, HOSTILE)],
        error={"message": HOSTILE, "hint": HOSTILE},
    )
    for text in (
        shown(built),
        shown(built, force_terminal=True, color_system=None),
        summaries.line(built),
    ):
        assert "[red]" in text
        assert ":smile:" in text
        assert "\u202e" not in text
        assert "\r" not in text
        assert "\x07" not in text
    assert "\x1b]" not in shown(built, force_terminal=True)


def test_ascii_terminals_get_ascii():
    """Where the terminal cannot show blocks, bars are drawn with plain characters."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    summaries.show(document(Rows().tally().sections()), stream)
    stream.flush()
    assert b"####" in stream.buffer.getvalue()


def test_many_labels_are_cut_short():
    """With forty labels the commonest are shown and the others counted."""
    text = shown(
        document(Rows(tuple(f"label {i}" for i in range(40)), rows=400).tally().sections())
    )
    assert "and 34 more labels" in text
    assert len(text.splitlines()) < 22


def test_of_several_inputs_those_that_failed_are_a_line_each():
    """The end of a folder of dumps names what needs a look, and the whole: the files that went well
    were named when they were done.
    """
    rows = Tally(TWO).rows() | {"read": 5, "scored": 5}
    files = [
        {"input": "a", "output": "a.csv", "status": "complete", "exit_code": 0, "rows": rows},
        {"input": "b", "output": "b.csv", "status": "complete", "exit_code": 3, "rows": rows},
        {
            "input": HOSTILE,
            "output": HOSTILE,
            "status": "failed",
            "exit_code": 4,
            "rows": None,
            "error": {"message": f"bad {HOSTILE}", "hint": None},
        },
        {"input": "c", "output": "c.csv", "status": "up_to_date", "exit_code": 0, "rows": None},
    ]
    files = [{"error": None} | file for file in files]
    whole = {"status": "complete_with_errors", "exit_code": 3, "rows": rows, "files": files}
    text = shown(whole)
    assert "complete  b.csv  5 of 5 rows scored" in text
    assert "failed    [red]" in text
    assert "a.csv" not in text
    assert "c.csv" not in text
    assert not set(text) & set("\x1b\x07\u202e\r")
    line = summaries.line(whole)
    assert line == f"1 of 4 files failed ({printable(HOSTILE)}); 5 of 5 rows scored"
    many = whole | {"files": [files[2] | {"input": name} for name in "abcde"]}
    assert summaries.line(many).startswith("5 of 5 files failed (a, b, c and 2 more); ")
    changed = whole | {"files": [files[0] | {"change": "grown"}]}
    assert summaries.line(changed).startswith("1 of 1 files changed meanwhile (a); ")
    fine = whole | {"status": "complete", "files": [files[0]]}
    assert summaries.line(fine) == "complete: 1 file; 5 of 5 rows scored"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (59.97, "1 min 0 s"),
        (192.4, "3 min 12 s"),
        (7_199.7, "2 h 0 min"),
    ],
)
def test_durations(seconds, said):
    """Durations are said in the two units that matter."""
    assert elapsed(seconds) == said


def test_texts_as_groups_are_not_in_the_summary(validator, tmp_path, tiny_model):
    """Grouped by the reviews themselves, the summary names no group: it holds no review text."""
    source, output = tmp_path / "reviews.csv", tmp_path / "out.csv"
    source.write_text("id,text\n1,I loved this movie\n")
    written = batch(source, output, model=str(tiny_model), group_by="text")
    validator.validate(json.loads(summary.dumps(written)))
    assert "loved" not in json.dumps(written)


def test_the_summary_of_a_real_run(validator, tmp_path, tiny_model):
    """What a run writes beside its output agrees with the schema, is read back, and has a page."""
    source, output = tmp_path / "reviews.csv", tmp_path / "out.csv"
    source.write_text("id,text,gold\n1,I loved this movie,pos\n2,,neg\n3,awful boring film,bad\n")
    beside = {"group_by": "id", "disagreements": str(tmp_path / "far.csv")}
    returned = batch(source, output, model=str(tiny_model), gold="gold", unsure_below=0.6, **beside)
    written = summary.read(tmp_path / "out.csv.summary.json")
    assert written == json.loads(summary.dumps(returned))
    validator.validate(written)
    assert written["rows"]["scored"] == 2
    assert [(found["role"], found["rows"]) for found in written["outputs"]] == [
        ("data", 3),
        ("groups", 3),
        ("disagreements", len((tmp_path / "far.csv").read_text().splitlines()) - 1),
    ]
    assert [group["judged"] for group in written["outputs"][1]["largest"]] == [1, 0, 0]
    assert written["evaluation"]["gold"]["unmatched_values"] == [{"value": "bad", "count": 1}]
    busy = written["performance"]["device_busy_share"]
    assert busy == 1.0  # there was one batch
    assert b"The device ran a batch for 100.0% of the time" in render(written)
    assert b"Scores of reviews.csv" in render(written)


def trusted(**changes):
    """A run whose model has a temperature and held-out rows."""
    corrected = {
        "why_not": None,
        "hint": None,
        "held_out_rows": 1_000,
        "drift": {"distance": 0.03, "limit": 0.1},
        "labels": [
            {"label": "NEGATIVE", "counted": 0.2, "share": 0.1, "interval": [0, 0.2], "emq": 0.1},
            {"label": "POSITIVE", "counted": 0.8, "share": 0.9, "interval": [0.8, 1], "emq": 0.9},
        ],
    }
    built = document(Rows().tally().sections())
    built["predictions"] |= {"expected_accuracy": 0.914, "corrected": corrected | changes}
    return built


def test_a_corrected_share_and_the_expected_accuracy_are_lines(validator):
    """Of two labels the second says both; what they are from stands beside them."""
    built = trusted()
    validator.validate(built)
    stream = io.StringIO()
    summaries.show(built, Console(file=stream, width=100))
    words = " ".join(stream.getvalue().split())
    assert "corrected POSITIVE 90.0% (80.0 to 100.0), by the errors on 1,000 held-out rows" in words
    assert "expected accuracy 0.914" in words


def test_a_failed_drift_check_is_a_line_with_what_to_do(validator):
    """Where the texts are of another kind; a model without held-out rows adds no line."""
    built = trusted(labels=[], why_not="the texts are odd", hint="label some")
    validator.validate(built)
    stream = io.StringIO()
    summaries.show(built, Console(file=stream, width=100))
    assert "no share is corrected: the texts are odd" in stream.getvalue()
    assert "label some" in stream.getvalue()
    built = trusted(labels=[], why_not="no held_out.json", hint="label some", drift=None)
    validator.validate(built)
    stream = io.StringIO()
    summaries.show(built, Console(file=stream, width=100))
    assert "corrected" not in stream.getvalue()
