"""Checks before a training reads anything: inputs, output, and the packages that options need."""

from pathlib import Path

from batchsent.errors import InputError, UsageError
from batchsent.filenames import check_new, exists, expand, is_folder, is_pipe, is_regular
from batchsent.files import atomic
from batchsent.formats.dumps import is_several
from batchsent.formats.opening import check_read_options
from batchsent.model.folder import check_replaced
from batchsent.text import printable
from batchsent.training import search
from batchsent.training.adapters import check_peft
from batchsent.training.options import FinetuneOptions
from batchsent.training.read_labelled import is_file, reading_of
from batchsent.training.trackers import check_reporting
from batchsent.urls import is_url


def check_inputs(settings: FinetuneOptions) -> None:
    """Refuse a file that is not there, and options about data sets where all is files.

    Raises InputError or UsageError.
    """
    names = {"--train": settings.train} | (
        {"--eval": settings.eval} if settings.eval is not None else {}
    )
    for flag, name in names.items():
        if is_file(name) and not exists(expand(name)):
            raise InputError(f"{flag}: there is no file {printable(name)}", hint="check the path")
        refuse_pipe(flag, name)
    dumps = []
    if settings.pretrain_on is not None:
        check_dump(settings.pretrain_on)
        dumps = [settings.pretrain_on]
    check_read_options(reading_of(settings), [*filter(is_file, names.values()), *dumps])
    if all(is_file(name) for name in names.values()):
        for name in ("train_split", "eval_split", "dataset_config", "dataset_revision"):
            if getattr(settings, name) != getattr(FinetuneOptions, name):
                raise UsageError(
                    f"--{name.replace('_', '-')} is about data sets of the Hub, not about files"
                )


def check_dump(name: str) -> None:
    """Refuse unlabelled reviews that are not there, or can be read once only.

    Raises InputError or UsageError.
    """
    refuse_pipe("--pretrain-on", name)
    if not (is_url(name) or is_several(name) or exists(name)):
        raise InputError(
            f"--pretrain-on: there is no file {printable(name)}", hint="check the path"
        )


def refuse_pipe(flag: str, name: str) -> None:
    """Refuse stdin, a named pipe and what a shell makes of <(command). Raises UsageError."""
    if name == "-" or is_pipe(expand(name)):
        raise UsageError(
            f"{flag} cannot read a pipe: a training that resumes reads {printable(name)} again",
            hint="name a file",
        )


def check_output(final: Path, settings: FinetuneOptions) -> None:
    """Refuse an output that would destroy something. Raises UsageError."""
    check_new(final, atomic.temporary_path(final))
    if exists(final):
        if not settings.overwrite:
            raise UsageError(
                f"{printable(final)} exists already", hint="choose another name or add --overwrite"
            )
        # --overwrite removes the old folder: it must be a model, not somebody's home.
        if not is_regular(final / "config.json") and not (
            is_folder(final) and not any(final.iterdir())
        ):
            raise UsageError(
                f"{printable(final)} is no model folder, so it is not replaced",
                hint="choose another name",
            )
        check_replaced(final)
    if settings.torch_save is not None:
        saved = Path(settings.torch_save)
        inputs = ("train", "eval", "pretrain_on")
        for flag, name in ((f"--{i.replace('_', '-')}", getattr(settings, i)) for i in inputs):
            if name is not None and exists(name) and exists(saved) and saved.samefile(name):
                raise UsageError(
                    f"{flag} and --torch-save are the same file",
                    hint="choose another name for --torch-save",
                )
        check_new(saved, atomic.temporary_path(saved))
        if exists(saved) and not settings.overwrite:
            raise UsageError(
                f"{printable(saved)} exists already", hint="choose another name or add --overwrite"
            )
        if saved.absolute().is_relative_to(final.absolute()):
            raise UsageError(
                "--torch-save lies inside the model folder", hint="give a place beside it"
            )
        if not is_folder(saved.absolute().parent):
            raise UsageError(f"there is no folder {printable(saved.parent)}", hint="make it first")


def check_extras(settings: FinetuneOptions, processes: int) -> None:
    """Refuse options whose package is not installed, or that several processes cannot share.

    Raises UsageError.
    """
    if settings.lora is not None:
        check_peft()
    if settings.trials is not None:
        search.check_optuna()
        if processes > 1:
            raise UsageError(
                "--trials runs in one process",
                hint="search without torchrun, then train with what it chose",
            )
    if settings.report_to != "none":
        check_reporting(settings.report_to)
