"""The options of a model, and the checks of them before it is loaded."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchsent.errors import UsageError
from batchsent.model.device import check_device
from batchsent.model.folder import LEAST_LENGTH
from batchsent.model.packing import LONG_TEXT
from batchsent.model.tokens import check_long_text
from batchsent.options import option
from batchsent.precisions import choices_in_words

if TYPE_CHECKING:
    from batchsent.model.loading import ModelIdentity

SPECIAL_TOKENS = 2
CASCADE_BELOW = 0.9


@dataclass(frozen=True)
class ModelOptions:
    """How a model runs."""

    device: str = option(
        "auto",
        "Where the model runs: auto, cpu, cuda, cuda:N or mps. In batch, cuda and auto are all "
        "GPUs of the machine, cuda:0,2 some of them.",
        metavar="DEVICE",
        affects="scores",
        group="Model and device",
    )
    precision: str = option(
        "auto",
        f"Number format of the model: {choices_in_words()}.",
        metavar="FORMAT",
        affects="scores",
        group="Model and device",
    )
    max_length: int | None = option(
        None,
        "Tokens read of a text [default: the model's limit].",
        metavar="N",
        affects="scores",
        group="Model and device",
    )
    long_text: str | None = option(
        None,
        "What is read of a longer text [default: as the model was trained, else head].",
        choices=LONG_TEXT,
        affects="scores",
        group="Model and device",
    )
    batch_tokens: int | None = option(
        None,
        "Tokens in one forward pass; on CUDA the size of every pack, --max-length at least "
        "[default: from the device].",
        metavar="N",
        affects="scores",
        group="Model and device",
    )


@dataclass(frozen=True)
class NamedModelOptions(ModelOptions):
    """Which model runs, and how."""

    model: str | None = option(
        None,
        "Model folder, or id on the Hugging Face Hub [default: the one that comes with batchsent].",
        short="-m",
        metavar="FOLDER|ID",
        group="Common",
    )
    revision: str | None = option(
        None, "Commit, tag or branch of a Hub model.", group="Model and device"
    )


@dataclass(frozen=True)
class CascadeOptions(NamedModelOptions):
    """Which model runs, and which faster one before it."""

    cascade: str | None = option(
        None,
        "A faster model that scores every text first, such as embedded: --model scores only texts "
        "of which that is not sure.",
        metavar="FOLDER|ID",
        affects="scores",
        group="Model and device",
    )
    cascade_below: float | None = option(
        None,
        "With --cascade: score of the fast model below which --model scores the text "
        f"[default: {CASCADE_BELOW}].",
        metavar="SCORE",
        affects="scores",
        group="Model and device",
    )


def check_model_options(identity: "ModelIdentity", options: ModelOptions) -> None:
    """Refuse options that this model or this machine does not support; does not load the model.

    With the default device and precision, or a CPU in another format than int8, torch is not
    imported. Raises UsageError, and DeviceError for a device that is not there.
    """
    check_max_length(identity, options.max_length)
    check_batch_tokens(options.batch_tokens)
    long_text = options.long_text or identity.long_text
    if long_text is not None:
        check_long_text(long_text, (options.max_length or identity.max_length) - SPECIAL_TOKENS)
    check_device(options.device, options.precision)


def check_max_length(identity: "ModelIdentity", max_length: int | None) -> None:
    """Raise UsageError for a length that the model cannot read."""
    # A model fine-tuned on 256 tokens can read the 512 that its weights allow.
    most = max(identity.max_length, identity.positions or 0)
    if max_length is not None and not LEAST_LENGTH <= max_length <= most:
        raise UsageError(
            f"--max-length {max_length}: this model reads {LEAST_LENGTH} to {most} tokens",
            hint=f"leave it out to read {identity.max_length}",
        )


def check_batch_tokens(batch_tokens: int | None) -> None:
    """Raise UsageError for a batch of less than one token."""
    if batch_tokens is not None and batch_tokens < 1:
        raise UsageError(f"--batch-tokens {batch_tokens} is less than 1")
