"""Write a model folder for another runtime, ONNX or torch.export, once its numbers agree.

Knows nothing of how batchsent itself runs a model: what is exported is transformers' own forward
pass in float32.
"""

import contextlib
import importlib.util
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchsent.errors import BatchsentError, ModelError, UsageError
from batchsent.filenames import check_new, exists, expand
from batchsent.files import atomic
from batchsent.files.lock import held_lock
from batchsent.files.signals import Signals
from batchsent.model import calibration
from batchsent.model.folder import check_replaced
from batchsent.model.loading import LoadedModel, identify, load_model
from batchsent.options import build, option
from batchsent.reporting import Reporter
from batchsent.text import first_line, printable
from batchsent.training.checkpoints import writing

# Why not a state dict for torch: model.safetensors is one already. A program runs without
# transformers, and is what AOTInductor and ExecuTorch take.
FILES = {"onnx": "model.onnx", "torch": "model.pt2"}
NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "torch": ()}
# Other kernels add in another order: 2e-6 of the largest logit with ONNX Runtime. Padding that is
# read makes 0.8.
TOLERANCE = 1e-4
# One protobuf message holds 2 GB; the weights of larger models go to a file beside it, where ONNX
# Runtime finds them.
ONNX_FILE_BYTES = 1_900_000_000
INPUTS = ("input_ids", "attention_mask")
EXTRA_FILES = ("README.md", calibration.FILE)
SENTENCE = (
    "This film was great, the plot of the book was not, and I would never watch either again. "
)


@dataclass(frozen=True)
class ExportOptions:
    """What a model is exported to."""

    to: str = option(
        "onnx",
        "onnx: model.onnx; torch: model.pt2, for torch.export.load.",
        choices=tuple(FILES),
        group="Common",
    )
    revision: str | None = option(
        None, "Commit, tag or branch of a Hub model.", metavar="REVISION", group="Model and device"
    )
    overwrite: bool = option(
        default=False, help="Replace the export that is at FOLDER.", group="Common"
    )


def export(
    model: str, output: str | Path, *, reporter: Reporter | None = None, **options: Any
) -> dict[str, Any]:
    """Write a model for another runtime: program, config.json with the labels, tokenizer.

    The program takes ``input_ids`` and ``attention_mask``, int64 (rows, tokens) with any number of
    rows and up to as many tokens as the model reads, and gives ``logits`` float32 (rows, labels).
    Before the folder gets its name the program is read back and held against the model on texts of
    different lengths, alone and padded: no logit may differ by more than `TOLERANCE` of the
    largest. Returns what was written and the largest difference found.

    Raises UsageError for an output that exists or a package that is missing, ModelError for a model
    that cannot be used, exported, or gives other numbers, OutputError, Locked and Interrupted as
    finetune does.
    """
    settings = build(ExportOptions, options)
    reporter = reporter or Reporter()
    final = expand(output)
    check_packages(settings.to)
    check_output(final, settings)
    identity = identify(model, settings.revision)
    with atomic.output_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
    with Signals(), held_lock(final, 0):
        # The position table is the true limit: a tokenizer may be told to cut earlier, or later.
        tokens = max(identity.max_length, identity.positions or 0)
        loaded = load_model(identity, device="cpu", precision="float32", max_length=tokens)
        temporary = atomic.temporary_directory(final)
        try:
            program = trace(loaded)
            with writing(final):
                path = temporary / FILES[settings.to]
                run = WRITERS[settings.to](program, path)
                loaded.module.config.save_pretrained(temporary)
                loaded.tokenizer.save_pretrained(temporary)
                for name in EXTRA_FILES:
                    if (identity.path / name).is_file():
                        shutil.copyfile(identity.path / name, temporary / name)
            texts, difference = largest_difference(loaded, run)
            if not difference <= TOLERANCE:
                raise ModelError(
                    f"the exported {printable(identity.architecture)} gives other numbers: logits "
                    f"differ by {difference:.1e} of the largest, more than {TOLERANCE:.0e}; "
                    "nothing was written",
                    hint=f"try --to {next(kind for kind in FILES if kind != settings.to)}",
                )
            written = sorted(path.name for path in temporary.iterdir())
            atomic.publish_directory(temporary, final, overwrite=settings.overwrite)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    reporter.notice(
        f"checked: {texts} texts of 1 to {tokens} tokens, logits within {difference:.1e} of the "
        "largest"
    )
    return {
        "format": settings.to,
        "path": str(final),
        "files": written,
        "labels": list(identity.labels),
        "max_tokens": tokens,
        "model": {"source": identity.source, "weights_sha256": identity.weights_sha256},
        "check": {"texts": texts, "largest_difference": difference, "tolerance": TOLERANCE},
    }


def check_packages(kind: str) -> None:
    """Raise UsageError when a package that the format needs is not installed."""
    missing = [name for name in NEEDED[kind] if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"--to {kind} needs {', '.join(missing)}",
            hint='install them: pip install "batchsent[export]"',
        )


def check_output(final: Path, settings: ExportOptions) -> None:
    """Refuse an output that would destroy something. Raises UsageError."""
    check_new(final, atomic.temporary_path(final))
    if not exists(final):
        return
    if not settings.overwrite:
        raise UsageError(
            f"{printable(final)} exists already", hint="choose another name or add --overwrite"
        )
    # Not any model folder: `batchsent export model -o model --overwrite` would remove what it
    # reads.
    if not any((final / name).is_file() for name in FILES.values()):
        raise UsageError(
            f"{printable(final)} is no export, so it is not replaced", hint="choose another name"
        )
    check_replaced(final)


def trace(loaded: LoadedModel) -> Any:
    """Return the stock forward pass as a torch.export program with free numbers of rows and tokens.

    Raises ModelError for an architecture that cannot be traced.
    """
    import torch

    class Logits(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
        """The model with two inputs and one output, whatever else its architecture offers."""

        def __init__(self) -> None:
            super().__init__()
            self.model = loaded.module

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    # Two different texts: with one row, or one token, the tracer would take the 1 for a constant.
    example = loaded.tokenizer(
        [SENTENCE, "No."], padding=True, truncation=True, max_length=32, return_tensors="pt"
    )
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=loaded.max_length)}
    try:
        with quiet_exporters():
            program = torch.export.export(
                Logits().eval(),
                tuple(example[name] for name in INPUTS),
                dynamic_shapes=dict.fromkeys(INPUTS, axes),
            )
    except BatchsentError:
        raise  # a signal that came in the middle
    # What can go wrong while a foreign forward pass is traced has no common class.
    except Exception as error:
        raise ModelError(
            f"{printable(loaded.identity.architecture)} cannot be exported: {first_line(error)}",
            hint="encoders such as DistilBERT, BERT and RoBERTa can",
        ) from error
    for node in program.graph.nodes:
        # both formats would carry the paths of this machine into the world
        node.meta.pop("stack_trace", None)
    return program


def write_onnx(program: Any, path: Path) -> Callable[[Any, Any], Any]:
    """Write the program as ONNX and return a function that runs it in ONNX Runtime."""
    import onnxruntime
    import torch

    size = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    with quiet_exporters():
        converted = torch.onnx.export(
            program,
            input_names=list(INPUTS),
            output_names=["logits"],
            # names; the trace has limits
            dynamic_shapes={name: {0: "batch", 1: "sequence"} for name in INPUTS},
            dynamo=True,
            verbose=False,
        )
    converted.save(path, external_data=size > ONNX_FILE_BYTES)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(input_ids: Any, attention_mask: Any) -> Any:
        feeds = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
        return torch.from_numpy(session.run(["logits"], feeds)[0])

    return run


def write_torch(program: Any, path: Path) -> Callable[[Any, Any], Any]:
    """Write the program for torch.export.load and return a function that runs what was written."""
    import torch

    torch.export.save(program, path)
    module = torch.export.load(path).module()
    return lambda input_ids, attention_mask: module(input_ids, attention_mask)


WRITERS = {"onnx": write_onnx, "torch": write_torch}


def largest_difference(loaded: LoadedModel, run: Callable[[Any, Any], Any]) -> tuple[int, float]:
    """Compare a runtime with the model; return how many texts and the largest difference.

    The difference is a share of the largest logit; infinity where a number is missing. Every text
    is run alone, and all of them padded together.
    """
    import torch

    # From two special tokens and a word to more than the model reads.
    texts = [
        "Good",
        "Bad!",
        SENTENCE,
        SENTENCE * 3,
        SENTENCE * 9,
        SENTENCE * (loaded.max_length // 8 + 1),
    ]
    largest = 0.0
    for rows in (*([text] for text in texts), texts):
        batch = loaded.tokenizer(
            rows, padding=True, truncation=True, max_length=loaded.max_length, return_tensors="pt"
        )
        with torch.inference_mode():
            wanted = loaded.module(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).logits
            found = run(batch["input_ids"], batch["attention_mask"])
        if found.shape != wanted.shape or not torch.isfinite(found).all():
            return len(texts), float("inf")
        largest = max(largest, float((found - wanted).abs().max() / wanted.abs().max()))
    return len(texts), largest


@contextlib.contextmanager
def quiet_exporters() -> Iterator[None]:
    """Keep the warnings of torch's exporters to their own developers off stderr."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
