"""The story of a scoring run: check, lock, stream, commit."""

import contextlib
import dataclasses
import datetime
import itertools
import json
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import filelock
import numpy as np
import pyarrow as pa

from batchsent.chunk import PENDING, SCORED, Chunk, Scores
from batchsent.errors import EXIT_ROWS_REJECTED, InputError, Locked, UsageError, printable
from batchsent.evaluation import summary as summaries
from batchsent.evaluation.gold import GoldRule
from batchsent.evaluation.tally import Tally
from batchsent.formats import ReadOptions, Source, open_sink, open_source
from batchsent.formats.opening import check_new_columns, check_sink, format_of
from batchsent.formats.streams import Stdout
from batchsent.model.loading import ModelIdentity, identify
from batchsent.model.scorer import ModelOptions, ModelScorer, Scorer
from batchsent.options import build, option
from batchsent.reporting import Reporter
from batchsent.run.commit import PendingFile, fault, fsync_directory, output_errors, write_file
from batchsent.run.parts import Parts, work_directory
from batchsent.run.pipeline import Ahead, Clock
from batchsent.run.preflight import Checked, check_input, ensure_unchanged
from batchsent.run.rejects import Rejects, over_budget
from batchsent.run.signals import Signals

# An unfinished chunk is kept this often: what kill -9 can cost.
KEEP_S = 60.0


@dataclass(frozen=True)
class BatchOptions(ReadOptions, ModelOptions):
    """How a dump is scored."""

    model: str | None = option(None, "Model folder, or id on the Hugging Face Hub.", short="-m", metavar="FOLDER|ID")
    revision: str | None = option(None, "Commit, tag or branch of a Hub model.")
    prefix: str = option("", "Put this in front of the names of the new columns.")
    probabilities: bool = option(False, "Add the probability of every label as prob_LABEL.")
    details: bool = option(False, "Add n_tokens and truncated.")
    gold: str | None = option(
        None, "Column with the right labels: adds an evaluation to the summary.", metavar="COLUMN"
    )
    gold_map: str | None = option(None, "What gold values mean: neg=NEGATIVE,pos=POSITIVE.", metavar="VALUE=LABEL,...")
    output_format: str | None = option(
        None, "Format of the output, where the name does not tell.", choices=("csv", "tsv", "parquet", "arrow")
    )
    summary: str | None = option(None, "Where the summary goes [default: OUTPUT.summary.json].", metavar="FILE")
    rejects: str | None = option(None, "Where rejected rows go [default: OUTPUT.rejects.csv].", metavar="FILE")
    max_bad_rows: str | None = option(None, "Bad rows to put up with: a number, or a share such as 1%.", metavar="N|P%")
    overwrite: bool = option(False, "Replace an output that is there already.")
    restart: bool = option(False, "Throw away the unfinished work of an earlier run.")
    lock_wait: float = option(0.0, "Seconds to wait for another run on the same output.", metavar="S")
    dry_run: bool = option(False, "Check everything that can be checked, say what would be done, write nothing.")


# What changes the bytes of the output or the summary, beside what changes the scores.
OUTPUT_OPTIONS = ("prefix", "probabilities", "details", "output_format", "limit", "gold", "gold_map")
SCORE_OPTIONS = ("device", "precision", "max_length", "batch_tokens", "chunk_rows")


class Models(Protocol):
    """Where a run gets its model from; it is loaded only when there is something to score."""

    def identity(self) -> ModelIdentity:
        """Return which model it is, without loading it."""

    def open(self) -> Scorer:
        """Load the model, once."""


class OneModel:
    """The model that the options name."""

    def __init__(self, options: BatchOptions) -> None:
        self._options = options
        self._identity: ModelIdentity | None = None
        self._scorer: Scorer | None = None

    def identity(self) -> ModelIdentity:
        """Return which model it is, without loading it. Raises ModelError."""
        if self._identity is None:
            if self._options.model is None:
                raise UsageError(
                    "no model is named",
                    hint="add --model FOLDER (made by batchsent finetune) or the id of a Hub model",
                )
            self._identity = identify(self._options.model, self._options.revision)
        return self._identity

    def open(self) -> Scorer:
        """Load the model, once. Raises ModelError or DeviceError."""
        if self._scorer is None:
            self._scorer = ModelScorer.open(self.identity(), self._options)
        return self._scorer


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
        self._closing = False  # the stream is being torn down: what scores should stop
        self.started = datetime.datetime.now(datetime.UTC)
        beside = None if self.to_stdout else Path(output_path)
        self.summary_path = Path(options.summary) if options.summary else beside and named(beside, ".summary.json")
        self.rejects_path = Path(options.rejects) if options.rejects else beside and named(beside, ".rejects.csv")

    def go(self) -> dict[str, Any]:
        """Check, lock, stream, commit; return the summary."""
        self.check_paths()
        if self.to_stdout or self.options.dry_run:
            return self.go_locked()
        with held_lock(Path(self.output), self.options.lock_wait):
            return self.go_locked()

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
        source = open_source(self.input, options, gold_column=options.gold)
        try:
            identity = self.models.identity()
            added = added_schema(identity.labels, options)
            check_new_columns(source, added.names)
            check_sink(self.output, source, added, options.output_format)
            gold = GoldRule.parse(identity.labels, options.gold_map) if options.gold else None
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
            return self.stream(source, scorer, Tally(scorer.labels, gold), parts, checked, added, fingerprint)
        finally:
            source.close()

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
        for written in document["outputs"]:
            if not is_intact(Path(self.output) if written["role"] == "data" else self.rejects_path, written):
                return None
        Parts(work_directory(Path(self.output))).remove()
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
        return parts

    def stream(
        self,
        source: Source,
        scorer: Scorer,
        tally: Tally,
        parts: Parts | None,
        checked: Checked | None,
        added: pa.Schema,
        fingerprint: dict[str, Any],
    ) -> dict[str, Any]:
        """Read, score and write chunk by chunk, then commit."""
        options, output = self.options, Path(self.output)
        needed = checked.bytes if checked else None
        with contextlib.ExitStack() as stack, output_errors(self.output, needed):
            file: Any = Stdout() if self.to_stdout else stack.enter_context(PendingFile(output))
            rejects = Rejects(self.rejects_path) if options.bad_rows == "reject" and self.rejects_path else None
            if rejects:
                stack.callback(rejects.discard)
            with self.signals.patient():
                sink = open_sink(file, self.output, source, added, options.output_format)
                flow = Ahead(self.scored(source, scorer, parts), 2)
                stack.callback(flow.close)
                stack.callback(self.stop_scoring)
                for chunk, scores in flow:
                    with self.clock.busy("write"):
                        sink.write(chunk, added_batch(scores, scorer.labels, added, options))
                        tally.add(chunk, scores)
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
            document = self.summary(source, scorer, sections, parts, checked, outputs, fingerprint)
            with self.signals.patient():
                self.commit(file, rejects, parts, document)
        return document

    def stop_scoring(self) -> None:
        """Make the scoring thread end at its next batch."""
        self._closing = True

    def scored(self, source: Source, scorer: Scorer, parts: Parts | None) -> Iterator[tuple[Chunk, Scores]]:
        """Yield chunks with their scores; reading and tokenizing run ahead in threads of their own.

        Ends early when a signal asks for it, with the unfinished chunk's scores kept.
        """
        clock = self.clock

        def stop() -> bool:
            return self._closing or self.signals.stop()

        def prepared() -> Iterator[tuple[Chunk, Any, Scores | None]]:
            for chunk in Ahead(clock.each("read", source.chunks()), 2, stop):
                known = parts.load(chunk, len(scorer.labels)) if parts else None
                if not chunk.rows:
                    yield chunk, None, no_scores(len(scorer.labels))
                elif known is not None and not (known.status == PENDING).any():
                    yield chunk, None, known
                else:
                    with clock.busy("tokenize"):
                        ready = scorer.prepare(chunk.texts)
                    yield chunk, ready, known

        for chunk, ready, known in Ahead(prepared(), 2, stop):
            if parts and known is not None:
                parts.reused_rows += int((known.status != PENDING).sum())
            if ready is None:
                assert known is not None
                yield chunk, known
                continue
            scores = self.score(scorer, chunk, ready, known, parts, stop)
            if scores is None:
                return
            yield chunk, scores

    def score(
        self,
        scorer: Scorer,
        chunk: Chunk,
        ready: Any,
        known: Scores | None,
        parts: Parts | None,
        stop: Callable[[], bool],
    ) -> Scores | None:
        """Score one chunk and keep its part; None when a signal came before it was finished."""
        while True:
            since = Clock()
            with self.clock.busy("score"):
                known = scorer.score(
                    ready,
                    done=known,
                    stop=lambda since=since: stop() or since.elapsed_s > KEEP_S,  # type: ignore[misc]
                )
            finished = not (known.status == PENDING).any()
            if parts and (known.status != PENDING).any():
                parts.save(chunk, known)
            if finished:
                return known
            if stop():
                return None

    def commit(self, file: Any, rejects: Rejects | None, parts: Parts | None, document: dict[str, Any]) -> None:
        """Put everything in its place: data first, summary last as the mark of success."""
        content = summaries.dumps(document)
        if parts:
            parts.announce(file.size, file.sha256)
            # An old summary must not stand beside new data, not even for a moment.
            for stale in (self.summary_path, self.rejects_path):
                if stale is not None and stale.exists():
                    fault("unlink")
                    stale.unlink()
                    fsync_directory(stale.parent)
            file.commit()
        if rejects:
            rejects.commit()
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
    ) -> dict[str, Any]:
        """Return the summary of the finished run."""
        facts, read = scorer.facts(), source.facts()
        if checked:
            read |= {"bytes": checked.bytes, "sha256": checked.sha256}
        rejected = sections["rows"]["rejected"]
        reused = parts.reused_rows if parts else 0
        return summaries.build(
            status="complete",
            exit_code=EXIT_ROWS_REJECTED if rejected else 0,
            run={
                "id": uuid.uuid4().hex,
                "started": self.started.isoformat(timespec="seconds"),
                "ended": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "elapsed_s": round(self.clock.elapsed_s, 3),
                "resumed_rows": reused,
                "options": dataclasses.asdict(self.options),
                "writing": self.output_facts(),
                "fingerprint": fingerprint,
            },
            package=summaries.versions(),
            input=read,
            outputs=outputs,
            model=facts["model"],
            device=facts["device"],
            tally_sections=sections,
            performance=performance(self.clock, sections, reused, facts["device"]),
            warnings=source.warnings(),
        )

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


def named(output: Path, ending: str) -> Path:
    """Return the path of a file that belongs to an output."""
    return output.with_name(output.name + ending)


@contextlib.contextmanager
def held_lock(output: Path, wait_s: float) -> Iterator[None]:
    """Hold the lock of an output; the kernel lets go of it however the process ends. Raises Locked."""
    path = output.with_name(f".{output.name}.lock")
    lock = filelock.FileLock(path)
    with output_errors(output):
        try:
            lock.acquire(timeout=max(0.0, wait_s))
        except filelock.Timeout as error:
            raise Locked(
                f"another run is writing {printable(output)}",
                hint="wait for it, with --lock-wait 600 for instance",
            ) from error
    try:
        yield
    finally:
        # Removed while held: whoever waits for this inode sees that it has no name any more and takes a new one.
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


def is_intact(path: Path | None, written: dict[str, Any]) -> bool:
    """Tell whether a file still has the size and hash that a summary gives."""
    import hashlib

    try:
        if path is None or path.stat().st_size != written["bytes"]:
            return False
        with path.open("rb") as file:
            return bool(hashlib.file_digest(file, "sha256").hexdigest() == written["sha256"])
    except OSError:
        return False


def described(path: str, file: Any, role: str, rows: int) -> dict[str, Any]:
    """Return an entry of the summary's outputs."""
    return {"role": role, "path": printable(path), "bytes": file.size, "sha256": file.sha256, "rows": rows}


def describe(scorer: Scorer) -> list[str]:
    """Return what was chosen for the user, with the reasons."""
    facts = scorer.facts()
    model, device = facts["model"], facts["device"]
    return [
        f"model {printable(model.get('source'))} ({', '.join(map(printable, scorer.labels[:6]))})",
        f"device {printable(device.get('description', device.get('name')))}; "
        f"precision {model.get('precision')} ({model.get('precision_reason')})",
    ]


def no_scores(labels: int) -> Scores:
    """Return the scores of a chunk without rows: blank lines at the end of a file, say."""
    none = np.zeros(0, np.int32)
    return Scores(np.zeros((0, labels), np.float32), none, none, none.astype(np.uint8), distinct=0)


def added_schema(labels: tuple[str, ...], options: BatchOptions) -> pa.Schema:
    """Return the new columns."""
    fields = [("label", pa.string()), ("score", pa.float32())]
    if options.probabilities:
        fields += [(f"prob_{label}", pa.float32()) for label in labels]
    if options.details:
        fields += [("n_tokens", pa.int32()), ("truncated", pa.bool_())]
    return pa.schema([(options.prefix + name, kind) for name, kind in fields])


def added_batch(scores: Scores, labels: tuple[str, ...], schema: pa.Schema, options: BatchOptions) -> pa.RecordBatch:
    """Return the new columns of a chunk; label, score and probabilities are null where there is no score."""
    scored = scores.status == SCORED
    winners = scores.winners
    names = pa.array(labels, pa.string()).take(pa.array(winners, mask=~scored))
    best = scores.probabilities[np.arange(len(winners)), np.maximum(winners, 0)]
    columns = [names, pa.array(best, pa.float32(), mask=~scored)]
    if options.probabilities:
        columns += [pa.array(scores.probabilities[:, n], pa.float32(), mask=~scored) for n in range(len(labels))]
    if options.details:
        columns += [pa.array(scores.n_tokens, pa.int32()), pa.array(scores.tokens_cut > 0, pa.bool_())]
    return pa.record_batch(columns, schema=schema)


def performance(clock: Clock, sections: dict[str, Any], reused: int, device: dict[str, Any]) -> dict[str, Any]:
    """Return the summary's section on speed; rows taken from parts were not scored in this sitting."""
    elapsed = clock.elapsed_s
    stages = {name: round(seconds, 3) for name, seconds in sorted(clock.busy_s.items())}
    streaming = {name: clock.busy_s.get(name, 0.0) for name in ("read", "tokenize", "score", "write")}
    # Speed is that of the stream: checking and loading are told apart, since they do not grow with it.
    span = max(elapsed - clock.busy_s.get("check", 0.0) - clock.busy_s.get("load", 0.0), 1e-9)
    slowest = max(streaming, key=lambda name: streaming[name])
    rows = sections["rows"]
    fresh = max(rows["read"] - reused, 0)
    share = fresh / rows["read"] if rows["read"] else 0.0
    return {
        "rows_per_s": fresh / span,
        "tokens_per_s": share * sections["text"]["tokens_read"] / span,
        "seconds": stages,
        "busy_share": {name: round(min(1.0, seconds / span), 3) for name, seconds in streaming.items()},
        "bottleneck": {
            "read": "reading the input",
            "tokenize": "the tokenizer",
            "score": "the model",
            "write": "writing the output",
        }[slowest],
        "padding_share": device.get("padding_share"),
    }
