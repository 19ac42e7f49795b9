"""Proof that an output is its input with scores behind every row: the row contract, held against two files.

Knows what scores look like and what a summary claims; how rows are told apart is formats/comparing.py's business.
"""

import dataclasses
import hashlib
import typing
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchsent.chunk import Chunk, Reject, is_blank
from batchsent.errors import GateFailed, InputError, UsageError, printable
from batchsent.evaluation import summary as summaries
from batchsent.formats import ReadOptions, open_source
from batchsent.formats.comparing import Output, open_output
from batchsent.formats.copied import longest_record
from batchsent.formats.differences import Difference, Place, damage, shown
from batchsent.formats.records import Dialect, scan
from batchsent.formats.streams import InputStream
from batchsent.options import build, option
from batchsent.reporting import Reporter

SCHEMA = "batchsent.verification/1"

# More different labels than this are no labels.
MOST_LABELS = 10_000
# The winner of n labels has 1/n at least, but for rounding.
LEAST_WINNER = 1 - 1e-5


@dataclass(frozen=True)
class VerifyOptions(ReadOptions):
    """How two files are held against each other; what is not given is taken from the summary, where there is one."""

    prefix: str = option("", "What stands in front of the names of the new columns.")
    output_format: str | None = option(
        None, "Format of the output, where the name does not tell.", choices=("csv", "tsv", "parquet", "arrow")
    )
    summary: str | None = option(None, "Where the summary is [default: OUTPUT.summary.json].", metavar="FILE")
    rejects: str | None = option(None, "Where rejected rows are [default: OUTPUT.rejects.csv].", metavar="FILE")


def verify(
    input: str | Path,  # noqa: A002 (what it is)
    output: str | Path,
    *,
    reporter: Reporter | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Prove that `output` has the rows of `input`, each once, in order and unchanged, with scores behind them.

    The options are those of VerifyOptions; those that are not given are those of the run, as its summary has them.
    CSV that was copied is compared byte for byte, everything else value for value. Beyond that scores must be float32
    numbers from 0 to 1, rows without text have no label, and every count and hash of the summary must be that of the
    files. Memory does not grow with the files. Returns the verdict, with `status` same, the rows, and what was checked
    and what could not be.

    Raises GateFailed for the first difference, with the verdict as its attribute `document`; InputError where the
    input or the summary cannot be read, or the output is not there; UsageError for options that do not fit.
    """
    settings = build(VerifyOptions, options)
    check = Verification(str(input), str(output), settings, reporter or Reporter())
    try:
        return check.go()
    except Difference as error:
        document = check.verdict(error)
        raise GateFailed(document["verdict"], document=document, hint=document["hint"]) from error


class Verification:
    """One input, one output."""

    def __init__(self, source: str, output: str, options: VerifyOptions, reporter: Reporter) -> None:
        if output == "-":
            raise UsageError("an output is verified once it is a file", hint="name the file")
        self.input, self.output, self.reporter = source, output, reporter
        self.summary_path = options.summary or f"{output}.summary.json"
        self.summary: dict[str, Any] | None = None
        if options.summary is not None or Path(self.summary_path).exists():
            self.summary = summaries.read(self.summary_path)
        self.options = self._options_of_the_run(options)
        self.rejects_path = Path(self.options.rejects or f"{output}.rejects.csv")
        if self.options.bad_rows == "error" and self.summary is None and self.rejects_path.exists():
            self.options = dataclasses.replace(self.options, bad_rows="reject")
        self.rows = dict.fromkeys(("read", "scored", "blank", "rejected", "nonfinite", "written"), 0)
        self.labels: Counter[str] = Counter()
        self.compared = ""
        self.columns: list[str] = []
        self.added: list[str] = []
        self.checked: list[str] = []
        self.unchecked: list[str] = []

    def _options_of_the_run(self, options: VerifyOptions) -> VerifyOptions:
        """Return the options with the run's own in place of defaults. Raises InputError for a damaged summary."""
        if self.summary is None:
            return options
        recorded = self.summary["run"].get("options") or {}
        hints = typing.get_type_hints(VerifyOptions)
        taken = {}
        for field in dataclasses.fields(VerifyOptions):
            if field.name not in {"summary", "chunk_rows"} and field.name in recorded:
                if not isinstance(recorded[field.name], hints[field.name]):
                    raise self._damaged(f"the option {field.name} is {recorded[field.name]!r}")
                if getattr(options, field.name) == field.default:
                    taken[field.name] = recorded[field.name]
        return build(VerifyOptions, dataclasses.asdict(options) | taken)

    def _damaged(self, what: object) -> InputError:
        return InputError(
            f"{printable(self.summary_path)} is damaged: {printable(what)}",
            hint="move it away to verify the rows without it",
        )

    def go(self) -> dict[str, Any]:
        """Hold the files against each other; return the verdict. Raises Difference."""
        options = self.options
        with closing(open_source(self.input, options)) as source:
            self.columns = source.columns
            label = f"{options.prefix}label"
            with closing(open_output(self.output, source, options, options.output_format, label)) as output:
                self.compared = output.compared
                self._name_columns(output)
                with closing(self._rejects()) as rejects:
                    next(rejects)
                    for chunk in source.chunks():
                        added = output.take(chunk)
                        if chunk.rows:
                            self._judge(chunk, added)
                        for reject in chunk.rejected:
                            rejects.send(reject)
                        self.rows["rejected"] += len(chunk.rejected)
                        self.rows["read"] += chunk.rows + len(chunk.rejected)
                        self.rows["written"] += chunk.rows
                        self.reporter.progress(self.rows["written"], None)
                    rejects.send(None)
                output.finish()
            input_facts = source.facts()
        kind = "byte for byte" if self.compared == "bytes" else "value for value"
        self.checked.append(f"{self.rows['written']:,} rows, each once, in order, the input's columns {kind}")
        self.checked.append("labels and scores of every row; none where there is no text")
        if self.rows["rejected"]:
            self.checked.append(f"{self.rows['rejected']:,} rejected rows, each in {printable(self.rejects_path)}")
        if self.summary is None:
            self.unchecked.append("hashes, counts and label names: there is no summary beside the output")
        else:
            try:
                self._check_summary(self.summary, input_facts)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise self._damaged(error) from error
        return self.verdict(None)

    def _name_columns(self, output: Output) -> None:
        """See what the added columns are called. Raises Difference where they are not label, score and so on."""
        prefix = self.options.prefix
        first = [f"{prefix}label", f"{prefix}score"]
        self.added = first if output.added is None else output.added
        if self.added[:2] != first:
            found = ", ".join(map(printable, self.added[:8])) or "none"
            raise Difference(f"the columns behind the input's are not {first[0]}, {first[1]} and so on but: {found}")

    def _judge(self, chunk: Chunk, added: pa.Table) -> None:
        """See whether the added columns of a chunk can be what a model said. Raises Difference."""
        start, prefix = chunk.start_row, self.options.prefix
        known = {name: added.column(n) for n, name in enumerate(self.added) if n < added.num_columns}
        label, score = known[f"{prefix}label"], f"{prefix}score"
        scores = self._numbers(known[score], score, start)
        given = np.array(label.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
        blank = np.fromiter(map(is_blank, chunk.texts), dtype=bool, count=chunk.rows)
        self._all(~(blank & given), f"{prefix}label", start, label, "a label where there is no text")
        self._all(given == ~np.isnan(scores), score, start, known[score], "label and score must come together")
        self.rows["blank"] += int(blank.sum())
        self.rows["scored"] += int(given.sum())
        self.rows["nonfinite"] += int((~blank & ~given).sum())

        names = self._label_names()
        encoded = label.combine_chunks().dictionary_encode()
        distinct = encoded.dictionary.to_pylist()
        places = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        if names is not None:
            foreign = [n for n, name in enumerate(distinct) if name not in names]
            listed = ", ".join(map(printable, names[:20]))
            self._all(~np.isin(places, foreign), f"{prefix}label", start, label, f"not one of the labels {listed}")
            right = ~(scores < LEAST_WINNER / len(names))
            self._all(right, score, start, known[score], f"too low for the highest of {len(names)} probabilities")
        for n, rows in enumerate(np.bincount(places[places >= 0], minlength=len(distinct)).tolist()):
            self.labels[distinct[n]] += rows
        if len(self.labels) > MOST_LABELS:
            raise Difference(f"the column {printable(prefix)}label holds more than {MOST_LABELS:,} labels")

        front = f"{prefix}prob_"
        probabilities = {name: self._numbers(known[name], name, start) for name in known if name.startswith(front)}
        for name, values in probabilities.items():
            self._all(np.isnan(values) == ~given, name, start, known[name], "label and probability must come together")
            self._all(~(values > scores), name, start, known[name], "higher than the score")
            own = places == (distinct.index(name[len(front) :]) if name[len(front) :] in distinct else -2)
            self._all(~own | (values == scores), name, start, known[name], "not the score of its label")
        for name, what in (("n_tokens", "a count"), ("truncated", "true or false"), ("unsure", "true or false")):
            if f"{prefix}{name}" in known:
                self._typed(known[f"{prefix}{name}"], f"{prefix}{name}", start, what)

    def _numbers(self, column: pa.ChunkedArray, name: str, start: int) -> NDArray[np.float32]:
        """Return probabilities, NaN for null. Raises Difference for what is none."""
        if pa.types.is_string(column.type):
            try:
                parsed = pc.cast(column, pa.float32())
            except pa.ArrowInvalid:
                parsed = pa.chunked_array([pa.array([_float32(text) for text in column.to_pylist()], pa.float32())])
            # What was written is the shortest decimal that gives this float32: any other digits were put there later.
            written = pc.fill_null(pc.equal(pc.cast(parsed, pa.string()), column), False)  # noqa: FBT003 (a value)
            right = np.array(pc.or_(written, column.is_null()).to_numpy(zero_copy_only=False), dtype=bool)
            self._all(right, name, start, column, "not a float32 in its shortest form")
            column = parsed
        if column.type != pa.float32():
            raise Difference(f"its type is {column.type}, not float", Place(column=name))
        missing = column.is_null().to_numpy(zero_copy_only=False).astype(bool)
        values = column.fill_null(0).to_numpy(zero_copy_only=False)
        self._all((values >= 0) & (values <= 1), name, start, column, "not a probability")
        return np.where(missing, np.float32("nan"), values)

    def _typed(self, column: pa.ChunkedArray, name: str, start: int, what: str) -> None:
        if pa.types.is_string(column.type):
            pattern = "^[0-9]+$" if what == "a count" else "^(true|false)$"
            right = pc.fill_null(pc.match_substring_regex(column, pattern), what != "a count")
            self._all(np.array(right.to_numpy(zero_copy_only=False), dtype=bool), name, start, column, f"not {what}")
        elif column.type != (pa.int32() if what == "a count" else pa.bool_()):
            raise Difference(f"its type is {column.type}", Place(column=name))

    def _all(self, right: NDArray[np.bool_], name: str, start: int, column: pa.ChunkedArray, what: str) -> None:
        """Raise Difference for the first row that is not right."""
        if not right.all():
            row = int((~right).argmax())
            found = shown(column[row].as_py())
            raise Difference(f"{what}: {found}", Place(start + row + 1, column=name), found=found)

    def _label_names(self) -> list[str] | None:
        """Return the model's labels, as the summary has them; None without one. Raises InputError."""
        if self.summary is None:
            return None
        names = self.summary["model"].get("labels")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise self._damaged("the model has no labels")
        return names

    def _rejects(self) -> typing.Generator[None, Reject | None, None]:
        """Take the rejected rows, then None, and hold each against the rejects file. Raises Difference."""
        reject = yield
        if reject is None:
            yield
            return
        named = printable(self.rejects_path)
        if not self.rejects_path.exists():
            raise Difference(f"this row was left out, and there is no {named} to name it", Place(line=reject.line))
        with closing(InputStream(str(self.rejects_path))) as stream:
            entries = _entries(stream, longest_record(self.options))
            next(entries, None)  # the header
            while reject is not None:
                entry = next(entries, None)
                if entry is None or entry[:2] != [str(reject.line).encode(), str(reject.byte_offset).encode()]:
                    raise Difference(f"this row was left out, and {named} does not name it", Place(line=reject.line))
                if entry[3:] != [reject.raw]:
                    raise Difference(f"{named} has another row in its place", Place(line=reject.line))
                reject = yield
            if next(entries, None) is not None:
                raise Difference(f"{named} names rows that can be read")
        yield

    def _check_summary(self, document: dict[str, Any], input_facts: dict[str, Any]) -> None:
        """Hold the summary's claims against what was found. Raises Difference."""
        self._claim("status", document["status"], "complete")
        for name, rows in self.rows.items():
            self._claim(f"rows {name}", document["rows"][name], rows)
        claimed = {entry["label"]: entry["count"] for entry in document["predictions"]["labels"]}
        self._claim("the labels", list(claimed), self._label_names())
        for name in dict.fromkeys([*claimed, *self.labels]):
            self._claim(f"rows labelled {printable(name)}", claimed.get(name, 0), self.labels[name])
        self.checked.append("counts of rows and labels against the summary")

        (data,) = (entry for entry in document["outputs"] if entry["role"] == "data")
        self._claim("rows of the output", data["rows"], self.rows["written"])
        self._claim_file("the output", data, Path(self.output))
        rejects = [entry for entry in document["outputs"] if entry["role"] == "rejects"]
        self._claim("rows of the rejects file", sum(entry["rows"] for entry in rejects), self.rows["rejected"])
        for entry in rejects:
            self._claim_file("the rejects file", entry, self.rejects_path)
        if self.input != "-" and Path(self.input).is_file():
            # A run that read a pipe up to a limit hashed what it had read.
            if document["input"]["path"] == "stdin" and self.options.limit is not None:
                self.unchecked.append("the hash of the input: the run read a part of it from a pipe")
                return
            self._claim_file("the input", document["input"], Path(self.input))
        else:
            self._claim("sha256 of the input", document["input"]["sha256"], input_facts["sha256"])
        self.checked.append("sizes and SHA-256 of input and output against the summary")

    def _claim_file(self, what: str, claimed: dict[str, Any], path: Path) -> None:
        self._claim(f"bytes of {what}", claimed["bytes"], path.stat().st_size)
        with path.open("rb") as file:
            self._claim(f"sha256 of {what}", claimed["sha256"], hashlib.file_digest(file, "sha256").hexdigest())

    def _claim(self, what: str, claimed: Any, found: Any) -> None:
        if type(claimed) is not type(found) or claimed != found:
            raise Difference(f"{what}: {shown(claimed)} in the summary, {shown(found)} in the files")

    def verdict(self, difference: Difference | None) -> dict[str, Any]:
        """Return what was found."""
        if difference is None:
            said = f"{printable(self.output)} is {printable(self.input)} with {len(self.added)} columns more"
            found = hint = None
        else:
            said = f"{printable(self.output)} is not what it should be: {difference}"
            hint = "score the input again, with --overwrite"
            found = {
                **dataclasses.asdict(difference.place),
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
            "summary": None if self.summary is None else printable(self.summary_path),
            "compared": self.compared or None,
            "columns": {"input": len(self.columns), "added": self.added},
            "rows": self.rows,
            "checked": self.checked,
            "unchecked": self.unchecked,
        }


def _entries(stream: InputStream, longest: int) -> Iterator[list[bytes]]:
    """Yield the fields of each record of a rejects file. Raises Difference for one that is damaged."""
    dialect = Dialect()
    with damage():
        for run in scan(stream, dialect, max_record_bytes=longest, name="the rejects file"):
            for n in range(len(run)):
                one = run.slice(n, n + 1)
                yield [dialect.unquote(one.fields(c)[0]) for c in range(int(one.widths[0]))]


def _float32(text: str | None) -> float | None:
    """Return the number of a text, null where there is none: then it is not what was written."""
    try:
        return None if text is None else float(np.float32(text))
    except ValueError:
        return None
