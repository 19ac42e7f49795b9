"""The commands: parse, call the function of the same name, print. Data to stdout, everything else to stderr."""

import dataclasses
import importlib
import json
import os
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

import click

from batchsent.errors import (
    EXIT_BUG,
    EXIT_ROWS_REJECTED,
    BatchsentError,
    GateFailed,
    PipeClosed,
    UsageError,
)
from batchsent.memory import check_room, memory_errors
from batchsent.standard_streams import open_missing
from batchsent.terminal.reporters import JsonReporter, TerminalReporter
from batchsent.text import printable

COMMANDS = {
    "batch": "batchsent.run.options:BatchOptions",
    "finetune": "batchsent.training.options:FinetuneOptions",
    "evaluate": "batchsent.commands.evaluate:EvaluateOptions",
    "export": "batchsent.commands.export:ExportOptions",
    "predict": "batchsent.commands.predict:PredictOptions",
    "info": "batchsent.commands.info:InfoOptions",
    "verify": "batchsent.verification.verify:VerifyOptions",
}


class LazyOptions(click.Command):
    """A command whose options are the fields of a dataclass, read when the command is used or asked for help."""

    options_class: str | None = None
    _loaded = False

    def load_options(self) -> None:
        """Add an option for every field of the dataclass."""
        if self.options_class is None or self._loaded:
            return
        module, name = self.options_class.split(":")
        cls = getattr(importlib.import_module(module), name)
        hints = typing.get_type_hints(cls)
        own = [parameter for parameter in self.params if isinstance(parameter, click.Option)]
        arguments = [
            parameter for parameter in self.params if not isinstance(parameter, click.Option)
        ]
        self.params = [
            *arguments,
            *(click_option(field, hints[field.name]) for field in dataclasses.fields(cls)),
            *own,
        ]
        self._loaded = True

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters, options included."""
        self.load_options()
        return super().get_params(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse with the options there."""
        self.load_options()
        return super().parse_args(ctx, args)


def click_option(field: dataclasses.Field[Any], hint: Any) -> click.Option:
    """Return the click option of a field: its default is the field's, and stands nowhere else."""
    settings = dict(field.metadata)
    flag = "--" + field.name.replace("_", "-")
    names = [flag, *([settings.pop("short")] if "short" in settings else []), field.name]
    choices = settings.pop("choices", None)
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    if choices:
        settings["type"] = click.Choice(choices)
    elif hint is bool:
        settings["is_flag"] = True
    else:
        settings.setdefault("type", str if typing.get_origin(hint) is tuple else hint)
    shown = field.default not in (None, False, "", ())
    return click.Option(names, default=field.default, show_default=shown, **settings)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="batchsent")
def cli() -> None:
    """Score review dumps of any size with a Hugging Face encoder.

    batchsent finetune makes a model, batchsent batch scores files with it.
    """
    check_room("pyarrow")


def command(name: str) -> Callable[[Callable[..., int]], LazyOptions]:
    """Declare a command whose options are those of its dataclass."""

    def declare(function: Callable[..., int]) -> LazyOptions:
        made = typing.cast(LazyOptions, cli.command(name, cls=LazyOptions)(function))
        made.options_class = COMMANDS[name]
        return made

    return declare


@command("batch")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUTPUT",
    help="File to write, a folder for several inputs, or -.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing on success.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary to stdout as JSON.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Form of stderr.",
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

    CSV, TSV and Parquet, gzip and zstd by suffix; - is stdin or stdout (CSV or an Arrow stream).
    The summary goes to OUTPUT.summary.json. After an interruption, run the same command again: it
    goes on where it stopped.
    """
    if as_json and output == "-":
        raise UsageError(
            "--json and -o - would share stdout", hint="leave out --json, or use --summary FILE"
        )
    reporter = JsonReporter() if log_format == "json" else TerminalReporter(quiet=quiet)
    failure: GateFailed | None = None
    with reporter:
        from batchsent.run.folder import batch_all

        try:
            document = batch_all(inputs, output, reporter=reporter, **options)
        except GateFailed as error:
            failure, document = error, error.document
        reporter.finished(document)
    if as_json:
        from batchsent.evaluation.summary import dumps

        click.echo(dumps(document).decode(), nl=False)
    if failure is not None:
        raise failure
    return int(document.get("exit_code", 0))


@command("finetune")
@click.option("-o", "--output", metavar="FOLDER", help="Model folder to write [default: model].")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
def finetune_command(output: str | None, quiet: bool, as_json: bool, **options: Any) -> int:
    """Fine-tune an encoder on labelled reviews and write a model folder.

    Without options: distilbert-base-uncased on 4,000 reviews of stanfordnlp/imdb, measured on 300.
    """
    from batchsent.commands.finetune import finetune
    from batchsent.terminal.tables import show_metrics
    from batchsent.training.options import OUTPUT
    from batchsent.training.processes import is_main_process

    with TerminalReporter(quiet=quiet) as reporter:
        document = finetune(output or OUTPUT, reporter=reporter, **options)
    if not is_main_process():
        return 0
    if as_json:
        click.echo(json.dumps(document, indent=1))
    else:
        show_metrics(document["metrics"], sys.stdout)
    return 0


@command("evaluate")
@click.argument("file", metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help="Print the document as JSON.")
def evaluate_command(file: str, as_json: bool, **options: Any) -> int:
    """Judge the labels of a scored FILE by a gold column, without a model (or a labelled FILE, with --model)."""
    from batchsent.commands.evaluate import evaluate
    from batchsent.terminal.tables import show_evaluation

    failure: GateFailed | None = None
    with TerminalReporter() as reporter:
        try:
            document = evaluate(file, reporter=reporter, **options)
        except GateFailed as error:
            failure, document = error, error.document
    if as_json:
        click.echo(json.dumps(document, indent=1))
    else:
        show_evaluation(document, sys.stdout)
    if failure is not None:
        raise failure
    return 0


@cli.command("report")
@click.argument("summary", metavar="SUMMARY")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Page to write [default: OUTPUT.report.html beside SUMMARY].",
)
def report_command(summary: str, output: str | None) -> int:
    """Write the HTML page of a SUMMARY and print its path: one file, no script, nothing from the network."""
    from batchsent.commands.report import report

    click.echo(printable(report(summary, output)))
    return 0


@cli.command("compare")
@click.argument("first", metavar="SUMMARY")
@click.argument("second", metavar="SUMMARY")
@click.option(
    "--fail-on",
    multiple=True,
    metavar="CONDITION",
    help="Exit with 8 where it holds, such as psi>0.2; may be repeated. psi and ks are of the "
    "scores, length_psi and length_ks of the texts; others are label_share_change, "
    "mean_score_change, rows_drop, blank_share_rise, accuracy_drop (all are under gates in "
    "--json).",
)
@click.option("--html", metavar="FILE", help="Also write the comparison as a page.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def compare_command(
    first: str, second: str, fail_on: tuple[str, ...], html: str | None, as_json: bool
) -> int:
    """Show what changed between two runs: labels, scores, lengths, metrics, model, options."""
    from batchsent.commands.compare import compare
    from batchsent.terminal.tables import show_comparison

    failure: GateFailed | None = None
    try:
        comparison = compare(first, second, fail_on=fail_on, html=html)
    except GateFailed as error:
        failure, comparison = error, error.document
    if as_json:
        click.echo(json.dumps(comparison, indent=1))
    else:
        show_comparison(comparison, sys.stdout)
    if failure is not None:
        raise failure
    return 0


@command("predict")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON object a text, with the probability of every label.",
)
def predict_command(texts: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Print label and score of each TEXT, or of each line of stdin."""
    from batchsent.commands.predict import predictions

    code = 0
    with TerminalReporter() as reporter:
        for text, prediction in predictions(texts, reporter=reporter, **options):
            if as_json:
                click.echo(json.dumps({"text": text, **dataclasses.asdict(prediction)}))
            elif prediction.label is None:
                click.echo("")
            else:
                click.echo(f"{printable(prediction.label)} {prediction.score:.4f}")
            if prediction.status == "nonfinite":
                code = EXIT_ROWS_REJECTED
    return code


@command("verify")
@click.argument("input_file", metavar="INPUT")
@click.argument("output_file", metavar="OUTPUT")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def verify_command(input_file: str, output_file: str, as_json: bool, **options: Any) -> int:
    """Prove that OUTPUT holds the rows of INPUT, untouched and in order, with a label and a score each."""
    from batchsent.verification.verify import verify

    failure: GateFailed | None = None
    with TerminalReporter() as reporter:
        try:
            document = verify(input_file, output_file, reporter=reporter, **options)
        except GateFailed as error:
            failure, document = error, error.document
    if as_json:
        click.echo(json.dumps(document, indent=1))
    elif failure is None:
        click.echo(printable(document["verdict"]))
        for what in ("checked", "unchecked"):
            for item in document[what]:
                click.echo(f"  {what}: {printable(item)}")
    if failure is not None:
        raise failure
    return 0


@command("export")
@click.argument("model", metavar="MODEL")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Folder to write.")
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


@command("info")
@click.argument("model", required=False, metavar="[MODEL]")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def info_command(model: str | None, as_json: bool, **options: Any) -> int:
    """Show versions, the device and precision that would be used and why, and what MODEL is."""
    from batchsent.commands.info import info
    from batchsent.terminal.tables import show_facts

    found = info(model, **options)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        show_facts(found, sys.stdout)
    return 0


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with one of the documented codes."""
    open_missing()
    as_json = "--log-format=json" in sys.argv or any(
        pair == ("--log-format", "json") for pair in zip(sys.argv, sys.argv[1:], strict=False)
    )
    code = EXIT_BUG
    try:
        with memory_errors():
            code = cli.main(arguments, standalone_mode=False) or 0
            sys.stdout.flush()
    except click.exceptions.Exit as error:
        code = error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = 130
    except click.ClickException as error:
        code = 2
        say_error(error.format_message(), usage_hint(error), 2, as_json=as_json)
    except BrokenPipeError:
        code = PipeClosed.exit_code
    except BatchsentError as error:
        code = error.exit_code
        if not isinstance(error, PipeClosed) and not error.reported_by_rank:
            say_error(error.message, error.hint, code, as_json=as_json, **error.details)
        if error.exit_immediately:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    except OSError as error:  # stdout is full, or gone
        code = 5
        say_error(f"stdout: {error.strerror or error}", None, code, as_json=as_json)
    except Exception as error:  # noqa: BLE001 (the last border: a bug still ends with its documented code)
        import traceback

        if os.environ.get("BATCHSENT_TRACEBACK") or not as_json:
            traceback.print_exc()
        say_error(
            f"a bug in batchsent: {type(error).__name__}: {error}",
            "please report it with the traceback",
            code,
            as_json=as_json,
        )
    finally:
        leave(code)


def usage_hint(error: click.ClickException) -> str | None:
    """Return where to read on."""
    context = getattr(error, "ctx", None)
    return f"see {context.command_path} --help" if context is not None else None


def say_error(message: str, hint: str | None, code: int, *, as_json: bool, **details: Any) -> None:
    """Print an error to stderr, safe for a terminal, or as the last line of a JSON log."""
    try:
        if as_json:
            line = {
                "type": "exit_error",
                "exit_code": code,
                "message": message,
                "hint": hint,
                **details,
            }
            print(json.dumps(line, default=str), file=sys.stderr)  # noqa: T201 (this is where it belongs)
        else:
            lines = [f"batchsent: {text}" for text in message.splitlines()] + (
                [f"  {hint}"] if hint else []
            )
            print("\n".join(printable(line) for line in lines), file=sys.stderr)  # noqa: T201
    except OSError:
        pass  # nobody listens


def leave(code: int) -> None:
    """End the process with `code`.

    A thread may still be blocked reading a pipe, or in the middle of a forward pass: on the way out
    of an error the interpreter is not asked to wait for it.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 5
            # Python would complain once more when it closes the stream.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if code in {0, 3}:
        sys.exit(code)
    os._exit(code)
