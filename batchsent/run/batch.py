"""The story of a scoring run: check, lock, stream, commit."""

import contextlib
import datetime
from pathlib import Path
from typing import Any

from batchsent.errors import BatchsentError, GateFailed, InputError, OutputError, UsageError, printable
from batchsent.evaluation import summary as summaries
from batchsent.evaluation.gates import under
from batchsent.evaluation.tally import Tally
from batchsent.formats import open_sink, open_source
from batchsent.formats.streams import STDOUT, HashedOutput
from batchsent.memory import memory_errors
from batchsent.model.calibration import calibrated
from batchsent.model.scorer import Scorer
from batchsent.options import build
from batchsent.reporting import Reporter
from batchsent.run.columns import added_batch
from batchsent.run.commit import PendingFile, output_errors, remove, write_file
from batchsent.run.job import Job, prepare
from batchsent.run.lock import held_lock
from batchsent.run.models import Models, OneModel, describe
from batchsent.run.options import BatchOptions
from batchsent.run.parts import Parts, work_directory
from batchsent.run.pipeline import Ahead, Clock
from batchsent.run.places import Places
from batchsent.run.preflight import ensure_unchanged
from batchsent.run.record import described, failure, is_intact, plan, run_facts, success
from batchsent.run.refusals import check_options
from batchsent.run.rejects import Rejects, check_budget
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
        self.options, self.models, self.reporter, self.signals = options, models, reporter, signals
        self.places = Places.of(input_path, output_path, options)
        self.clock = Clock()
        self.started = datetime.datetime.now(datetime.UTC)
        self.begun = False  # whether there is anything on the disk yet
        self.tally = Tally(())

    def go(self) -> dict[str, Any]:
        """Check, lock, stream, commit; return the summary. Raises GateFailed with the output in its place."""
        options, target = self.options, self.places.target
        check_options(options, self.places)
        self.places.check(options)
        if target is None or options.dry_run:
            document = self.go_locked()
        else:
            with held_lock(target, options.lock_wait):
                try:
                    with memory_errors():
                        document = self.go_locked()
                except BatchsentError as error:
                    self.note_failure(error)
                    raise
        if options.fail_under and not options.dry_run and (failed := under(document["evaluation"], options.fail_under)):
            raise GateFailed("; ".join(found["message"] for found in failed), document=document)
        return document

    def note_failure(self, error: BatchsentError) -> None:
        """Leave a summary that says what went wrong, where there is room for it; a refusal leaves nothing behind."""
        if self.places.failure is not None and self.begun:
            run = run_facts(self.options, self.started, self.clock)
            content = failure(error, printable(self.places.input), run, self.tally, self.clock)
            with contextlib.suppress(OutputError):
                write_file(self.places.failure, content)

    def go_locked(self) -> dict[str, Any]:
        """Do all of it, while nobody else writes this output."""
        options = self.options
        source = open_source(self.places.input, options, gold_column=options.gold or options.gold_stars)
        try:
            job = prepare(source, self.models.identity(), options, self.places, self.clock)
            if options.dry_run:
                return plan(job, self.places)
            if (done := self.up_to_date(job)) is not None:
                return done
            parts = self.begin_parts(job)
            with self.clock.busy("load"):
                scorer = self.models.open()
            for line in describe(scorer):
                self.reporter.notice(line)
            self.tally = Tally(scorer.labels, job.gold, unsure_below=options.unsure_below)
            return self.stream(job, scorer, parts)
        finally:
            source.close()

    def up_to_date(self, job: Job) -> dict[str, Any] | None:
        """Return the summary of an output that this very run would make again, None if there is none.

        The output is believed only after its bytes have been hashed again.
        """
        places = self.places
        if places.target is None or places.summary is None or places.input == "-" or self.options.restart:
            return None
        try:
            document = summaries.read(places.summary)
        except InputError:
            return None
        run = document["run"]
        if run.get("fingerprint") != job.fingerprint or run.get("writing") != job.writing:
            return None
        files = {"data": places.data, "rejects": places.rejects, **places.tables}
        if not all(is_intact(files.get(written["role"]), written) for written in document["outputs"]):
            return None
        Parts(work_directory(places.target)).remove()
        if places.failure is not None:
            with contextlib.suppress(OSError):
                places.failure.unlink()  # of a sitting that failed in its very last step
        self.reporter.notice(f"{printable(places.output)} is up to date")
        return {**document, "status": "up_to_date", "exit_code": 0}

    def begin_parts(self, job: Job) -> Parts | None:
        """Make or take up the work directory. Raises UsageError for an output, or work, that is not this run's."""
        target = self.places.target
        if target is None:
            return None
        parts = Parts(work_directory(target))
        if target.exists() and not self.options.overwrite and not parts.committed(target):
            raise UsageError(
                f"{printable(self.places.output)} exists already", hint="choose another name or add --overwrite"
            )
        if parts.begin(job.fingerprint, restart=self.options.restart):
            self.reporter.notice("going on with the work of an earlier run")
        self.begun = True
        return parts

    def stream(self, job: Job, scorer: Scorer, parts: Parts | None) -> dict[str, Any]:
        """Read, score and write chunk by chunk, then commit."""
        options, places, tally, checked = self.options, self.places, self.tally, job.checked
        with contextlib.ExitStack() as stack, output_errors(places.output, checked.bytes if checked else None):
            file = HashedOutput(STDOUT) if places.data is None else stack.enter_context(PendingFile(places.data))
            rejects = Rejects(places.rejects) if options.bad_rows == "reject" and places.rejects else None
            if rejects:
                stack.callback(rejects.discard)
            with self.signals.patient():
                sink = open_sink(file, places.output, job.source, job.added, options.output_format)
                scoring = Scoring(job.source, scorer, parts, self.clock, self.signals.stop)
                flow = Ahead(scoring, 2)
                stack.callback(flow.close)
                stack.callback(scoring.close)
                for chunk, scores in flow:
                    # Parts keep the raw softmax, so that a resumed run may ask for the other.
                    if job.temperature is not None:
                        scores = calibrated(scores, job.temperature)
                    with self.clock.busy("write"):
                        sink.write(chunk, added_batch(scores, scorer.labels, job.added, options))
                        tally.add(chunk, scores)
                        job.extras.add(chunk, scores)
                        tally.reject(len(chunk.rejected))
                        if rejects:
                            rejects.write(chunk.rejected)
                    seen = chunk.start_row + chunk.rows
                    self.reporter.progress(seen, checked.rows if checked else None)
                    self.check_budget(max(seen + tally.rejected, 1000))
            # A signal that came meanwhile has been raised by now: from here on there is nothing left to lose.
            sections = tally.sections()
            self.check_budget(sections["rows"]["read"])
            if checked:
                ensure_unchanged(places.input, checked)
            with self.clock.busy("write"):
                sink.finish()
            if parts and parts.mismatched:
                self.reporter.warning("the input was not the stream of the earlier run; its work could not be used")
            outputs = [described(places.output, file, "data", sections["rows"]["written"])]
            if rejects and rejects.rows:
                outputs.append(described(str(places.rejects), rejects.file, "rejects", rejects.rows))
            tables: list[PendingFile] = []
            for table in job.extras.write():
                stack.callback(table.file.close)
                tables.append(table.file)
                outputs.append(described(str(table.file.final), table.file, table.role, table.rows))
            document = success(
                job,
                run_facts(options, self.started, self.clock),
                sections,
                outputs,
                scorer,
                self.clock,
                reused_rows=parts.reused_rows if parts else 0,
                fail_under=options.fail_under,
            )
            with self.signals.patient():
                self.commit(file, rejects, tables, parts, document)
        return document

    def check_budget(self, rows: int) -> None:
        """Raise InputError once more of `rows` rows are bad than the user puts up with."""
        check_budget(self.options.max_bad_rows, self.tally.rejected, rows, printable(self.places.input))

    def commit(
        self,
        file: HashedOutput,
        rejects: Rejects | None,
        tables: list[PendingFile],
        parts: Parts | None,
        document: dict[str, Any],
    ) -> None:
        """Put everything in its place: data first, summary last as the mark of success."""
        content, places = summaries.dumps(document), self.places
        if parts and isinstance(file, PendingFile):
            parts.announce(file.size, file.sha256)
            # An old summary must not stand beside new data, not even for a moment.
            for stale in (places.summary, places.rejects, places.report, places.failure):
                if stale is not None:
                    remove(stale)
            file.commit()
        if rejects:
            rejects.commit()
        for table in tables:
            table.commit()
        if self.options.report and places.report is not None:
            from batchsent.evaluation.report import render

            write_file(places.report, render(document))
        if places.summary is not None:
            write_file(places.summary, content)
        if parts:
            parts.remove()
