"""Write a model for another runtime, ONNX, torch.export or transformers, and compare its logits.

What is exported is transformers' own forward pass in float32.
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
from batchsent.model import calibration, weight_files
from batchsent.model.files import sha256_of
from batchsent.model.folder import check_replaced
from batchsent.model.loading import LoadedModel, identify, load_model, model_from
from batchsent.options import build, option
from batchsent.reporting import Reporter
from batchsent.text import first_line, printable
from batchsent.training.checkpoints import writing

# For torch a program and not a state dict. A program runs without transformers, and AOTInductor and
# ExecuTorch require one. For transformers a plain folder, of a model that is stored in 8 bits.
FILES = {"onnx": "model.onnx", "torch": "model.pt2", "transformers": weight_files.WEIGHTS}
REQUIRED = {"onnx": ("onnx", "onnxscript", "onnxruntime")}
# Kernels that add in another order change 2e-6 of the largest logit (ONNX Runtime). Padding that is
# not masked changes 0.8 of it.
TOLERANCE = 1e-4
# A protobuf message is limited to 2 GB; the weights of larger models go into a file beside it.
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
        "Format: onnx (model.onnx), torch (model.pt2, for torch.export.load) or transformers (a "
        "folder for from_pretrained, of a model that is stored in 8 bits).",
        choices=tuple(FILES),
        group="Common",
    )
    revision: str | None = option(
        None, "Commit, tag or branch of a Hub model.", metavar="REVISION", group="Model and device"
    )
    overwrite: bool = option(
        default=False, help="Replace an export that exists at FOLDER.", group="Common"
    )


def export(
    model: str, output: str | Path, *, reporter: Reporter | None = None, **options: Any
) -> dict[str, Any]:
    """Write a model for another runtime: program, config.json with the labels, tokenizer.

    The program takes ``input_ids`` and ``attention_mask``, int64 (rows, tokens) with any number of
    rows and up to as many tokens as the model reads, and gives ``logits`` float32 (rows, labels).
    Before the folder gets its name the program is loaded again and compared with the model on texts
    of different lengths, alone and padded: no logit may differ by more than `TOLERANCE` of the
    largest. Returns what was written and the largest difference found.

    Raises UsageError for an output that exists or a package that is missing, ModelError for a model
    that cannot be used or exported, or has other logits after it, OutputError, Locked and
    Interrupted as finetune does.
    """
    settings = build(ExportOptions, options)
    reporter = reporter or Reporter()
    final = expand(output)
    check_packages(settings.to)
    identity = identify(model, settings.revision)
    check_output(final, settings, identity.path)
    with atomic.output_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
    with Signals(), held_lock(final, 0):
        # The limit is the position table: a tokenizer may be set to cut earlier, or later.
        tokens = max(identity.max_length, identity.positions or 0)
        loaded = load_model(identity, device="cpu", precision="float32", max_length=tokens)
        temporary = atomic.temporary_directory(final)
        try:
            with writing(final):
                run = write_files(loaded, temporary, settings.to)
            texts, difference = largest_difference(loaded, run)
            check_difference(identity.architecture, difference, settings.to)
            written = sorted(path.name for path in temporary.iterdir())
            atomic.publish_directory(temporary, final, overwrite=settings.overwrite)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    reporter.notice(
        f"checked: {texts} texts of 1 to {tokens} tokens, logits within {difference:.1e} of the "
        "largest"
    )
    if identity.early_exit is not None:
        reporter.notice(
            "the early exit is not in it: every text runs through all layers, so scores of texts "
            "that exit early differ from those of batchsent"
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


def write_files(loaded: LoadedModel, folder: Path, kind: str) -> Callable[[Any, Any], Any]:
    """Write model, configuration and tokenizer; return a function that runs what was written."""
    loaded.module.config.save_pretrained(folder)
    run = WRITERS[kind](loaded, folder / FILES[kind])
    loaded.tokenizer.save_pretrained(folder)
    for name in EXTRA_FILES:
        if (loaded.identity.path / name).is_file():
            shutil.copyfile(loaded.identity.path / name, folder / name)
    if kind == "transformers":
        calibration.rename_weights(folder, sha256_of(folder / FILES[kind]))
    return run


def check_difference(architecture: str, difference: float, kind: str) -> None:
    """Raise ModelError where the logits differ by more than TOLERANCE of the largest, or by NaN."""
    if difference <= TOLERANCE:
        return
    other = "torch" if kind == "onnx" else "onnx"
    raise ModelError(
        f"the exported {printable(architecture)} gives other numbers: logits differ by "
        f"{difference:.1e} of the largest, more than {TOLERANCE:.0e}; nothing was written",
        hint=f"try --to {other}",
    )


def check_packages(kind: str) -> None:
    """Raise UsageError when a package that the format requires is not installed."""
    missing = [name for name in REQUIRED.get(kind, ()) if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"--to {kind} requires {', '.join(missing)}",
            hint='install them: pip install "batchsent[export]"',
        )


def check_output(final: Path, settings: ExportOptions, model: Path) -> None:
    """Refuse an output that would replace the model itself, or anything but an export.

    Raises UsageError.
    """
    check_new(final, atomic.temporary_path(final))
    if not exists(final):
        return
    if not settings.overwrite:
        raise UsageError(
            f"{printable(final)} exists already", hint="choose another name or add --overwrite"
        )
    # Not any model folder: that may have cost hours.
    expected = [settings.to] if settings.to == "transformers" else ["onnx", "torch"]
    if not any((final / FILES[kind]).is_file() for kind in expected):
        raise UsageError(
            f"{printable(final)} is not an export, so it is not replaced",
            hint="choose another name",
        )
    if final.resolve() == model.resolve():
        raise UsageError(
            f"{printable(final)} is the model itself", hint="choose another name with -o"
        )
    check_replaced(final)


def trace(loaded: LoadedModel) -> Any:
    """Return the forward pass as a torch.export program for any number of rows and tokens.

    Raises ModelError for an architecture that cannot be traced.
    """
    import torch

    class Logits(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
        """The model with two inputs and one output."""

        def __init__(self) -> None:
            super().__init__()
            self.model = loaded.module

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    # Two texts of different lengths: the tracer takes a dimension of 1 as a constant.
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
        raise  # Interrupted, by a signal
    # The errors of tracing have no common class.
    except Exception as error:
        raise ModelError(
            f"{printable(loaded.identity.architecture)} cannot be exported: {first_line(error)}",
            hint="encoders such as DistilBERT, BERT and RoBERTa can",
        ) from error
    for node in program.graph.nodes:
        # It holds paths of this machine, which both formats would contain.
        node.meta.pop("stack_trace", None)
    return program


def write_onnx(loaded: LoadedModel, path: Path) -> Callable[[Any, Any], Any]:
    """Write the model as ONNX and return a function that runs it in ONNX Runtime."""
    import onnxruntime
    import torch

    program = trace(loaded)
    size = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    with quiet_exporters():
        converted = torch.onnx.export(
            program,
            input_names=list(INPUTS),
            output_names=["logits"],
            # Names only: the limits are in the traced program.
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


def write_torch(loaded: LoadedModel, path: Path) -> Callable[[Any, Any], Any]:
    """Write the model for torch.export.load and return a function that runs the file."""
    import torch

    torch.export.save(trace(loaded), path)
    module = torch.export.load(path).module()
    return lambda input_ids, attention_mask: module(input_ids, attention_mask)


def write_transformers(loaded: LoadedModel, path: Path) -> Callable[[Any, Any], Any]:
    """Write the model for from_pretrained and return a function that runs what that loads."""
    import torch

    loaded.module.save_pretrained(path.parent)
    module, _ = model_from(path.parent, dtype=torch.float32)
    module.eval()
    return lambda input_ids, attention_mask: (
        module(input_ids=input_ids, attention_mask=attention_mask).logits
    )


WRITERS = {"onnx": write_onnx, "torch": write_torch, "transformers": write_transformers}


def largest_difference(loaded: LoadedModel, run: Callable[[Any, Any], Any]) -> tuple[int, float]:
    """Compare a runtime with the model; return the number of texts and the largest difference.

    The difference is a share of the largest logit; infinity where a logit is not finite. Every text
    is run alone, and all of them together with padding.
    """
    import torch

    # From one word to more than the model reads.
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
    """Suppress the warnings of torch's exporters, which are for their developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
