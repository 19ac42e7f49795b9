"""A scoring run: check, lock, stream, commit.

The life of a row, top to bottom. Each stage but the last has a thread of its own; at most two
chunks wait between two stages, so memory does not grow with the input.

    stage      thread     does                                                   in
    read       Prefetch   file -> Chunk: 8,192 rows, or fewer long ones          formats/
    tokenize   Prefetch   looks for a kept part; else texts -> tokens, batches   scoring.py, model/
    score      Prefetch   tokens -> Scores; keeps them as a part                 scoring, parts
    write      main       the rows with their scores -> output, counts, tables   writing.py
    commit     main       output, rejects, tables, page, and last the summary    writing.py

An error surfaces at its place in the stream, in the main thread. A signal sets a flag that the
stages look at: the score stage keeps what it has of its chunk and ends, and so do the others. On
the way out every stage is closed, the last first.
"""

import contextlib
import datetime
import uuid
from typing import Any

from batchsent.errors import BatchsentError, GateFailed, Interrupted, OutputError, UsageError
from batchsent.evaluation.gates import failed_minimums
from batchsent.evaluation.tally import Tally
from batchsent.files.atomic import output_errors, write_file
from batchsent.files.lock import held_lock
from batchsent.files.signals import Signals
from batchsent.formats import open_source
from batchsent.memory import memory_errors
from batchsent.model.calibration import calibrated
from batchsent.model.scorer import Scorer
from batchsent.reporting import Reporter
from batchsent.run.checks import check_options, ensure_unchanged
from batchsent.run.device_stamp import check_gpu_still_there, in_words, stamp_of
from batchsent.run.models import Models, describe
from batchsent.run.options import BatchOptions
from batchsent.run.ownership import Earlier, check_work_folder, why_kept
from batchsent.run.parts import Parts, work_directory
from batchsent.run.paths import RunPaths
from batchsent.run.pipeline import Clock, Prefetch
from batchsent.run.plan import RunPlan, prepare
from batchsent.run.rejects import check_budget
from batchsent.run.scoring import Scoring
from batchsent.run.summary_sections import (
    check_result,
    device_warnings,
    dry_run_document,
    exit_code_of,
    failure,
    is_intact,
    run_facts,
    success,
)
from batchsent.run.writing import RunFiles
from batchsent.text import printable


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
        position: tuple[int, int] = (1, 1),
    ) -> None:
        """Take what the run needs; it is number n of m inputs (`position`)."""
        self.options, self.models, self.reporter, self.signals = options, models, reporter, signals
        self.paths = RunPaths.of(input_path, output_path, options)
        self.position = position
        self.id = uuid.uuid4().hex
        self.name = "stdin" if input_path == "-" else printable(input_path)
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
        self.reporter.run_started(self.id, self.name, *self.position)
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
        run = run_facts(self.id, self.options, self.started, self.clock)
        content = failure(error, printable(self.paths.input), run, self.tally, self.clock)
        with contextlib.suppress(OutputError):
            write_file(path, content)

    def go_locked(self) -> dict[str, Any]:
        """Do all of it, while nobody else writes this output."""
        options = self.options
        self.reporter.stage(f"checking {self.name}")
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
            try:
                return self.stream(plan, scorer, parts)
            except Interrupted as error:
                if parts is not None:
                    error.hint = (
                        f"{parts.kept_rows():,} rows are scored and kept: run the same command "
                        "again to continue from there"
                    )
                raise
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
            Parts(work_directory(target)).check(
                plan.fingerprint, restart=options.restart, overwrite=options.overwrite
            )
        earlier.refuse_foreign(options)

    def load(self) -> Scorer:
        """Load the model and say what was chosen."""
        self.reporter.stage("loading the model")
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
                rows = f"{parts.kept_rows():,}"
                if plan.checked:
                    rows += f" of {plan.checked.rows:,}"
                self.reporter.notice(f"resuming an earlier run: {rows} rows are scored already")
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
        paths, checked = self.paths, plan.checked
        total_rows = checked.rows if checked else None
        self.reporter.stage(f"scoring {self.name}")

        def progress(rows: int) -> None:
            reused = parts.reused_rows if parts else 0
            self.reporter.progress(rows, total_rows, reused_rows=reused)

        with contextlib.ExitStack() as stack:
            stack.enter_context(output_errors(paths.output, checked.bytes if checked else None))
            files = stack.enter_context(RunFiles(plan, paths, self.options))
            with self.signals.deferred():
                scoring = Scoring(scorer, parts, self.clock, self.signals.stop, progress)
                read = Prefetch(self.clock.each("read", plan.source.chunks()), 2, scoring.stop)
                stack.callback(read.close)
                tokenized = Prefetch(scoring.tokenize(read), 2, scoring.stop)
                stack.callback(tokenized.close)
                scored = Prefetch(scoring.score(tokenized), 2)
                stack.callback(scored.close)
                stack.callback(scoring.close)
                for chunk, scores in scored:
                    # Parts keep the raw softmax, so that a resumed run may ask for the other.
                    if plan.temperature is not None:
                        scores = calibrated(scores, plan.temperature)
                    with self.clock.busy("write"):
                        files.write(chunk, scores)
                        self.tally.add(chunk, scores)
                        self.tally.reject(len(chunk.rejected))
                    seen = chunk.start_row + chunk.rows
                    self.check_budget(max(seen + self.tally.rejected, 1000))
            # A signal that came meanwhile has been raised by now: from here on there is nothing
            # left to lose.
            document = self.finish(plan, scorer, parts, files)
            with self.signals.deferred():
                files.commit(document, parts)
        return document

    def finish(
        self, plan: RunPlan, scorer: Scorer, parts: Parts | None, files: RunFiles
    ) -> dict[str, Any]:
        """Write the ends of all files and return the summary. Raises BatchsentError."""
        sections = self.tally.sections()
        self.check_budget(sections["rows"]["read"])
        check_result(sections, self.paths)
        if plan.checked:
            ensure_unchanged(self.paths.input, plan.checked)
        if parts and parts.mismatched:
            self.reporter.warning(
                "the input is not what the earlier run read: only unchanged chunks keep "
                "their scores"
            )
        with self.clock.busy("write"):
            outputs = files.finish(sections["rows"]["written"])
        return success(
            plan,
            run_facts(self.id, self.options, self.started, self.clock),
            sections,
            outputs,
            scorer,
            self.clock,
            reused_rows=parts.reused_rows if parts else 0,
            fail_under=self.options.fail_under,
        )

    def check_budget(self, rows: int) -> None:
        """Raise InputError once more of `rows` rows are bad than --max-bad-rows allows."""
        check_budget(
            self.options.max_bad_rows, self.tally.rejected, rows, printable(self.paths.input)
        )
