"""The story of a scoring run: check, lock, stream, commit."""

import contextlib
import datetime
from pathlib import Path
from typing import Any

from batchsent.errors import BatchsentError, GateFailed, OutputError, UsageError
from batchsent.evaluation import summary as summaries
from batchsent.evaluation.gates import failed_minimums
from batchsent.evaluation.tally import Tally
from batchsent.files.atomic import PendingFile, output_errors, remove, write_file
from batchsent.files.hashing import STDOUT, HashedOutput
from batchsent.files.lock import held_lock
from batchsent.files.signals import Signals
from batchsent.formats import open_sink, open_source
from batchsent.formats.outputs import added_batch
from batchsent.memory import memory_errors
from batchsent.model.calibration import calibrated
from batchsent.model.scorer import Scorer
from batchsent.options import build
from batchsent.reporting import Reporter
from batchsent.run.checks import check_options, ensure_unchanged
from batchsent.run.device_stamp import check_gpu_still_there, in_words, stamp_of
from batchsent.run.models import Models, OneModel, describe
from batchsent.run.options import BatchOptions
from batchsent.run.ownership import Earlier, check_work_folder, why_kept
from batchsent.run.parts import Parts, work_directory
from batchsent.run.paths import RunPaths
from batchsent.run.pipeline import Clock, Prefetch
from batchsent.run.plan import RunPlan, prepare
from batchsent.run.rejects import Rejects, check_budget
from batchsent.run.scoring import Scoring
from batchsent.run.summary_sections import (
    check_result,
    described,
    device_warnings,
    dry_run_document,
    exit_code_of,
    failure,
    is_intact,
    run_facts,
    success,
)
from batchsent.text import printable


def batch(
    input: str | Path,  # noqa: A002 (what it is)
    output: str | Path,
    *,
    reporter: Reporter | None = None,
    models: Models | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Score the reviews of a file and write the same rows with a label and a score each.

    `input` and `output` are paths, `-` for stdin and stdout; the options are those of BatchOptions.
    Returns the summary that is written beside the output; its `status` is complete, or up_to_date
    when the output was there already, made of the same input by the same model and options. Rerun
    after an interruption, it goes on where the first run stopped and writes the same bytes. Raises
    BatchsentError.
    """
    settings = build(BatchOptions, options)
    with Signals() as signals:
        run = Run(
            str(input),
            str(output),
            settings,
            models or OneModel(settings),
            reporter or Reporter(),
            signals,
        )
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
        self.paths = RunPaths.of(input_path, output_path, options)
        self.clock = Clock()
        self.started = datetime.datetime.now(datetime.UTC)
        self.begun = False  # whether there is anything on the disk yet
        # whether the model is there: what fails before that fails for every input
        self.loaded = False
        self.tally = Tally(())

    def go(self) -> dict[str, Any]:
        """Check, lock, stream, commit; return the summary.

        Raises GateFailed with the output in its place.
        """
        options, target = self.options, self.paths.target
        check_options(options, self.paths)
        self.paths.check(options)
        if options.dry_run:
            document = self.go_locked()
        else:
            with contextlib.ExitStack() as stack:
                for path in [*([] if target is None else [target]), *self.paths.named(options)]:
                    stack.enter_context(held_lock(path, options.lock_wait))
                try:
                    with memory_errors():
                        document = self.go_locked()
                except BatchsentError as error:
                    self.note_failure(error)
                    raise
        if options.fail_under and not options.dry_run:
            failed = failed_minimums(document["evaluation"], options.fail_under)
            if failed:
                raise GateFailed("; ".join(found["message"] for found in failed), document=document)
        return document

    def note_failure(self, error: BatchsentError) -> None:
        """Leave a summary that says what went wrong, where there is room for it.

        A refusal leaves nothing behind.
        """
        path = self.paths.failure
        if (
            path is None
            or not self.begun
            or Earlier.read(self.paths).foreign({"failed summary": path})
        ):
            return
        run = run_facts(self.options, self.started, self.clock)
        content = failure(error, printable(self.paths.input), run, self.tally, self.clock)
        with contextlib.suppress(OutputError):
            write_file(path, content)

    def go_locked(self) -> dict[str, Any]:
        """Do all of it, while nobody else writes this output."""
        options = self.options
        source = open_source(
            self.paths.input, options, gold_column=options.gold or options.gold_stars
        )
        try:
            plan = prepare(source, self.models, options, self.paths, self.clock)
            earlier = Earlier.read(self.paths)
            done = self.finished(plan, earlier)
            if done is None:
                self.refuse(plan, earlier)
            if options.dry_run:
                return dry_run_document(plan, self.paths, up_to_date=done is not None)
            if done is not None:
                return self.up_to_date(done, earlier)
            scorer = self.load()
            parts = self.begin_parts(plan, scorer)
            self.tally = Tally(scorer.labels, plan.gold, unsure_below=options.unsure_below)
            return self.stream(plan, scorer, parts)
        finally:
            source.close()

    def finished(self, plan: RunPlan, earlier: Earlier) -> dict[str, Any] | None:
        """Return the summary of an output that this run would only make again; else None.

        The output is believed only after its bytes have been hashed again.
        """
        paths, document = self.paths, earlier.document
        if document is None or paths.target is None or paths.input == "-" or self.options.restart:
            return None
        run = document["run"]
        if run.get("fingerprint") != plan.fingerprint or run.get("writing") != plan.writing:
            return None
        files = {"data": paths.data, "rejects": paths.rejects, **paths.tables}
        if not all(
            is_intact(files.get(written["role"]), written) for written in document["outputs"]
        ):
            return None
        return document

    def up_to_date(self, document: dict[str, Any], earlier: Earlier) -> dict[str, Any]:
        """Tidy up beside an output that is finished already and return its summary."""
        paths = self.paths
        assert paths.target is not None
        Parts(work_directory(paths.target)).remove()
        if paths.failure is not None and earlier.is_own("failed summary", paths.failure):
            with contextlib.suppress(OSError):
                paths.failure.unlink()  # of a run that failed in its very last step
        self.reporter.notice(f"{printable(paths.output)} is up to date")
        return {**document, "status": "up_to_date", "exit_code": exit_code_of(document["rows"])}

    def refuse(self, plan: RunPlan, earlier: Earlier) -> None:
        """Refuse to replace what is not this run's own, before the model is loaded.

        Raises UsageError.
        """
        target, options = self.paths.target, self.options
        if target is not None:
            check_work_folder(target)
            if target.exists() and not options.overwrite and not earlier.announced_is_there():
                message, hint = why_kept(plan, earlier, self.paths)
                raise UsageError(message, hint=hint)
            Parts(work_directory(target)).check(plan.fingerprint, restart=options.restart)
        earlier.refuse_foreign(options)

    def load(self) -> Scorer:
        """Load the model and say what was chosen."""
        with self.clock.busy("load"):
            scorer = self.models.open()
        self.loaded = True
        for line in describe(scorer):
            self.reporter.notice(line)
        for found in device_warnings(scorer.facts()["device"]):
            self.reporter.warning(str(found["message"]))
        return scorer

    def begin_parts(self, plan: RunPlan, scorer: Scorer) -> Parts | None:
        """Make the work folder, or resume the work in it.

        Raises DeviceError where that was done on a GPU that is not there now.
        """
        target = self.paths.target
        if target is None:
            return None
        parts = Parts(work_directory(target), stamp_of(scorer))
        manifest = parts.manifest()
        kept = {} if manifest is None else manifest.get("stamp", {})
        if manifest is not None and not self.options.restart:
            check_gpu_still_there(kept, parts.stamp)
        if parts.begin(plan.fingerprint, restart=self.options.restart):
            if kept == parts.stamp:
                self.reporter.notice("resuming an earlier run")
            else:
                self.reporter.warning(
                    f"the earlier run scored on {in_words(kept)}, this one scores on "
                    f"{in_words(parts.stamp)}: the same text may get other last digits, so its "
                    "rows are scored again"
                )
        self.begun = True
        return parts

    def stream(self, plan: RunPlan, scorer: Scorer, parts: Parts | None) -> dict[str, Any]:
        """Read, score and write chunk by chunk, then commit."""
        options, paths, tally, checked = self.options, self.paths, self.tally, plan.checked
        with (
            contextlib.ExitStack() as stack,
            output_errors(paths.output, checked.bytes if checked else None),
        ):
            file = (
                HashedOutput(STDOUT)
                if paths.data is None
                else stack.enter_context(PendingFile(paths.data, follow_link=True))
            )
            rejects = (
                Rejects(paths.rejects) if options.bad_rows == "reject" and paths.rejects else None
            )
            if rejects:
                stack.callback(rejects.discard)
            with self.signals.deferred():
                sink = open_sink(file, paths.output, plan.source, plan.added, options.output_format)
                scoring = Scoring(plan.source, scorer, parts, self.clock, self.signals.stop)
                flow = Prefetch(scoring, 2)
                stack.callback(flow.close)
                stack.callback(scoring.close)
                for chunk, scores in flow:
                    # Parts keep the raw softmax, so that a resumed run may ask for the other.
                    if plan.temperature is not None:
                        scores = calibrated(scores, plan.temperature)
                    with self.clock.busy("write"):
                        sink.write(chunk, added_batch(scores, scorer.labels, plan.added, options))
                        tally.add(chunk, scores)
                        plan.side_tables.add(chunk, scores)
                        tally.reject(len(chunk.rejected))
                        if rejects:
                            rejects.write(chunk.rejected)
                    seen = chunk.start_row + chunk.rows
                    self.reporter.progress(seen, checked.rows if checked else None)
                    self.check_budget(max(seen + tally.rejected, 1000))
            # A signal that came meanwhile has been raised by now: from here on there is nothing
            # left to lose.
            sections = tally.sections()
            self.check_budget(sections["rows"]["read"])
            check_result(sections, paths)
            if checked:
                ensure_unchanged(paths.input, checked)
            with self.clock.busy("write"):
                sink.finish()
            if parts and parts.mismatched:
                self.reporter.warning(
                    "the input was not the stream of the earlier run; its work could not be used"
                )
            outputs = [described(paths.output, file, "data", sections["rows"]["written"])]
            if rejects and rejects.rows:
                outputs.append(described(str(paths.rejects), rejects.file, "rejects", rejects.rows))
            tables: list[PendingFile] = []
            for table in plan.side_tables.write():
                stack.callback(table.file.close)
                tables.append(table.file)
                outputs.append(described(str(table.file.final), table.file, table.role, table.rows))
            document = success(
                plan,
                run_facts(options, self.started, self.clock),
                sections,
                outputs,
                scorer,
                self.clock,
                reused_rows=parts.reused_rows if parts else 0,
                fail_under=options.fail_under,
            )
            with self.signals.deferred():
                self.commit(file, rejects, tables, parts, document)
        return document

    def check_budget(self, rows: int) -> None:
        """Raise InputError once more of `rows` rows are bad than the user puts up with."""
        check_budget(
            self.options.max_bad_rows, self.tally.rejected, rows, printable(self.paths.input)
        )

    def commit(
        self,
        file: HashedOutput,
        rejects: Rejects | None,
        tables: list[PendingFile],
        parts: Parts | None,
        document: dict[str, Any],
    ) -> None:
        """Put everything in its place: data first, summary last as the mark of success."""
        content, paths = summaries.dumps(document), self.paths
        # Hours may have passed since the first look.
        earlier = Earlier.read(paths)
        earlier.refuse_foreign(self.options)
        if parts and isinstance(file, PendingFile):
            written = paths.beside(self.options)
            stale = {
                "summary": paths.summary,
                "rejects": paths.rejects,
                "report": paths.report,
                "failed summary": paths.failure,
            }
            # An old summary must not stand beside new data, not even for a moment.
            removable = [
                path
                for role, path in stale.items()
                if path and (role in written or earlier.is_own(role, path))
            ]
            parts.announce(document["outputs"], document["run"]["id"])
            for path in removable:
                remove(path)
            file.commit()
        if rejects:
            rejects.commit()
        for table in tables:
            table.commit()
        if self.options.report and paths.report is not None:
            from batchsent.pages.report import render

            write_file(paths.report, render(document))
        if paths.summary is not None:
            write_file(paths.summary, content)
        if parts:
            parts.remove()
