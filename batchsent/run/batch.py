"""A scoring run: check, lock, stream, commit.

The life of a row, from top to bottom:

    stage     thread      work                                                 code
    read      reading     file -> Chunk: 8,192 rows, or fewer long ones        formats/
    submit    submitting  Chunk -> its kept part, or tokens in batches         scoring.py, model/
    collect   collecting  tokens -> Scores, kept as a part                     scoring.py, parts.py
    write     main        Chunk and Scores -> output, rejects, tables, counts  writing.py
    commit    main        the files get their names, the summary last          writing.py

Each of the first three stages is a Prefetch (pipeline.py): a thread, and a queue of two chunks
between it and the next stage. So at most ten chunks are in memory at once: one at each of the first
four stages, and six in the queues. A scorer with several workers (model/submission.py) has a chunk
when it is submitted; the queue after that stage is so long that one more is submitted than there
are workers.

How a run ends:

- At the end of the input each stage ends after the one before it; then the files are committed.
- An error of a stage passes through the queues and is raised in the main thread, once the chunks
  before it are written.
- A signal sets a flag, and so does the end of the time that --stop-after gives. The scorer looks
  at it after each batch and keeps the scores that its chunk has so far, and the collecting thread
  ends. The main thread then raises Interrupted.
- In every case the stages are closed, the last one first. A thread that is blocked reading a
  pipe is left to end with the process.
"""

import contextlib
import dataclasses
import datetime
import uuid
from typing import Any

from batchsent.errors import (
    BatchsentError,
    GateFailed,
    Interrupted,
    OutputError,
    TimeUp,
    UsageError,
)
from batchsent.evaluation.gates import failed_minimums
from batchsent.evaluation.tally import Tally
from batchsent.files.atomic import check_room, output_errors, write_file
from batchsent.files.lock import held_lock
from batchsent.files.signals import Signals
from batchsent.formats import Source, open_source
from batchsent.formats.found import Dump
from batchsent.formats.known_texts import KnownTexts
from batchsent.formats.several import SeveralSource
from batchsent.formats.text_names import chosen_by_model
from batchsent.memory import memory_errors
from batchsent.model.calibration import calibrated
from batchsent.model.submission import Scorer
from batchsent.reporting import Reporter
from batchsent.run.checks import check_options, ensure_unchanged
from batchsent.run.counting import make_tally
from batchsent.run.device_stamp import check_gpu_still_there, in_words, stamp_of
from batchsent.run.models import Models, describe
from batchsent.run.options import BatchOptions
from batchsent.run.ownership import Earlier, check_work_folder, why_kept
from batchsent.run.parts import Parts, work_directory
from batchsent.run.paths import RunPaths
from batchsent.run.pipeline import Clock
from batchsent.run.plan import RunPlan, prepare, proposing_prefix, with_later_options
from batchsent.run.rejects import check_budget
from batchsent.run.reuse import calibrated_unless_reused, check_device, open_outputs, other_texts
from batchsent.run.scoring import Scoring
from batchsent.run.stopped_processes import telling_of_stopped
from batchsent.run.summary_sections import (
    check_result,
    device_warnings,
    dry_run_document,
    exit_code_of,
    failure,
    run_facts,
    success,
)
from batchsent.run.tokenizing import tokenizing_elsewhere
from batchsent.run.writing import RunFiles, least_bytes
from batchsent.text import printable
from batchsent.text_columns import TextColumns


class Run:
    """One input, or several files that are read as one, and one output."""

    def __init__(
        self,
        input_path: str,
        output_path: str,
        options: BatchOptions,
        models: Models,
        reporter: Reporter,
        signals: Signals,
        position: tuple[int, int] = (1, 1),
        files: tuple[Dump, ...] = (),
        told: set[str] | None = None,
    ) -> None:
        """Take what the run needs; it is number n of m inputs (`position`).

        With `files` these are the input, and `input_path` what they are called together. `told` is
        what the run before said of the model: only what differs is said again.
        """
        self.options, self.models, self.reporter, self.signals = options, models, reporter, signals
        self.paths = RunPaths.of(input_path, output_path, options, files)
        self.position = position
        self._told = set() if told is None else told
        self.id = uuid.uuid4().hex
        self.name = "stdin" if input_path == "-" else printable(input_path)
        self.clock = Clock()
        self.started = datetime.datetime.now(datetime.UTC)
        self.begun = False  # whether the work folder was made
        # whether the model is loaded: what fails before that would fail for every input
        self.loaded = False
        self.tally = Tally(())

    def go(self) -> dict[str, Any]:
        """Check, lock, stream, commit; return the summary.

        Raises GateFailed with the output in its place.
        """
        options = self.options
        self.reporter.run_started(self.id, self.name, *self.position)
        check_options(options, self.paths)
        with self.paths.place.ready():
            self.paths.check(options)
            document = self.check_and_score() if options.dry_run else self.locked()
        if options.fail_under and not options.dry_run:
            failed = failed_minimums(
                document["evaluation"], options.fail_under, document["predictions"]
            )
            if failed:
                raise GateFailed("; ".join(found["message"] for found in failed), document=document)
        return document

    def locked(self) -> dict[str, Any]:
        """Check, score and commit with the locks of the output; return the summary."""
        with contextlib.ExitStack() as stack:
            for path in self.paths.locked(self.options):
                shown = self.paths.place.file(path).name
                stack.enter_context(held_lock(path, self.options.lock_wait, shown))
            try:
                with memory_errors(), telling_of_stopped(self.reporter):
                    return self.check_and_score()
            except BatchsentError as error:
                self.note_failure(error)
                raise

    def note_failure(self, error: BatchsentError) -> None:
        """Write a summary that says what went wrong, unless a file of the user has its name.

        A run that was refused before it began writes nothing.
        """
        path = self.paths.failure
        if path is None or not self.begun:
            return
        run = run_facts(self.id, self.options, self.started, self.clock)
        content = failure(error, printable(self.paths.input), run, self.tally, self.clock)
        with contextlib.suppress(OutputError):
            if Earlier.read(self.paths).foreign({"failed summary": path}):
                return
            write_file(path, content)
            self.paths.place.file(path).deliver()

    def check_and_score(self) -> dict[str, Any]:
        """Check the input and the output, score what is not finished yet, and return the summary.

        The caller holds the locks of the output; a dry run, which writes nothing, needs none.
        """
        options = self.options
        self.reporter.stage(f"checking {self.name}")
        source = self.open()
        try:
            options = self.options = self.with_text_of(source)
            plan = prepare(source, self.models, options, self.paths, self.clock)
            earlier = Earlier.read(self.paths)
            done = self.find_finished(plan, earlier)
            reuse = None
            if done is None:
                if options.reuse:
                    reuse = open_outputs(options.reuse, plan, options)
                self.refuse(plan, earlier, reuse)
            if options.dry_run:
                return dry_run_document(plan, self.paths, up_to_date=done is not None)
            if done is not None:
                return self.up_to_date(done, earlier)
            parts = None
            try:
                for said in source.warnings():  # of bytes that are not of the encoding
                    self.reporter.notice(f"warning: {said['message']} ({said['hint']})")
                self.signals.check()  # loading may take long
                scorer = self.load()
                parts = self.begin_parts(plan, scorer, reuse)
                self.tally = make_tally(plan, options)
                return self.stream(plan, scorer, parts, reuse)
            except TimeUp as error:
                error.message += f": {self.describe_kept(plan, parts)}"
                raise
            except Interrupted as error:
                error.hint = "nothing was scored yet: run the same command again"
                if parts is not None:
                    error.hint = (
                        f"{parts.kept_rows():,} rows are scored and kept, long texts first: run "
                        "the same command again to continue from there"
                    )
                raise
        finally:
            source.close()

    def open(self) -> Source:
        """Open the input. Raises InputError and UsageError."""
        options, files = self.options, self.paths.files
        gold = options.gold or options.gold_stars

        def usual() -> TextColumns | None:
            return self.models.identity().text_columns

        with proposing_prefix(self.models, options):
            if not files:
                return open_source(self.paths.input, options, gold_column=gold, usual=usual)
            assert options.source_column is not None
            return SeveralSource(
                files, self.name, options.source_column, options, gold_column=gold, usual=usual
            )

    def describe_kept(self, plan: RunPlan, parts: Parts | None) -> str:
        """Return how much of the input is scored where a run stops."""
        if parts is None:
            return f"the model was not loaded yet for {self.name}"
        of = ""
        if plan.checked and plan.checked.rows is not None:
            of = f" of {plan.checked.rows:,}"
        return f"{parts.kept_rows():,}{of} rows of {self.name} are scored and kept"

    def with_text_of(self, source: Source) -> BatchOptions:
        """Return the options with what was chosen of the text by the model, and say it."""
        options, text = self.options, source.text_columns
        assert text is not None  # it is needed, so opening without it was refused
        if chosen_by_model(options, text, self.models.identity().text_columns):
            self.reporter.notice(text.as_chosen_by_model())
            named = text.names[0] if text.single else text.names
            options = dataclasses.replace(options, text_column=named)
        return options if text.single else dataclasses.replace(options, text_joint=text.joint)

    def find_finished(self, plan: RunPlan, earlier: Earlier) -> dict[str, Any] | None:
        """Return the summary of an output that is what this run would write; else None.

        The files are hashed again for that.
        """
        paths, document = self.paths, earlier.document
        if document is None or paths.target is None or self.options.restart:
            return None
        if not plan.input_is_known:
            return None
        run = document["run"]
        for recorded, wanted in (("fingerprint", plan.fingerprint), ("writing", plan.writing)):
            if with_later_options(run.get(recorded) or {}, wanted) != wanted:
                return None
        files = {"data": paths.data, "rejects": paths.rejects, **paths.tables}
        for written in document["outputs"]:
            path = files.get(written["role"])
            if path is None or not paths.place.file(path).is_intact(written):
                return None
        return document

    def up_to_date(self, document: dict[str, Any], earlier: Earlier) -> dict[str, Any]:
        """Remove what earlier runs left beside a finished output, and return its summary."""
        paths = self.paths
        assert paths.target is not None
        Parts(work_directory(paths.target)).remove()
        if paths.failure is not None and earlier.is_own("failed summary", paths.failure):
            with contextlib.suppress(OSError):
                paths.place.file(paths.failure).remove()  # of a run that failed in its last step
        if self.options.report and paths.report and not paths.place.file(paths.report).exists():
            from batchsent.pages.report import render

            write_file(paths.report, render(document))
            paths.place.file(paths.report).deliver()
        self.reporter.notice(f"{printable(paths.output)} is up to date")
        return {**document, "status": "up_to_date", "exit_code": exit_code_of(document["rows"])}

    def refuse(self, plan: RunPlan, earlier: Earlier, reuse: KnownTexts | None) -> None:
        """Refuse to replace what is not this run's own, before the model is loaded.

        Raises UsageError, and InputError where an output to reuse was changed.
        """
        target, options = self.paths.target, self.options
        if target is not None:
            check_work_folder(target)
            there = self.paths.place.file(target).exists()
            if there and not earlier.may_replace_output(options):
                message, hint = why_kept(plan, earlier, self.paths)
                raise UsageError(message, hint=hint)
            Parts(work_directory(target)).check(
                deciding(plan, reuse), restart=options.restart, overwrite=options.overwrite
            )
        earlier.refuse_foreign(options)
        least = least_bytes(plan, self.paths, options)
        if least is not None:
            check_room(self.paths.written_to, least)
        if reuse is not None:
            with self.clock.busy("check"):
                reuse.check_intact()

    def load(self) -> Scorer:
        """Load the model and report what was chosen."""
        self.reporter.stage("loading the model")
        with self.clock.busy("load"):
            scorer = self.models.open()
        self.loaded = True
        lines = describe(scorer)
        found = [str(one["message"]) for one in device_warnings(scorer.facts()["device"])]
        for line in lines:
            if line not in self._told:
                self.reporter.notice(line)
        for message in found:
            if message not in self._told:
                self.reporter.warning(message)
        self._told.clear()
        self._told.update(lines, found)
        return scorer

    def begin_parts(self, plan: RunPlan, scorer: Scorer, reuse: KnownTexts | None) -> Parts | None:
        """Make the work folder, or resume the work in it; None where the output is stdout.

        Raises DeviceError where that work was done on a GPU that is not there now, UsageError where
        an output to reuse was scored on another device.
        """
        target = self.paths.target
        if reuse is not None:
            check_device(reuse, stamp_of(scorer))
        if target is None:
            return None
        parts = Parts(work_directory(target), stamp_of(scorer))
        manifest = parts.manifest()
        kept: dict[str, Any] = {}
        if manifest is not None:
            kept = manifest.get("stamp", {})
            if not self.options.restart:
                check_gpu_still_there(kept, parts.stamp)
        if parts.begin(deciding(plan, reuse), restart=self.options.restart):
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

    def stream(
        self, plan: RunPlan, scorer: Scorer, parts: Parts | None, reuse: KnownTexts | None
    ) -> dict[str, Any]:
        """Read, score and write chunk by chunk, then commit."""
        paths, checked = self.paths, plan.checked
        total_rows = input_bytes = None  # of a pipe
        if checked:
            total_rows, input_bytes = checked.rows, checked.bytes

        def progress(rows: int) -> None:
            self.reporter.progress(rows, total_rows, reused_rows=scoring.known_rows)

        with contextlib.ExitStack() as stack:
            stack.enter_context(output_errors(paths.written_to, input_bytes))
            if reuse is not None and parts is not None:
                for output in reuse.outputs:
                    self.reporter.stage(f"reading the scores of {output.name}")
                with self.clock.busy("reuse"):
                    reuse.read(parts.folder)
            self.reporter.stage(f"scoring {self.name}")
            files = stack.enter_context(RunFiles(plan, paths, self.options))
            stack.enter_context(tokenizing_elsewhere(scorer, total_rows, self.reporter))
            scorer.begin_counts()
            with self.signals.deferred():
                scoring = Scoring(
                    scorer,
                    parts,
                    self.clock,
                    self.signals.stop,
                    progress,
                    reuse=reuse,
                    sentences=self.options.sentences,
                )
                for chunk, scores in stack.enter_context(scoring.stages(plan.source.chunks())):
                    # Parts keep the raw softmax, so that a resumed run may change --calibrated.
                    likely = None
                    if plan.temperature is not None:
                        scores = calibrated_unless_reused(
                            scores, plan.temperature, plan.fast_temperature
                        )
                    if plan.reliability.temperature is not None:
                        likely = scores
                        if plan.temperature is None:
                            likely = calibrated(scores, plan.reliability.temperature)
                    with self.clock.busy("write"):
                        files.write(chunk, scores)
                        self.tally.add(chunk, scores, likely)
                        self.tally.reject(len(chunk.rejected))
                    # A percentage is held against at least 1,000 rows: with 1%, two bad rows among
                    # the first hundred do not end the run. `finish` checks it against all rows.
                    seen = chunk.start_row + chunk.rows
                    self.check_bad_rows(max(seen + self.tally.rejected, 1000))
            # A signal that came in the block has been raised by now.
            document = self.finish(plan, scorer, parts, files, scoring.known_rows, reuse)
            with self.signals.finishing():
                files.commit(document, parts)
        return document

    def finish(
        self,
        plan: RunPlan,
        scorer: Scorer,
        parts: Parts | None,
        files: RunFiles,
        known_rows: int,
        reuse: KnownTexts | None,
    ) -> dict[str, Any]:
        """Complete all files and return the summary. Raises BatchsentError."""
        sections = self.tally.sections()
        self.check_bad_rows(sections["rows"]["read"])
        check_result(sections, self.paths)
        if plan.checked:
            ensure_unchanged(plan.checked)
        if parts and parts.mismatched:
            self.reporter.warning(
                "the input is not what the earlier run read: only unchanged chunks keep "
                "their scores"
            )
        with self.clock.busy("write"):
            corrected = sections["predictions"]["corrected"]
            outputs = files.finish(
                sections["rows"]["written"], like_held_out=corrected["why_not"] is None
            )
        reused = None
        if reuse is not None:
            reused = reuse.section()
            for said in other_texts(reuse, reused, plan):
                self.reporter.warning(said)
        return success(
            plan,
            run_facts(self.id, self.options, self.started, self.clock),
            sections,
            outputs,
            scorer,
            self.clock,
            resumed_rows=parts.resumed_rows if parts else 0,
            known_rows=known_rows,
            reuse=reused,
            cascade_rows=self.tally.cascade_rows,
            fail_under=self.options.fail_under,
        )

    def check_bad_rows(self, rows: int) -> None:
        """Raise InputError once more of `rows` rows are bad than --max-bad-rows allows."""
        check_budget(
            self.options.max_bad_rows, self.tally.rejected, rows, printable(self.paths.input)
        )


def deciding(plan: RunPlan, reuse: KnownTexts | None) -> dict[str, Any]:
    """Return what decides the scores that a run keeps, by the names a person knows the things by.

    With --reuse too, which a finished output is not asked for: it is an output like another.
    """
    return plan.fingerprint | {"--reuse": None if reuse is None else reuse.hashes}
