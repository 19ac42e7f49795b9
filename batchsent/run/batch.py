"""The story of a scoring run: check, lock, stream, commit."""

import contextlib
import dataclasses
import datetime
import itertools
import json
import sys
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchsent.errors import (
    EXIT_ROWS_REJECTED,
    BatchsentError,
    GateFailed,
    InputError,
    ModelError,
    OutputError,
    UsageError,
    printable,
)
from batchsent.evaluation import gates
from batchsent.evaluation import summary as summaries
from batchsent.evaluation.gold import GoldRule
from batchsent.evaluation.tally import Tally
from batchsent.formats import ReadOptions, Source, open_sink, open_source
from batchsent.formats.opening import check_new_columns, check_sink, format_of
from batchsent.formats.streams import Stdout
from batchsent.model import calibration
from batchsent.model.loading import ModelIdentity
from batchsent.model.scorer import Scorer
from batchsent.options import build
from batchsent.reporting import Reporter
from batchsent.run.columns import added_batch, added_schema
from batchsent.run.commit import PendingFile, fault, fsync_directory, output_errors, write_file
from batchsent.run.extras import Extras, extra_paths
from batchsent.run.lock import held_lock
from batchsent.run.models import Models, OneModel, describe
from batchsent.run.options import OUTPUT_OPTIONS, SCORE_OPTIONS, BatchOptions
from batchsent.run.parts import Parts, work_directory
from batchsent.run.pipeline import Ahead, Clock
from batchsent.run.preflight import Checked, check_input, ensure_unchanged
from batchsent.run.record import described, failure, is_intact, named, performance
from batchsent.run.rejects import Rejects, over_budget
from batchsent.run.scoring import Scoring
from batchsent.run.signals import Signals


def batch(
    input: str | Path,  # noqa: A002 (what it is)
    output: str | Path,
    *,
    reporter: Reporter | None = None,
    models: Models | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Score the reviews of a file and write the same rows with a label and a score each.

    `input` and `output` are paths, `-` for stdin and stdout; the options are those of BatchOptions. Returns the
    summary that is written beside the output; its `status` is complete, or up_to_date when the output was there
    already, made of the same input by the same model and options. Rerun after an interruption, it goes on where the
    first run stopped and writes the same bytes. Raises BatchsentError.
    """
    settings = build(BatchOptions, options)
    with Signals() as signals:
        run = Run(str(input), str(output), settings, models or OneModel(settings), reporter or Reporter(), signals)
        return run.go()


class Run:
    """One input, one output."""

    def __init__(
        self,
        input_path: str,
        output_path: str,
        options: BatchOptions,
        models: Models,
        reporter: Reporter,
        signals: Signals,
    ) -> None:
        self.input, self.output, self.options = input_path, output_path, options
        self.models, self.reporter, self.signals = models, reporter, signals
        self.to_stdout = output_path == "-"
        self.clock = Clock()
        self.started = datetime.datetime.now(datetime.UTC)
        beside = None if self.to_stdout else Path(output_path)
        self.summary_path = Path(options.summary) if options.summary else beside and named(beside, ".summary.json")
        self.rejects_path = Path(options.rejects) if options.rejects else beside and named(beside, ".rejects.csv")
        self.report_path = beside and named(beside, ".report.html")
        self.extra_paths = extra_paths(beside, options) if beside else {}
        self.failure_path = beside and named(beside, ".summary.failed.json")
        self.begun = False  # whether there is anything on the disk yet
        self.tally = Tally(())

    def go(self) -> dict[str, Any]:
        """Check, lock, stream, commit; return the summary."""
        self.check_paths()
        if self.to_stdout or self.options.dry_run:
            return self.go_locked()
        with held_lock(Path(self.output), self.options.lock_wait):
            try:
                document = self.go_locked()
            except BatchsentError as error:
                self.note_failure(error)
                raise
        self.check_gates(document)
        return document

    def note_failure(self, error: BatchsentError) -> None:
        """Leave a summary that says what went wrong, where there is room for it; a refusal leaves nothing behind."""
        if self.failure_path is not None and self.begun:
            with contextlib.suppress(OutputError):
                write_file(
                    self.failure_path, failure(error, printable(self.input), self.facts(), self.tally, self.clock)
                )

    def check_gates(self, document: dict[str, Any]) -> None:
        """Raise GateFailed where a figure is under what was asked for; the output stands all the same."""
        failed = gates.under(document["evaluation"], self.options.fail_under)
        if failed:
            raise GateFailed("; ".join(found["message"] for found in failed), document=document)

    def check_paths(self) -> None:
        """Refuse what cannot be meant. Raises UsageError."""
        options = self.options
        if not options.prefix.isprintable():
            raise UsageError(f"--prefix {printable(options.prefix)}: not printable", hint="use letters that print")
        if self.input == "-" and sys.stdin is not None and sys.stdin.isatty():
            raise UsageError(
                "stdin is a terminal", hint="name a file, or pipe one in: cat reviews.csv | batchsent batch - -o -"
            )
        if options.bad_rows == "reject" and self.rejects_path is None:
            raise UsageError("rejected rows have no place to go", hint="add --rejects FILE")
        if options.bad_rows != "reject" and (options.max_bad_rows or options.rejects):
            raise UsageError("--max-bad-rows and --rejects do nothing by themselves", hint="add --bad-rows reject")
        if (options.gold_stars is None) != (options.stars is None):
            raise UsageError(
                "--gold-stars and --stars go together", hint="for instance --stars 1-2:NEGATIVE,4-5:POSITIVE"
            )
        if options.gold and options.gold_stars:
            raise UsageError("--gold and --gold-stars both say what is right", hint="leave one of them out")
        if options.fail_under and not (options.gold or options.gold_stars):
            raise UsageError("--fail-under has no figures to go by", hint="add --gold COLUMN")
        if options.disagreements and not (options.gold or options.gold_stars):
            raise UsageError("--disagreements has nothing to disagree with", hint="add --gold COLUMN or --gold-stars")
        if (options.group_by or options.disagreements) and self.to_stdout:
            raise UsageError("tables beside the output have no place beside stdout", hint="write to a file")
        if options.report and self.to_stdout:
            raise UsageError("--report has no place for its page", hint="write to a file, or use batchsent report")
        gates.under(None, options.fail_under)  # a misspelt gate is refused before the file is read
        over_budget(options.max_bad_rows, 0, 1)
        self.check_names()
        if self.to_stdout:
            return
        output = Path(self.output)
        if not options.output_format:
            format_of(self.output, what="output")
        if output.is_dir():
            raise UsageError(f"{printable(output)} is a folder", hint="name a file in it")

    def check_names(self) -> None:
        """Refuse to write one file over another, and where nothing can be written. Raises UsageError."""
        read = {} if self.input == "-" else {"input": Path(self.input)}
        written = {} if self.to_stdout else {"output": Path(self.output)}
        written |= {"summary": self.summary_path} if self.summary_path else {}
        written |= {"rejects": self.rejects_path} if self.rejects_path else {}
        written |= self.extra_paths
        for what, path in (read | written).items():
            if "\0" in str(path):
                raise UsageError(f"{what} {printable(path)}: no file can have this name", hint="choose another name")
        for (what, path), (other, taken) in itertools.combinations((read | written).items(), 2):
            if path.resolve() == taken.resolve() or (path.exists() and taken.exists() and path.samefile(taken)):
                raise UsageError(f"{what} and {other} are the same file", hint=f"choose another name for the {other}")
        for what, path in written.items():
            if not path.parent.is_dir():
                raise UsageError(f"the folder {printable(path.parent)} does not exist", hint="make it first")
            if path.exists() and not path.is_file() and not path.is_dir():
                # Renaming over it would put a file in the place of /dev/null.
                raise UsageError(f"{what} {printable(path)} is a device or pipe", hint="write to stdout: -o - > ...")
        if self.options.summary and Path(self.options.summary).exists() and not self.options.overwrite:
            try:
                summaries.read(self.options.summary)
            except InputError as error:
                raise UsageError(
                    f"{printable(self.options.summary)} exists already and is no summary",
                    hint="choose another name for the summary or add --overwrite",
                ) from error

    def go_locked(self) -> dict[str, Any]:
        """Do all of it, while nobody else writes this output."""
        options = self.options
        source = open_source(self.input, options, gold_column=options.gold or options.gold_stars)
        try:
            identity = self.models.identity()
            added = added_schema(identity.labels, options)
            check_new_columns(source, added.names)
            check_sink(self.output, source, added, options.output_format)
            judged = options.gold or options.gold_stars
            gold = GoldRule.parse(identity.labels, options.gold_map, options.stars) if judged else None
            extras = Extras(source, identity.labels, gold, options, self.extra_paths)
            temperature = self.temperature(identity)
            with self.clock.busy("check"):
                checked = check_input(self.input, options)
            if checked and over_budget(options.max_bad_rows, checked.bad_rows, checked.bad_rows + (checked.rows or 0)):
                raise self.too_many(checked.bad_rows)
            fingerprint = self.fingerprint(source, identity, checked)
            if options.dry_run:
                return self.plan(source, identity, checked, added)
            if (done := self.up_to_date(fingerprint)) is not None:
                return done
            parts = self.begin_parts(fingerprint)
            with self.clock.busy("load"):
                scorer = self.models.open()
            for line in describe(scorer):
                self.reporter.notice(line)
            self.tally = Tally(scorer.labels, gold, unsure_below=options.unsure_below)
            return self.stream(source, scorer, extras, temperature, parts, checked, added, fingerprint)
        finally:
            source.close()

    def temperature(self, identity: ModelIdentity) -> float | None:
        """Return what the scores are calibrated by, where that was asked for. Raises ModelError."""
        if not self.options.calibrated:
            return None
        found = calibration.read(identity.path, weights_sha256=identity.weights_sha256)
        if found is None:
            raise ModelError(
                f"{printable(identity.source)} has no {calibration.FILE}",
                hint="leave out --calibrated, or use a model made by batchsent finetune",
            )
        return found.temperature

    def fingerprint(self, source: Source, identity: ModelIdentity, checked: Checked | None) -> dict[str, Any]:
        """Return what decides the scores, by the names a person knows the things by."""
        options = dataclasses.asdict(self.options)
        reading = {f.name: options[f.name] for f in dataclasses.fields(ReadOptions) if f.name != "limit"}
        return {
            "input": checked.sha256 if checked else source.name,
            "reading": json.dumps(reading, sort_keys=True),
            "model weights": identity.weights_sha256,
            "tokenizer": identity.tokenizer_sha256,
            "model configuration": identity.config_sha256,
            **{f"--{name.replace('_', '-')}": options[name] for name in SCORE_OPTIONS},
            "versions": ", ".join(f"{name} {found}" for name, found in summaries.versions().items()),
        }

    def output_facts(self) -> dict[str, Any]:
        """Return the options that decide how the scores are written down."""
        options = dataclasses.asdict(self.options)
        return {name: options[name] for name in OUTPUT_OPTIONS}

    def up_to_date(self, fingerprint: dict[str, Any]) -> dict[str, Any] | None:
        """Return the summary of an output that this very run would make again, None if there is none.

        The output is believed only after its bytes have been hashed again.
        """
        if self.to_stdout or self.input == "-" or self.summary_path is None or self.options.restart:
            return None
        try:
            document = summaries.read(self.summary_path)
        except InputError:
            return None
        run = document["run"]
        if run.get("fingerprint") != fingerprint or run.get("writing") != self.output_facts():
            return None
        places = {"data": Path(self.output), "rejects": self.rejects_path, **self.extra_paths}
        if not all(is_intact(places.get(written["role"]), written) for written in document["outputs"]):
            return None
        Parts(work_directory(Path(self.output))).remove()
        if self.failure_path is not None:
            with contextlib.suppress(OSError):
                self.failure_path.unlink()  # of a sitting that failed in its very last step
        self.reporter.notice(f"{printable(self.output)} is up to date")
        return {**document, "status": "up_to_date", "exit_code": 0}

    def begin_parts(self, fingerprint: dict[str, Any]) -> Parts | None:
        """Make or take up the work directory. Raises UsageError for an output, or work, that is not this run's."""
        if self.to_stdout:
            return None
        output = Path(self.output)
        parts = Parts(work_directory(output))
        if output.exists() and not self.options.overwrite and not parts.committed(output):
            raise UsageError(f"{printable(output)} exists already", hint="choose another name or add --overwrite")
        if parts.begin(fingerprint, restart=self.options.restart):
            self.reporter.notice("going on with the work of an earlier run")
        self.begun = True
        return parts

    def stream(
        self,
        source: Source,
        scorer: Scorer,
        extras: Extras,
        temperature: float | None,
        parts: Parts | None,
        checked: Checked | None,
        added: pa.Schema,
        fingerprint: dict[str, Any],
    ) -> dict[str, Any]:
        """Read, score and write chunk by chunk, then commit."""
        options, output, tally = self.options, Path(self.output), self.tally
        needed = checked.bytes if checked else None
        with contextlib.ExitStack() as stack, output_errors(self.output, needed):
            file: Any = Stdout() if self.to_stdout else stack.enter_context(PendingFile(output))
            rejects = Rejects(self.rejects_path) if options.bad_rows == "reject" and self.rejects_path else None
            if rejects:
                stack.callback(rejects.discard)
            with self.signals.patient():
                sink = open_sink(file, self.output, source, added, options.output_format)
                scoring = Scoring(source, scorer, parts, self.clock, self.signals.stop)
                flow = Ahead(scoring, 2)
                stack.callback(flow.close)
                stack.callback(scoring.close)
                for chunk, scores in flow:
                    # Parts keep the raw softmax, so that a resumed run may ask for the other.
                    if temperature is not None:
                        scores = calibration.calibrated(scores, temperature)
                    with self.clock.busy("write"):
                        sink.write(chunk, added_batch(scores, scorer.labels, added, options))
                        tally.add(chunk, scores)
                        extras.add(chunk, scores)
                        tally.reject(len(chunk.rejected))
                        if rejects:
                            rejects.write(chunk.rejected)
                    seen = chunk.start_row + chunk.rows
                    self.reporter.progress(seen, checked.rows if checked else None)
                    if over_budget(options.max_bad_rows, tally.rejected, max(seen + tally.rejected, 1000)):
                        raise self.too_many(tally.rejected)
            # A signal that came meanwhile has been raised by now: from here on there is nothing left to lose.
            sections = tally.sections()
            if over_budget(options.max_bad_rows, tally.rejected, sections["rows"]["read"]):
                raise self.too_many(tally.rejected)
            if checked:
                ensure_unchanged(self.input, checked)
            with self.clock.busy("write"):
                sink.finish()
            if parts and parts.mismatched:
                self.reporter.warning("the input was not the stream of the earlier run; its work could not be used")
            outputs = [described(self.output, file, "data", sections["rows"]["written"])]
            if rejects and rejects.rows:
                outputs.append(described(str(self.rejects_path), rejects.file, "rejects", rejects.rows))
            tables = extras.write()
            for role, table in tables.items():
                stack.callback(table.close)
                outputs.append(described(str(table.final), table, role, extras.rows()[role]))
            warnings: list[dict[str, Any]] = [*source.warnings(), *extras.warnings()]
            how = {"scores": "softmax" if temperature is None else "calibrated", "temperature": temperature}
            document = self.summary(source, scorer, sections, parts, checked, outputs, fingerprint, warnings, how)
            with self.signals.patient():
                self.commit(file, rejects, list(tables.values()), parts, document)
        return document

    def commit(
        self,
        file: Any,
        rejects: Rejects | None,
        tables: list[PendingFile],
        parts: Parts | None,
        document: dict[str, Any],
    ) -> None:
        """Put everything in its place: data first, summary last as the mark of success."""
        content = summaries.dumps(document)
        if parts:
            parts.announce(file.size, file.sha256)
            # An old summary must not stand beside new data, not even for a moment.
            for stale in (self.summary_path, self.rejects_path, self.report_path, self.failure_path):
                if stale is not None and stale.exists():
                    fault("unlink")
                    stale.unlink()
                    fsync_directory(stale.parent)
            file.commit()
        if rejects:
            rejects.commit()
        for table in tables:
            table.commit()
        if self.options.report and self.report_path is not None:
            from batchsent.evaluation.report import render

            write_file(self.report_path, render(document))
        if self.summary_path is not None:
            write_file(self.summary_path, content)
        if parts:
            parts.remove()

    def summary(
        self,
        source: Source,
        scorer: Scorer,
        sections: dict[str, Any],
        parts: Parts | None,
        checked: Checked | None,
        outputs: list[dict[str, Any]],
        fingerprint: dict[str, Any],
        warnings: list[dict[str, Any]],
        how: dict[str, Any],
    ) -> dict[str, Any]:
        """Return the summary of the finished run; `how` says what the scores are."""
        facts, read = scorer.facts(), source.facts()
        if checked:
            read |= {"bytes": checked.bytes, "sha256": checked.sha256}
        exit_code = EXIT_ROWS_REJECTED if sections["rows"]["rejected"] else 0
        if gates.under(sections["evaluation"], self.options.fail_under):
            exit_code = GateFailed.exit_code
        reused = parts.reused_rows if parts else 0
        return summaries.build(
            status="complete",
            exit_code=exit_code,
            run=self.facts() | {"resumed_rows": reused, "writing": self.output_facts(), "fingerprint": fingerprint},
            package=summaries.versions(),
            input=read,
            outputs=outputs,
            model=facts["model"] | how,
            device=facts["device"],
            tally_sections=sections,
            performance=performance(self.clock, sections, reused, facts["device"]),
            warnings=warnings,
        )

    def facts(self) -> dict[str, Any]:
        """Return which run this is."""
        return {
            "id": uuid.uuid4().hex,
            "command": [printable(word) for word in sys.argv],
            "started": self.started.isoformat(timespec="seconds"),
            "ended": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "elapsed_s": round(self.clock.elapsed_s, 3),
            "options": dataclasses.asdict(self.options),
        }

    def plan(
        self, source: Source, identity: ModelIdentity, checked: Checked | None, added: pa.Schema
    ) -> dict[str, Any]:
        """Return what a run would do."""
        return {
            "status": "dry_run",
            "input": source.facts() | ({"sha256": checked.sha256} if checked else {}),
            "rows": checked.rows if checked else None,
            "bad_rows": checked.bad_rows if checked else None,
            "output": self.output,
            "summary": None if self.summary_path is None else str(self.summary_path),
            "new_columns": list(added.names),
            "model": {"source": identity.source, "labels": list(identity.labels), "max_length": identity.max_length},
        }

    def too_many(self, bad_rows: int) -> InputError:
        """Return the error of a spent budget."""
        return InputError(
            f"{printable(self.input)}: {bad_rows:,} bad row(s), more than --max-bad-rows {self.options.max_bad_rows}",
            hint="raise the budget, or leave it out and look at the first bad row with --bad-rows error",
        )
