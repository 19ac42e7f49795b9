"""The commands: each parses, calls the function of its name and prints.

Data goes to stdout, everything else to stderr.
"""

import dataclasses
import json
import shlex
import sys
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

import click

from batchsent.command_options import LazyCommand, common_option, json_option
from batchsent.errors import (
    EXIT_ROWS_REJECTED,
    BatchsentError,
    DeviceError,
    GateFailed,
    UsageError,
)
from batchsent.exits import run_and_exit
from batchsent.memory import check_room
from batchsent.terminal.reporters import JsonReporter, TerminalReporter, write_line
from batchsent.text import printable

if TYPE_CHECKING:
    from batchsent.run.models import Models

COMMANDS = {
    "batch": "batchsent.run.options:BatchOptions",
    "finetune": "batchsent.training.options:FinetuneOptions",
    "compare": "batchsent.commands.compare:CompareOptions",
    "evaluate": "batchsent.commands.evaluate:EvaluateOptions",
    "export": "batchsent.commands.export:ExportOptions",
    "predict": "batchsent.commands.predict_texts:PredictOptions",
    "sample": "batchsent.commands.sample:SampleOptions",
    "info": "batchsent.commands.info:InfoOptions",
    "verify": "batchsent.verification.verify:VerifyOptions",
}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="batchsent")
def cli() -> None:
    """Score review dumps of any size with a Hugging Face encoder.

    batchsent finetune makes a model, batchsent batch scores files with it.
    """
    check_room("pyarrow")


def command(name: str, examples: str = "") -> Callable[[Callable[..., int]], LazyCommand]:
    """Declare a command whose options are those of its dataclass, with examples for its help."""

    def declare(function: Callable[..., int]) -> LazyCommand:
        made = typing.cast(LazyCommand, cli.command(name, cls=LazyCommand)(function))
        made.options_class = COMMANDS[name]
        made.examples = examples
        return made

    return declare


Document = dict[str, Any]


def with_gates(function: Callable[[], Document]) -> tuple[Document, GateFailed | None]:
    """Return what a function returns, and the gate that failed; that is raised after printing."""
    try:
        return function(), None
    except GateFailed as error:
        return error.document, error


def print_document(
    document: Document,
    failure: BatchsentError | None,
    show: Callable[[Document, TextIO], None],
    *,
    as_json: bool,
) -> None:
    """Print a document to stdout, as JSON or for a person, then raise what failed."""
    if as_json:
        click.echo(json.dumps(document, indent=1))
    else:
        show(document, sys.stdout)
    if failure is not None:
        raise failure


@command(
    "batch",
    examples="""
    batchsent batch reviews.csv -o scored.csv
    batchsent batch reviews.parquet -o scored.parquet --model ./model --gold sentiment --report
    batchsent batch dumps/ -o scored/ --overwrite --bad-rows reject --quiet
    batchsent batch 'dumps/**/*.parquet' -o scored/
    """,
)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=click.Path())
@common_option(
    "-o",
    "--output",
    required=True,
    metavar="OUTPUT",
    help="File to write; a folder for several inputs; - for stdout.",
)
@common_option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Print only errors and warnings of rows without a score, for cron.",
)
@common_option(
    "--json", "as_json", group="Run", is_flag=True, help="Print the summary to stdout as JSON."
)
@common_option(
    "--log-format",
    group="Run",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Format of the messages on stderr.",
)
def batch_command(
    inputs: tuple[str, ...],
    output: str,
    quiet: bool,
    as_json: bool,
    log_format: str,
    **options: Any,
) -> int:
    """Score the reviews of INPUT and write its rows with label and score to OUTPUT.

    CSV, TSV, JSON lines, Parquet and Arrow streams, gzip and zstd by suffix; - is stdin or stdout.
    INPUT may be a folder, which is read with its sub-folders, a quoted pattern, the URL of one of
    these (hf://, s3://, gs://, abfs://) or of a file (https://). The summary goes to
    OUTPUT.summary.json. After an interruption, run the same command again: it resumes where it
    stopped.
    """
    if as_json and output == "-":
        raise UsageError(
            "--json and -o - cannot be used together: both write to stdout",
            hint="leave out --json, or use --summary FILE",
        )
    reporter = JsonReporter() if log_format == "json" else TerminalReporter(quiet=quiet)
    with reporter:
        reporter.stage("starting")
        from batchsent.run.folder import batch_all

        models = click.get_current_context().obj
        document, failure = with_gates(
            lambda: batch_all(inputs, output, reporter=reporter, models=models, **options)
        )
        reporter.finished(document)
    if as_json:
        from batchsent.evaluation.summary import dumps

        click.echo(dumps(document).decode(), nl=False)
    if failure is not None:
        raise failure
    return int(document.get("exit_code", 0))


@command(
    "finetune",
    examples="""
    batchsent finetune -o model --train reviews.csv --text-column review --label-column sentiment
    batchsent finetune -o model --train stars.csv --label-column stars --stars 1-2:neg,4-5:pos
    batchsent finetune -o model --train reviews.csv --base-model embedded --resume
    """,
)
@common_option("-o", "--output", metavar="FOLDER", help="Model folder to write [default: model].")
@common_option("-q", "--quiet", is_flag=True, help="Print errors only.")
@json_option("the metrics")
def finetune_command(output: str | None, quiet: bool, as_json: bool, **options: Any) -> int:
    """Fine-tune an encoder on labelled reviews and write a model folder.

    Without options: distilbert-base-uncased on 4,000 reviews of stanfordnlp/imdb, measured on 300.
    """
    from batchsent.training.options import OUTPUT
    from batchsent.training.processes import is_main_process

    with TerminalReporter(quiet=quiet or not is_main_process()) as reporter:
        reporter.stage("starting")
        from batchsent.commands.finetune import finetune
        from batchsent.terminal.tables import show_metrics

        document = finetune(output or OUTPUT, reporter=reporter, **options)
    if not is_main_process():
        return 0
    print_document(document, None, show_metrics, as_json=as_json)
    if not quiet:
        folder = printable(output or OUTPUT)
        model = shlex.quote(folder)
        write_line(f"page: {folder.rstrip('/')}/report.html")
        gain = document["comparison"].get("difference")
        if gain is None or gain > 0:  # else the base model is as good
            write_line(f"next: batchsent batch reviews.csv -o scored.csv --model {model}")
    return 0


@command("evaluate")
@click.argument("file", metavar="FILE", type=click.Path())
@json_option("the document")
def evaluate_command(file: str, as_json: bool, **options: Any) -> int:
    """Compare the labels of a scored FILE with a gold column.

    With --model the texts of FILE are scored first, and nothing is written. With --audit, accuracy
    and shares of all of FILE are told from a sample of its rows that a person labelled.
    """
    from batchsent.commands.audit import SCHEMA
    from batchsent.commands.evaluate import evaluate
    from batchsent.terminal.audit import show_audit
    from batchsent.terminal.tables import show_evaluation

    with TerminalReporter() as reporter:
        document, failure = with_gates(lambda: evaluate(file, reporter=reporter, **options))
    show = show_audit if document["schema"] == SCHEMA else show_evaluation
    print_document(document, failure, show, as_json=as_json)
    return EXIT_ROWS_REJECTED if document["rows"].get("nonfinite") else 0


@cli.command("report")
@click.argument("summary", metavar="SUMMARY", type=click.Path())
@common_option(
    "-o",
    "--output",
    metavar="FILE",
    help="Page to write [default: OUTPUT.report.html beside SUMMARY].",
)
def report_command(summary: str, output: str | None) -> int:
    """Write the HTML page of a SUMMARY and print its path.

    The page is one file without scripts; it loads nothing from the network.
    """
    from batchsent.commands.report import report

    click.echo(printable(report(summary, output)))
    return 0


@command(
    "compare",
    examples="""
    batchsent compare monday.csv.summary.json tuesday.csv.summary.json --fail-on "psi>0.2"
    batchsent compare float32.csv int8.csv --flips flipped.csv --fail-on "flips>1%"
    """,
)
@click.argument("first", metavar="FIRST", type=click.Path())
@click.argument("second", metavar="SECOND", type=click.Path())
@json_option("the comparison")
def compare_command(first: str, second: str, as_json: bool, **options: Any) -> int:
    """Show what changed from a FIRST to a SECOND run.

    Two summaries: labels, scores, lengths, metrics, model and options. Two scored files of the same
    rows: the labels that changed, by direction, score and group.
    """
    from batchsent.commands.compare import compare
    from batchsent.evaluation.flips import SCHEMA
    from batchsent.terminal.flips import show_flips
    from batchsent.terminal.tables import show_comparison

    with TerminalReporter() as reporter:
        document, failure = with_gates(lambda: compare(first, second, reporter=reporter, **options))
    show = show_flips if document["schema"] == SCHEMA else show_comparison
    print_document(document, failure, show, as_json=as_json)
    return 0


@command(
    "sample",
    examples="""
    batchsent sample scored.csv -n 200 -o to_label.csv
    batchsent evaluate scored.csv --audit to_label.csv
    """,
)
@click.argument("file", metavar="FILE", type=click.Path())
@common_option("-o", "--output", required=True, metavar="OUTPUT", help="File to write.")
@json_option("what was drawn")
def sample_command(file: str, output: str, as_json: bool, **options: Any) -> int:
    """Draw rows of a scored FILE to label by hand, and write them to OUTPUT.

    Write the right label of each row into its column audit_gold, without looking at the model's,
    and leave the other audit_ columns as they are. Then run evaluate with --audit OUTPUT.
    """
    from batchsent.commands.sample import sample
    from batchsent.terminal.audit import show_sample

    with TerminalReporter() as reporter:
        document = sample(file, output, reporter=reporter, **options)
    print_document(document, None, show_sample, as_json=as_json)
    return 0


@command("predict")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@common_option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print a JSON object for each text, with the probability of every label.",
)
def predict_command(texts: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Print label, score and text of each TEXT, or of each line of stdin.

    The line of a text without a score is empty. Files are scored with batchsent batch.
    """
    from batchsent.commands.predict_texts import predictions
    from batchsent.terminal.sentences import show

    code = 0
    with TerminalReporter() as reporter:
        for text, prediction in predictions(texts, reporter=reporter, **options):
            if as_json:
                said = dataclasses.asdict(prediction)
                if not options["sentences"]:
                    del said["sentences"]
                click.echo(json.dumps({"text": text, **said}))
            elif prediction.label is None:
                click.echo("")
            else:
                label = printable(prediction.label)
                click.echo(f"{label} {prediction.score:.4f}  {printable(text)}")
                show(prediction.sentences, sys.stdout)
            if prediction.status == "nonfinite":
                code = EXIT_ROWS_REJECTED
    return code


@command(
    "verify",
    examples="""
    batchsent verify reviews.csv scored.csv
    batchsent verify reviews.csv scored.csv --json
    batchsent verify reviews.csv scored.parquet --text-column review --bad-rows reject
    batchsent verify dumps/ scored/
    batchsent verify dumps/ all.parquet
    """,
)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=click.Path())
@click.argument("output_file", metavar="OUTPUT", type=click.Path())
@json_option("the verdict")
def verify_command(inputs: tuple[str, ...], output_file: str, as_json: bool, **options: Any) -> int:
    """Prove that OUTPUT holds the rows of INPUT, untouched and in order, with their scores.

    Options that are not given are those of the run, from the summary beside OUTPUT; without a
    summary they have the defaults below. Exits with 8 at the first difference. Of two folders each
    file of INPUT is compared with its output at the same path; INPUT may be a quoted pattern.
    Several inputs, or a folder, and one OUTPUT: what batch wrote with --source-column.
    """
    from batchsent.verification.verify import verify

    with TerminalReporter() as reporter:
        document, failure = with_gates(
            lambda: verify(inputs, output_file, reporter=reporter, **options)
        )

    def show(verdict: Document, out: TextIO) -> None:
        if failure is not None:
            return  # the error says what differs
        click.echo(printable(verdict["verdict"]), out)
        for what in ("checked", "unchecked"):
            for item in verdict[what]:
                click.echo(f"  {what}: {printable(item)}", out)

    print_document(document, failure, show, as_json=as_json)
    return 0


@command("export")
@click.argument("model", metavar="MODEL", type=click.Path())
@common_option("-o", "--output", required=True, metavar="FOLDER", help="Folder to write.")
def export_command(model: str, output: str, **options: Any) -> int:
    """Write MODEL for another runtime, check that it gives the same numbers, and print the path.

    FOLDER gets the program (inputs input_ids and attention_mask, output logits), config.json with
    the labels, and the tokenizer.
    """
    from batchsent.commands.export import export

    with TerminalReporter() as reporter:
        document = export(model, output, reporter=reporter, **options)
    click.echo(printable(document["path"]))
    return 0


@command(
    "info",
    examples="""
    batchsent info model
    batchsent info model --check
    batchsent info scored.parquet
    """,
)
@click.argument("model", required=False, metavar="[MODEL|FILE]")
@json_option("what is found")
def info_command(model: str | None, as_json: bool, **options: Any) -> int:
    """Show versions, the device and precision that would be used and why, and what MODEL is.

    Of a scored Parquet or Arrow FILE, show its receipt: model, options and digest of the input.
    With --check, which takes about a minute for a small model, exits with 7 where the way that a
    run would choose gives wrong numbers, crashes or hangs.
    """
    from batchsent.commands.info import info
    from batchsent.terminal.tables import show_facts
    from batchsent.terminal.ways import show_check

    with TerminalReporter() as reporter:
        document = info(model, reporter=reporter, **options)
    show = show_check if "check" in document else show_facts
    print_document(document, failure_of_check(document), show, as_json=as_json)
    return 0


def failure_of_check(document: Document) -> DeviceError | None:
    """Return the error of a check that says that a run would not work here; None where it would."""
    failure = document.get("check", {}).get("failure")
    if failure is None:
        return None
    return DeviceError(
        f"the way that a run would choose here cannot be used: {failure}",
        hint="choose another way with --device and --precision, and check again",
    )


@cli.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> int:
    """Print the script that completes commands, options, choices and paths in SHELL.

    In bash, for instance: eval "$(batchsent completion bash)" in ~/.bashrc.
    """
    from click.shell_completion import get_completion_class

    completer = get_completion_class(shell)
    assert completer is not None
    click.echo(completer(cli, {}, "batchsent", "_BATCHSENT_COMPLETE").source())
    return 0


def main(arguments: list[str] | None = None, *, models: "Models | None" = None) -> None:
    """Run the command line and exit with one of the documented codes.

    `models` gives `batchsent batch` its model in place of --model, for programs and tests.
    """
    run_and_exit(cli, arguments, models)
