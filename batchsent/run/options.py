"""How a dump is scored: every option of `batchsent batch`, with its default."""

from dataclasses import dataclass

from batchsent.formats import FORMATS, ReadOptions
from batchsent.formats.outputs import ColumnOptions, OutputOptions
from batchsent.formats.reading import RowOptions
from batchsent.model.options import CascadeOptions
from batchsent.options import option


@dataclass(frozen=True)
class FrameOptions(ColumnOptions, RowOptions):
    """How rows are scored that are in memory, by a model that is loaded."""

    calibrated: bool = option(
        False,
        "Apply the calibration temperature fitted by finetune; without it scores are the raw "
        "softmax.",
        affects="writing",
        group="Columns",
    )


@dataclass(frozen=True)
class NamedFrameOptions(FrameOptions, CascadeOptions):
    """How rows in memory are scored, and by which model."""


@dataclass(frozen=True)
class StreamOptions(FrameOptions, ReadOptions, CascadeOptions):
    """How a file is read and scored where nothing is written."""


@dataclass(frozen=True)
class BatchOptions(OutputOptions, StreamOptions):
    """How a dump is scored."""

    gold: str | None = option(
        None,
        "Column with gold labels: adds an evaluation to the summary.",
        metavar="COLUMN",
        affects="writing",
        group="Quality",
    )
    gold_stars: str | None = option(
        None,
        "Column with star ratings, taken as weak labels; requires --stars.",
        metavar="COLUMN",
        affects="writing",
        group="Quality",
    )
    stars: str | None = option(
        None,
        "Label of each range of stars, such as 1-2:NEGATIVE,4-5:POSITIVE.",
        metavar="FROM-TO:LABEL,...",
        affects="writing",
        group="Quality",
    )
    gold_map: str | None = option(
        None,
        "Label of each gold value, such as neg=NEGATIVE,pos=POSITIVE.",
        metavar="VALUE=LABEL,...",
        affects="writing",
        group="Quality",
    )
    keep: str | None = option(
        None,
        "With --disagreements or --report-examples: columns of the input to show beside each row, "
        "such as id,product.",
        metavar="COLUMN,...",
        affects="writing",
        group="Quality",
    )
    fail_under: tuple[str, ...] = option(
        (),
        "Exit with 8 if a figure of the evaluation, or expected_accuracy, is lower; may be "
        "repeated.",
        metavar="FIGURE=VALUE",
        multiple=True,
        group="Quality",
    )
    report: bool = option(
        False,
        "Also write the summary as a page, OUTPUT.report.html.",
        affects="nothing",
        group="Common",
    )
    report_examples: int = option(
        0,
        "Show N rows of each kind on the page: most wrong, least sure, most positive and negative, "
        "mixed. The page then holds texts.",
        metavar="N",
        minimum=0,
        affects="writing",
        group="Quality",
    )
    reuse: tuple[str, ...] = option(
        (),
        "Take the scores of all rows whose text is in this output of an earlier run with the "
        "same model and options; may be repeated.",
        metavar="OLD_OUTPUT",
        multiple=True,
        affects="nothing",
        group="Run",
    )
    source_column: str | None = option(
        None,
        "Write several inputs into one output file, with a column of this name that has the path "
        "of each row's input.",
        metavar="NAME",
        affects="writing",
        group="Run",
    )
    work_folder: str | None = option(
        None,
        "Where an output in a store is written before it is uploaded, with the kept work [default: "
        "~/.cache/batchsent/work].",
        metavar="FOLDER",
        affects="nothing",
        group="Run",
    )
    output_format: str | None = option(
        None,
        "Format of the output [default: from its name].",
        choices=tuple(FORMATS),
        affects="writing",
        group="Run",
    )
    summary: str | None = option(
        None,
        "Summary to write [default: OUTPUT.summary.json].",
        metavar="FILE",
        group="Run",
    )
    rejects: str | None = option(
        None,
        "File for rejected rows [default: OUTPUT.rejects.csv].",
        metavar="FILE",
        group="Run",
    )
    max_bad_rows: str | None = option(
        None,
        "Maximum bad rows, a count or a percentage; requires --bad-rows reject.",
        metavar="N|P%",
        group="Run",
    )
    overwrite: bool = option(
        False, "Replace an output that exists already.", affects="nothing", group="Common"
    )
    restart: bool = option(
        False, "Discard the unfinished work of an earlier run.", affects="nothing", group="Run"
    )
    lock_wait: float = option(
        0.0,
        "Seconds to wait for another run that writes the same output.",
        minimum=0,
        affects="nothing",
        metavar="S",
        group="Run",
    )
    stop_after: str | None = option(
        None,
        "Stop after so long, such as 3h, 90m or 1h30m, with the work kept (exit code 12); run the "
        "same command again to resume.",
        metavar="DURATION",
        affects="nothing",
        group="Run",
    )
    stop_at: str | None = option(
        None,
        "The same at the next such time of this machine's clock, such as 06:00.",
        metavar="HH:MM",
        affects="nothing",
        group="Run",
    )
    processes: int = option(
        1,
        "Processes of this machine that score on its CPUs; they share the threads. Each takes a "
        "chunk of rows at a time.",
        metavar="N",
        minimum=1,
        affects="nothing",
        group="Model and device",
    )
    engine: str | None = option(
        None,
        "Score on the workers of a cluster: each input file on one, a single one on all.",
        choices=("ray",),
        affects="nothing",
        group="Run",
    )
    workers: int | None = option(
        None,
        "Workers on the cluster [default: one for each of its GPUs, or CPUs where it has none].",
        metavar="N",
        minimum=1,
        affects="nothing",
        group="Run",
    )
    address: str | None = option(
        None,
        "The cluster [default: RAY_ADDRESS, or one on this machine for this run].",
        metavar="auto|HOST:PORT",
        affects="nothing",
        group="Run",
    )
    dry_run: bool = option(
        False,
        "Check everything that can be checked, print what would be done, write nothing.",
        group="Common",
    )

    @property
    def writes_page(self) -> bool:
        """Whether the summary is written as a page too."""
        return self.report or self.report_examples > 0
