"""The page of a scoring run: what of its summary is shown, and how it is said."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batchsent.errors import UsageError
from batchsent.evaluation import gates
from batchsent.evaluation.examples import ShownExamples
from batchsent.evaluation.gold import accuracy_word
from batchsent.evaluation.summary import as_input_error
from batchsent.pages import axes, charts
from batchsent.pages.report_charts import length_charts, score_charts
from batchsent.pages.report_evaluation import evaluation_content
from batchsent.pages.report_examples import examples_content
from batchsent.pages.report_files import files_content
from batchsent.pages.report_groups import groups_content
from batchsent.pages.template import MOST_SHOWN_LABELS, bounds, count, cut, facts, moment, page
from batchsent.text import elapsed

# What can become of a row, in the words of the summary.
STATES = {
    "scored": "with a label and a score",
    "blank": "without text; kept, label and score empty",
    "rejected": "could not be read; left out of the output",
    "nonfinite": "the model gave no number; kept, label and score empty",
}

STAGES = ("check", "load", "reuse", "read", "tokenize", "score", "write")

Document = Mapping[str, Any]


def render(
    document: Document, folder: str | None = ".", examples: ShownExamples | None = None
) -> bytes:
    """Return the page of a summary, in UTF-8, with `examples` of rows where there are some.

    `folder` is that of the output as seen from the page, for links to the files in it; None for no
    links. Raises InputError for a summary whose figures are not what they should be.
    """
    with as_input_error():
        content = _content(document, folder)
        content |= examples_content(document, examples)
        sections = {"d": document, "e": document["evaluation"], "s": document.get("sentences")}
        return page("report.html", sections | content)


def _content(document: Document, folder: str | None) -> dict[str, Any]:
    predictions, evaluation = document["predictions"], document["evaluation"]
    ranked = sorted(predictions["labels"], key=lambda label: -label["count"])
    shown, hidden = predictions["labels"], ranked[MOST_SHOWN_LABELS:]
    if hidden:
        shown = ranked[:MOST_SHOWN_LABELS]
    source = document["input"].get("path")
    files, stages = files_content(document, folder), _stages(document)
    links = {file["role"]: file["link"] for file in files}
    groups = groups_content(document, links.get("groups"))
    content: dict[str, Any] = {
        "run_id": document["run"].get("id"),
        "title": f"Scores of {_name(source)}" if source else "A scoring run",
        "subtitle": _subtitle(document),
        "contents": _contents(document, groups, stages),
        "verdict": _verdict(document),
        "tiles": _tiles(document),
        "labels": [{**label, "bar": charts.bar(label["share"])} for label in shown],
        "hidden_labels": len(hidden),
        "corrected": predictions.get("corrected"),
        "hidden_rows": sum(label["count"] for label in hidden),
        "score_charts": score_charts(predictions),
        "groups": groups,
        "length_charts": length_charts(document),
        **_accounting(document["rows"]),
        "files": files,
        "stages": stages,
        "facts": _facts(document),
        "command": _command(document),
        **_gates(document),
        "most_labels": MOST_SHOWN_LABELS,
    }
    if evaluation is not None and evaluation["rows"]:
        content |= evaluation_content(evaluation, predictions["unsure_below"])
    return content


def _contents(
    document: Document, groups: Document | None, stages: Sequence[Document]
) -> dict[str, str]:
    """Return the sections of the page, what matters most first: id -> heading."""
    evaluation = document["evaluation"]
    found = {"labels": "Labels and scores"}
    if evaluation is not None:
        stars = evaluation["gold"]["kind"] == "stars"
        found["quality"] = "Agreement with star ratings" if stars else "Against the gold labels"
    if groups is not None:
        found["groups"] = f"Groups by {cut(groups['column'])}"
    if (document["run"].get("options") or {}).get("report_examples"):
        found["examples"] = "Examples"
    found |= {"lengths": "Length of the texts", "rows": "Rows and files"}
    if stages:
        found["speed"] = "Speed"
    return found | {"origin": "Where this comes from"}


def _accounting(rows: Document) -> dict[str, Any]:
    """Return the table of what became of the rows, and a sentence on what did not occur.

    Where every row was scored the sentence says it all.
    """
    read = rows["read"]
    occurring = [name for name in STATES if rows[name]]
    absent = [f"{name} ({STATES[name].partition(';')[0]})" for name in STATES if not rows[name]]
    said = ""
    if absent:
        first = [", ".join(absent[:-1])] if len(absent) > 1 else []
        said = f"None are {' or '.join([*first, absent[-1]])}."
    if not read:
        said = "No rows were read."
    elif occurring == ["scored"]:
        said = f"All {count(read)} rows have a label and a score. {said}"
        occurring = []
    accounting = []
    for name in occurring:
        share = rows[name] / read
        entry = {"name": name, "meaning": STATES[name], "count": rows[name], "share": share}
        accounting.append({**entry, "bar": charts.bar(share)})
    return {"accounting": accounting, "accounted": said}


def _verdict(document: Document) -> str:
    """Say the run in two or three sentences."""
    rows, evaluation = document["rows"], document["evaluation"]
    said = f"{rows['scored']:,} of {rows['read']:,} rows were scored"
    if document["run"].get("elapsed_s") is not None:
        said += f" in {elapsed(document['run']['elapsed_s'])}"
    said += "."
    reuse = document["run"].get("reuse")
    if reuse:
        said += (
            f" {reuse['reused_rows']:,} rows have the score that their text had in an earlier "
            f"output, {reuse['new_rows']:,} are new; {reuse['gone_rows']:,} rows of that are gone."
        )
    most = max(document["predictions"]["labels"], key=lambda label: label["count"], default=None)
    if most is not None and most["count"]:
        said += f" The commonest label is {cut(most['label'])}, with {most['share']:.1%} of them."
    if evaluation is not None and evaluation["rows"]:
        low, high = evaluation["accuracy_interval"]
        what = (
            "agree with the star ratings" if evaluation["gold"]["kind"] == "stars" else "are right"
        )
        said += (
            f" Of {evaluation['rows']:,} rows with a gold label {evaluation['accuracy']:.1%} "
            f"{what} (between {low:.1%} and {high:.1%}, 95 times of 100); always answering "
            f"{cut(evaluation['majority']['label'])} would get "
            f"{evaluation['majority']['accuracy']:.1%}."
        )
    return said


def _gates(document: Document) -> dict[str, Any]:
    """Return the floors of --fail-under that the evaluation is under, or else all of them."""
    floors = (document["run"].get("options") or {}).get("fail_under") or []
    if document["status"] == "failed":
        return {}
    try:
        failures = gates.failed_minimums(document["evaluation"], floors, document["predictions"])
    except UsageError as error:
        # the run has checked them: the summary was changed since
        raise ValueError(error.message) from error
    return {"failures": failures, "gates": [] if failures else floors}


def _subtitle(document: Document) -> str:
    parts = [f"status {document['status']}"]
    if document["run"].get("ended"):
        parts.append(moment(str(document["run"]["ended"])))
    model = document["model"]
    parts += [str(value) for value in (model.get("source"), model.get("precision")) if value]
    return " · ".join(parts)


def _tiles(document: Document) -> list[tuple[str, str, str]]:
    rows, evaluation, speed = document["rows"], document["evaluation"], document["performance"]
    tiles = [("rows scored", count(rows["scored"]), f"of {rows['read']:,} read")]
    if evaluation is not None and evaluation["rows"]:
        note = bounds(evaluation["accuracy_interval"])
        tiles.append((accuracy_word(evaluation), f"{evaluation['accuracy']:.1%}", note))
    if speed.get("rows_per_s") is not None:
        rate = speed["rows_per_s"]
        tokens = speed.get("tokens_per_s")
        note = f"{axes.short(tokens)} tokens/s" if tokens is not None else ""
        tiles.append(("rows a second", f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}", note))
    if document["predictions"]["mean_score"] is not None:
        tiles.append(
            ("mean score", f"{document['predictions']['mean_score']:.3f}", "of the label given")
        )
    expected = document["predictions"].get("expected_accuracy")
    if expected is not None:
        tiles.append(("expected accuracy", f"{expected:.1%}", "if the calibrated scores hold"))
    if document["text"]["truncated_share"] is not None:
        tiles.append(
            (
                "texts cut",
                f"{document['text']['truncated_share']:.1%}",
                "longer than the model reads",
            )
        )
    return tiles


def _stages(document: Document) -> list[dict[str, Any]]:
    seconds = document["performance"].get("seconds") or {}
    known = [name for name, value in seconds.items() if value is not None]
    # In the order in which a row meets them; a stage of a later version comes last.
    known.sort(key=lambda name: STAGES.index(name) if name in STAGES else len(STAGES))
    longest = max((seconds[name] for name in known), default=0) or 1
    return [
        {"name": name, "seconds": seconds[name], "bar": charts.bar(seconds[name] / longest)}
        for name in known
    ]


def _facts(document: Document) -> list[dict[str, Any]]:
    run = {
        name: value
        for name, value in document["run"].items()
        if name not in {"options", "fingerprint", "writing", "command", "reuse"}
    }
    reused = (document["run"].get("reuse") or {}).get("outputs", [])
    device = document["device"]
    processes = device.get("devices", [])
    sections: Sequence[tuple[str, Mapping[str, Any]]] = (
        ("Run", run),
        *(("Reused: " + cut(each["path"]), each) for each in reused),
        ("Input", document["input"]),
        *((f"Output: {_role(output)}", _without_groups(output)) for output in document["outputs"]),
        ("Model", {name: found for name, found in document["model"].items() if name != "cascade"}),
        ("Cascade: the fast model", document["model"].get("cascade") or {}),
        ("Device", {name: value for name, value in device.items() if name != "devices"}),
        *((f"Process {n} on {cut(one['name'])}", one) for n, one in enumerate(processes, 1)),
        ("Options", document["run"].get("options") or {}),
        ("Versions", document["package"]),
    )
    return [facts(name, section) for name, section in sections if section]


def _role(output: Document) -> str:
    return str(output.get("role", "file"))


def _without_groups(output: Document) -> dict[str, Any]:
    """Return an output without its groups, which have a table of their own."""
    return {name: value for name, value in output.items() if name != "largest"}


def _command(document: Document) -> list[str]:
    """Return the words of the command, quoted as a shell reads them."""
    command = document["run"].get("command")
    if not command:
        return []
    first, *words = map(str, command)
    # Where the program lies is not what to type. A program of the user's own keeps its name.
    ours = Path(first).name == "batchsent" or Path(first).parts[-2:] == ("batchsent", "__main__.py")
    return [shlex.quote(word) for word in ("batchsent" if ours else first, *words)]


def _name(path: str) -> str:
    return cut(Path(path).name if path != "-" else "standard input")
