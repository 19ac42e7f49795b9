"""Proof of the row contract: an output is its input with scores after every row.

The proofs, one by one: rows are compared in comparing.py, added columns in added.py, rejected rows
in rejected.py, and claims of the summary in claims.py.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from os import fspath
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchsent.chunk import Chunk
from batchsent.errors import BatchsentError, GateFailed, UsageError
from batchsent.evaluation.sentences import CLEAR
from batchsent.evaluation.tally import Tally
from batchsent.filenames import exists, is_regular
from batchsent.files.hashing import sha256_of
from batchsent.formats import FORMATS, ReadOptions, Source, open_source, receipt
from batchsent.formats.dumps import is_several, is_tree
from batchsent.formats.found import Dump
from batchsent.formats.opening import check_read_options
from batchsent.formats.outputs import OutputOptions, added_schema, path_beside, side_table_paths
from batchsent.formats.run_summary import RunSummary
from batchsent.formats.several import SeveralSource, find_files, name_of, path_shown
from batchsent.options import build, option
from batchsent.reporting import Reporter
from batchsent.text import printable
from batchsent.urls import canonical, file_name, is_url
from batchsent.verification.added import Added
from batchsent.verification.claims import (
    same,
    same_file,
    same_files,
    same_inputs,
    same_section,
    same_tables,
)
from batchsent.verification.comparing import Output, open_output
from batchsent.verification.differences import Difference
from batchsent.verification.fetched import fetch_output
from batchsent.verification.folder import verify_folder
from batchsent.verification.rejected import RejectsFile
from batchsent.verification.reused import ReusedRows

SCHEMA = "batchsent.verification/1"


@dataclass(frozen=True)
class VerifyOptions(ReadOptions):
    """How two files are compared with each other.

    What is not given is taken from the summary, where there is one.
    """

    text_column: str | tuple[str, ...] | None = option(
        None,
        "Column with the reviews; may be repeated [default: those of the run, else the one called "
        "text or review].",
        metavar="NAME",
        multiple=True,
        group="Common",
    )
    limit: int | None = option(
        None,
        "Compare the first N rows of INPUT only [default: as the run did].",
        short="-n",
        metavar="N",
        minimum=0,
        group="Common",
    )
    prefix: str = option(
        "",
        "What the names of the added columns begin with [default: as in the run].",
        group="Common",
    )
    bad_rows: str = option(
        "error",
        "Bad rows of INPUT: stop there (error), or require that OUTPUT lacks them (reject).",
        choices=("error", "reject"),
        group="Run",
    )
    chunk_rows: int = option(8192, "Rows compared together.", minimum=1, group="Run")
    source_column: str | None = option(
        None,
        "Column of OUTPUT with the path of each row's input, where several were written into one "
        "file [default: as in the run].",
        metavar="NAME",
        group="Run",
    )
    output_format: str | None = option(
        None,
        "Format of the output [default: from its name].",
        choices=tuple(FORMATS),
        group="Run",
    )
    summary: str | None = option(
        None,
        "Summary of the run [default: OUTPUT.summary.json, where it exists].",
        metavar="FILE",
        group="Run",
    )
    rejects: str | None = option(
        None,
        "File with the rejected rows [default: OUTPUT.rejects.csv].",
        metavar="FILE",
        group="Run",
    )


def verify(
    input: str | Path | Sequence[str | Path],  # noqa: A002 (what it is)
    output: str | Path,
    *,
    reporter: Reporter | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Prove that `output` has the rows of `input`, in order, unchanged, with scores.

    The options are those of VerifyOptions; those that are not given are those of the run, as its
    summary has them. CSV that was copied is compared byte for byte, everything else value for
    value. Beyond that scores must be float32 numbers from 0 to 1 that agree with each other, rows
    without text have no label, and what the summary says of rows, labels, scores, lengths and files
    must be what they are, the tables beside the output among them. Memory does not grow with the
    files. Returns the verdict, with `status` same, the rows, and what was checked and what could
    not be.

    Where a run has read several files as one input (`source_column`), `input` is the folder, the
    pattern or the list that it was given. Where `output` is a folder, each file of the folder, or
    of the pattern, `input` is compared with its output there; the verdict has `files`, and
    GateFailed comes after the last one.

    Raises GateFailed for the first difference, with the verdict as its attribute `document`;
    InputError where the input or the summary cannot be read, or the output is not there; UsageError
    for options that do not fit.
    """
    settings = build(VerifyOptions, options)
    reporter = reporter or Reporter()
    given = [input] if isinstance(input, str | Path) else input
    sources = [canonical(fspath(one)) for one in given]
    target = canonical(fspath(output))
    if not is_tree(target):
        check_read_options(settings, sources)
        if is_url(target):
            return verify_object(sources, target, settings, reporter)
        return verify_file(sources, target, settings, reporter)
    if settings.source_column is not None or len(sources) > 1:
        raise UsageError(
            f"{printable(target)} is a folder: each file of one INPUT has its output there",
            hint="name one folder, without --source-column",
        )
    source = sources[0]
    if settings.summary or settings.rejects:
        raise UsageError("--summary and --rejects name one file", hint="leave them out")
    prove = verify_object if is_url(target) else verify_file
    return verify_folder(
        source,
        target,
        lambda one, its_output: prove([one], its_output, settings, reporter),
        reporter,
        input_format=settings.input_format,
        output_format=settings.output_format,
        prefix=settings.prefix,
    )


def verify_file(
    sources: Sequence[str], output: str, settings: VerifyOptions, reporter: Reporter
) -> dict[str, Any]:
    """Prove that one output has the rows of its input, or of several; as `verify`."""
    check = Verification(sources, output, settings, reporter)
    try:
        return check.go()
    except Difference as error:
        document = check.verdict(error)
        raise GateFailed(document["verdict"], document=document, hint=document["hint"]) from error


def verify_object(
    sources: Sequence[str], url: str, settings: VerifyOptions, reporter: Reporter
) -> dict[str, Any]:
    """Prove an output that is in a store, by a copy in the folder of temporary files."""
    with tempfile.TemporaryDirectory(prefix="batchsent-") as folder:

        def named(text: str) -> str:
            return text.replace(f"{folder}/", url.removesuffix(file_name(url)))

        path = str(fetch_output(url, Path(folder), settings.summary))
        try:
            document = verify_file(sources, path, settings, reporter)
        except GateFailed as failed:
            failed.message, failed.document = named(failed.message), renamed(failed.document, named)
            raise
        except BatchsentError as error:
            error.message = named(error.message)
            raise
    return {key: renamed(value, named) for key, value in document.items()}


def renamed(value: Any, named: Callable[[str], str]) -> Any:
    """Return a document with `named` applied to each text in it."""
    if isinstance(value, dict):
        return {key: renamed(inner, named) for key, inner in value.items()}
    if isinstance(value, list):
        return [renamed(inner, named) for inner in value]
    return named(value) if isinstance(value, str) else value


# Parts of a summary's predictions that the model's folder or the gold labels have decided too.
UNTOLD = {"neutral", "expected_accuracy", "corrected"}


class Verification:
    """One input, or several that a run has read as one, and one output."""

    def __init__(
        self, sources: Sequence[str], output: str, options: VerifyOptions, reporter: Reporter
    ) -> None:
        if output == "-":
            raise UsageError("an output is verified once it is a file", hint="name the file")
        self.input, self.output, self.reporter = name_of(sources), output, reporter
        path = options.summary or f"{output}.summary.json"
        self.summary: RunSummary | None = None
        self.options = options
        self.written_by: OutputOptions | None = None
        if options.summary is not None or exists(path):
            self.summary = RunSummary.read(path, hint="move it away to verify the rows without it")
            self.options = self.summary.complete(options, {"summary", "chunk_rows"})
            self.written_by = self.summary.output_options(self.options.prefix)
        self.files = self._files(sources)
        self.rejects_path = Path(self.options.rejects or f"{output}.rejects.csv")
        if self.options.bad_rows == "error" and self.summary is None and exists(self.rejects_path):
            self.options = dataclasses.replace(self.options, bad_rows="reject")
        self.rows = dict.fromkeys(
            ("read", "scored", "blank", "rejected", "nonfinite", "written"), 0
        )
        self.tally: Tally | None = None  # counts what the summary did, where there is one
        self.reused: ReusedRows | None = None  # where the run took scores from earlier outputs
        self.compared = ""
        self.columns: list[str] = []
        self.added: list[str] = []
        self.checked: list[str] = []
        self.unchecked: list[str] = []

    def _files(self, sources: Sequence[str]) -> tuple[Dump, ...]:
        """Return the files that were read as one input; () where there was one input.

        Raises UsageError for several without a column that tells them apart.
        """
        options = self.options
        if options.source_column is not None:
            return find_files(sources, prefix=options.prefix, input_format=options.input_format)[0]
        if len(sources) > 1 or is_several(sources[0]):
            raise UsageError(
                f"{printable(self.input)} is several files, and {printable(self.output)} is no "
                "folder",
                hint="name the folder with their outputs, or the column with the path of each "
                "row's input: --source-column source",
            )
        return ()

    def _open(self) -> Source:
        """Open the input. Raises InputError and UsageError."""
        options = self.options
        if options.source_column is None:
            return open_source(self.input, options)
        return SeveralSource(self.files, printable(self.input), options.source_column, options)

    def go(self) -> dict[str, Any]:
        """Hold the files against each other; return the verdict. Raises Difference."""
        options = self.options
        if self.files and self.summary is not None:
            try:
                claimed = self.summary.document["input"]["files"]
                same_inputs(claimed, [path_shown(file) for file in self.files])
            except (KeyError, TypeError) as error:
                raise self.summary.damaged(error) from error
        with closing(self._open()) as source:
            self.columns = source.columns
            label = f"{options.prefix}label"
            with closing(
                open_output(self.output, source, options, options.output_format, label)
            ) as output:
                self.compared = output.compared
                added = self._columns_added(output)
                self.reused = self._rows_reused()
                with closing(RejectsFile(self.rejects_path, options)) as rejects:
                    for chunk in source.chunks():
                        self._take(chunk, output.take(chunk), added, rejects)
                    rejects.finish()
                output.finish()
            input_facts = source.facts()
        self._check_receipt(output)
        self.rows |= added.rows
        kind = "byte for byte" if self.compared == "bytes" else "value for value"
        self.checked.append(
            f"{self.rows['written']:,} rows, each once, in order, the input's columns {kind}"
        )
        self.checked.append("labels and scores of every row; none where there is no text")
        if f"{options.prefix}n_sentences" in self.added:
            self.checked.append(
                "the number of sentences of every text, and where the strongest are"
            )
            self.unchecked.append(
                "which sentences are positive or negative: only the model can tell"
            )
        if self.rows["rejected"]:
            self.checked.append(
                f"{self.rows['rejected']:,} rejected rows, each in {printable(self.rejects_path)}"
            )
        if self.summary is None:
            self._say_what_is_not_known(output)
        else:
            try:
                self._check_summary(self.summary.document, input_facts, added)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise self.summary.damaged(error) from error
        return self.verdict(None)

    def _check_receipt(self, output: Output) -> None:
        """Hold the receipt in the output against the summary, or without one against the input.

        Raises Difference.
        """
        found = output.receipt
        if self.summary is not None:
            document = self.summary.document
            try:
                run, labels = document["run"], document["model"]["labels"]
                wanted = receipt.make(labels, run["fingerprint"], run["writing"])
                # A summary of before there were receipts does not name the option.
                written = run["writing"].get("no_receipt") is False
            except (KeyError, TypeError) as error:
                raise self.summary.damaged(error) from error
            if found is None and written and output.keeps_receipt:
                raise Difference("the receipt in the metadata is missing")
            if found is not None:
                same_section("receipt", wanted, found)
                self.checked.append("the receipt in the output against the summary")
        elif found is not None and self.input != "-" and is_regular(self.input):
            scores = found.get("scores")
            claimed = scores.get("input") if isinstance(scores, dict) else None
            if claimed != sha256_of(Path(self.input)):
                raise Difference("the receipt in the output names another input's SHA-256")
            self.checked.append("the input against the SHA-256 in the output's receipt")

    def _take(self, chunk: Chunk, table: pa.Table, added: Added, rejects: RejectsFile) -> None:
        """Judge and count the rows of a chunk, `table` being the columns added to them.

        Raises Difference.
        """
        if chunk.rows:
            scores = added.take(chunk, table)
            if self.tally is not None and scores is not None:
                self.tally.add(chunk, scores)
            if self.reused is not None:
                self.reused.take(chunk, table, self.added)
        for reject in chunk.rejected:
            rejects.take(reject)
        self.rows["rejected"] += len(chunk.rejected)
        self.rows["read"] += chunk.rows + len(chunk.rejected)
        self.rows["written"] += chunk.rows
        self.reporter.progress(self.rows["written"], None)

    def _columns_added(self, output: Output) -> Added:
        """Return what judges the added columns.

        Raises Difference where they are not those that a run adds.
        """
        prefix, run = self.options.prefix, self.written_by
        labels = None if self.summary is None else self.summary.labels()
        expected = added_schema((), OutputOptions(prefix=prefix)).names
        if run is not None and labels is not None:
            expected = added_schema(tuple(labels), run).names
            self.tally = Tally(tuple(labels), unsure_below=run.unsure_below, winners_only=True)
        self.added = expected if output.added is None else output.added
        added = Added(self.added, prefix, labels, run)
        added.check_names()
        if run is not None and self.added != expected:
            there, wanted = (
                ", ".join(map(printable, names[:20])) for names in (self.added, expected)
            )
            raise Difference(f"the columns after the input's are {there}; the run added {wanted}")
        return added

    def _rows_reused(self) -> ReusedRows | None:
        """Return what compares reused rows, None where the run reused none.

        Raises InputError for a damaged summary.
        """
        if self.summary is None or self.written_by is None:
            return None
        document, labels = self.summary.document, tuple(self.summary.labels())
        section = document["run"].get("reuse")
        if section is None:
            return None
        try:
            (data,) = (entry for entry in document["outputs"] if entry["role"] == "data")
            return ReusedRows(section, data, Path(self.output), labels, self.written_by)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise self.summary.damaged(error) from error

    def _say_what_is_not_known(self, output: Output) -> None:
        """Name what only a summary could tell."""
        self.unchecked.append(
            "hashes, counts and label names: there is no summary beside the output"
        )
        if self.rows["nonfinite"]:
            self.unchecked.append(
                f"{self.rows['nonfinite']:,} rows with text and without label: only a summary says "
                "that the model gave no number for them"
            )
        if output.added is None:
            self.unchecked.append(
                "fields after label and score: there is no header that names them"
            )
        groups = side_table_paths(Path(self.output), OutputOptions(group_by="any"))["groups"]
        if exists(groups):
            self.unchecked.append(
                f"the table {printable(groups)}: there is no summary with its hash"
            )

    def _check_summary(
        self, document: dict[str, Any], input_facts: dict[str, Any], added: Added
    ) -> None:
        """Hold the summary's claims against what was found. Raises Difference."""
        self._check_counts(document, added)
        if self.reused is not None and self.reused.why_not is None:
            self.checked.append(self.reused.finish())
        elif self.reused is not None:
            self.unchecked.append(
                f"which rows were reused, and that they have the scores of before: "
                f"{self.reused.why_not}"
            )
        self._check_files(document, input_facts)
        page = path_beside(Path(self.output), ".report.html")
        if exists(page):
            again = "batchsent report draws it again from the summary"
            if document["run"].get("writing", {}).get("report_examples"):
                again += ", without its examples"
            self.unchecked.append(f"the page {printable(page)}: {again}")
        if document["evaluation"] is not None:
            self.unchecked.append(
                "the evaluation: batchsent evaluate computes it again from the output"
            )

    def _check_counts(self, document: dict[str, Any], added: Added) -> None:
        """Hold the summary's counts against those of the rows. Raises Difference."""
        assert self.tally is not None
        assert self.written_by is not None
        same("status", document["status"], "complete")
        for name, rows in self.rows.items():
            same(f"rows {name}", document["rows"][name], rows)
        counted = self.tally.sections()
        claimed = {
            name: found for name, found in document["predictions"].items() if name not in UNTOLD
        }
        for name in UNTOLD:
            del counted["predictions"][name]
        same_section("predictions", claimed, counted["predictions"])
        corrected = document["predictions"].get("corrected")
        if corrected is not None and corrected["labels"]:
            shares = [label["share"] for label in counted["predictions"]["labels"]]
            said = [label["counted"] for label in corrected["labels"]]
            same_section("shares that were corrected", said, shares)
        same_section(
            "text characters", document["text"]["characters"], counted["text"]["characters"]
        )
        if self.written_by.details:
            same("truncated rows", document["text"]["truncated_rows"], added.truncated)
            same("tokens read", document["text"]["tokens_read"], added.n_tokens)
        if self.written_by.neutral_band is not None:
            claimed = document["predictions"]["neutral"]
            same("neutral rows", claimed["rows"], sum(added.neutral.values()))
            for entry in claimed["by_label"]:
                name = entry["label"]
                same(f"neutral {printable(name)}", entry["count"], added.neutral[name])
        if self.written_by.sentences:
            same("sentences clear_at_least", document["sentences"]["clear_at_least"], CLEAR)
            for name, found in added.sentences.items():
                same(f"sentences {name}", document["sentences"][name], found)
        self.checked.append("counts of rows and labels, scores and lengths against the summary")

    def _check_files(self, document: dict[str, Any], input_facts: dict[str, Any]) -> None:
        """Hold what the summary says of input and outputs against the files. Raises Difference."""
        assert self.written_by is not None
        (data,) = (entry for entry in document["outputs"] if entry["role"] == "data")
        same("rows of the output", data["rows"], self.rows["written"])
        same_file("the output", data, Path(self.output))
        rejects = [entry for entry in document["outputs"] if entry["role"] == "rejects"]
        same(
            "rows of the rejects file",
            sum(entry["rows"] for entry in rejects),
            self.rows["rejected"],
        )
        for entry in rejects:
            same_file("the rejects file", entry, self.rejects_path)
        self._check_input(document, input_facts)
        self.checked.append("sizes and SHA-256 of input and output against the summary")
        tables = side_table_paths(Path(self.output), self.written_by)
        for path, rows in same_tables(
            document["outputs"], tables, Path(self.output), self.options.output_format
        ):
            self.checked.append(
                f"the table {printable(path)}: size, SHA-256 and {rows:,} rows against the summary"
            )

    def _check_input(self, document: dict[str, Any], facts: dict[str, Any]) -> None:
        if self.files:
            unknown = same_files(
                document["input"],
                facts["files"],
                [file.path for file in self.files],
                whole=self.options.limit is None,
            )
            if unknown:
                self.unchecked.append(
                    f"the hashes of {unknown:,} inputs: they are in a store, and were read by "
                    "ranges or in part"
                )
            return
        claimed, found = document["input"], facts["sha256"]
        local = self.input != "-" and not is_url(self.input) and is_regular(self.input)
        in_order = is_url(str(claimed["path"])) or claimed["path"] == "stdin"
        if claimed["sha256"] is None or (not local and found is None):
            self.unchecked.append("the hash of the input: it is in a store and was read by ranges")
        elif (in_order or is_url(self.input)) and self.options.limit is not None:
            # What is read in order is hashed as far as it was read.
            self.unchecked.append("the hash of the input: a part of it was read")
        elif not local:
            same("sha256 of the input", claimed["sha256"], found)
        else:
            same_file("the input", document["input"], Path(self.input))

    def verdict(self, difference: Difference | None) -> dict[str, Any]:
        """Return what was found."""
        if difference is None:
            more = f"with {len(self.added)} columns more"
            said = f"{printable(self.output)} is {printable(self.input)} {more}"
            found = hint = None
        else:
            said = f"{printable(self.output)} is not what it should be: {difference}"
            hint = "score the input again, with --overwrite"
            found = {
                **dataclasses.asdict(difference.location),
                "what": difference.what,
                "input": difference.given,
                "output": difference.found,
            }
        return {
            "schema": SCHEMA,
            "status": "same" if difference is None else "different",
            "verdict": said,
            "hint": hint,
            "difference": found,
            "input": printable(self.input),
            "output": printable(self.output),
            "summary": None if self.summary is None else printable(self.summary.path),
            "compared": self.compared or None,
            "columns": {"input": len(self.columns), "added": self.added},
            "rows": self.rows,
            "checked": self.checked,
            "unchecked": self.unchecked,
        }
