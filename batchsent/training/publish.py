"""A trained model -> its folder, whole under its final name, and on the Hub where asked."""

import csv
import dataclasses
import io
import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from batchsent.errors import DeviceError, ModelError, OutputError, UsageError
from batchsent.files import atomic
from batchsent.formats import ReadOptions
from batchsent.formats.text_names import joint_of, names_of_text
from batchsent.model import calibration, canaries, held_out
from batchsent.model.calibration import softmax
from batchsent.model.canaries import write_canaries
from batchsent.model.files import sha256_of_all
from batchsent.model.folder import check_replaced
from batchsent.model.weight_files import weight_files
from batchsent.pages.training import render_training
from batchsent.text import first_line, printable
from batchsent.training import seen
from batchsent.training.card import make_card
from batchsent.training.card_metadata import BaseCard, read_base_card
from batchsent.training.checkpoints import writing
from batchsent.training.few_rows import carry_over
from batchsent.training.held_out import count_held_out, odd_pieces_limit
from batchsent.training.plan import Setup, Trained
from batchsent.training.train import CURVE_COLUMNS


def check_hub(repository: str) -> None:
    """Refuse an upload that cannot succeed before hours of training. Raises UsageError."""
    import huggingface_hub
    from huggingface_hub import errors as hub
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # loaded lazily

    try:
        validate_repo_id(repository)
        huggingface_hub.HfApi().whoami()
    except hub.HFValidationError as error:
        raise UsageError(
            f"--push-to-hub {printable(repository)} is no Hub id", hint="write OWNER/NAME"
        ) from error
    except (OSError, hub.HTTPError) as error:  # type: ignore[attr-defined]  # of httpx or httpx2
        raise UsageError(
            f"--push-to-hub {printable(repository)}: the Hub cannot be reached, or does not know "
            "who you are",
            hint="log in first: hf auth login",
        ) from error


def write_folder(
    final: Path,
    trained: Trained,
    document: dict[str, Any],
    setup: Setup,
    *,
    overwrite: bool,
    save: str | None,
) -> None:
    """Write the model folder and publish it in one step.

    Before that the state dict, where one was asked for. Adds to `document` how well the scores are
    calibrated, and to the folder the temperature that calibrates them.
    """
    temporary = atomic.temporary_directory(final)
    try:
        with writing(final):
            write_model(temporary, trained, document)
            if trained.facts["kept_base"]:
                carry_over(temporary, setup)
                if (found := calibration.read(temporary)) is not None:
                    document["calibration"] = dataclasses.asdict(found)
            write_papers(temporary, trained, document, setup, model_name(final, document))
        if save is not None:
            save_state_dict(trained, Path(save))
        if overwrite and final.exists():
            check_replaced(final)  # hours after the first look
        atomic.publish_directory(temporary, final, overwrite=overwrite)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_model(folder: Path, trained: Trained, document: dict[str, Any]) -> None:
    """Write weights, configuration, tokenizer and the temperature of the scores."""
    # The evaluation cut reviews there: a scoring run must do the same to keep what it promises.
    trained.tokenizer.model_max_length = document["hyperparameters"]["max_length"]
    trained.model.config.long_text = document["hyperparameters"]["long_text"]
    record_text_columns(trained.model.config, document["options"])
    trained.model.save_pretrained(folder)
    trained.tokenizer.save_pretrained(folder)
    if trained.held_out is not None:
        weights_sha256 = sha256_of_all(weight_files(folder))
        found = calibration.calibrate(*trained.held_out, weights_sha256=weights_sha256)
        document["calibration"] = dataclasses.asdict(found)
        (folder / calibration.FILE).write_bytes(calibration.dumps(found))


def record_text_columns(config: Any, options: dict[str, Any]) -> None:
    """Keep the text columns that were named in config.json: `batch` reads the same by default.

    Those of a base model are forgotten.
    """
    reading = ReadOptions(text_column=options["text_column"], text_joint=options["text_joint"])
    names = names_of_text(reading)
    recorded: dict[str, Any] = {"text_columns": list(names)} if names else {}
    if len(names) > 1:
        recorded["text_joint"] = joint_of(reading, len(names))
    for key in ("text_columns", "text_joint"):
        if key in recorded:
            setattr(config, key, recorded[key])
        elif hasattr(config, key):
            delattr(config, key)


def write_papers(
    folder: Path, trained: Trained, document: dict[str, Any], setup: Setup, name: str
) -> None:
    """Write what describes the model: metrics, curve, card, page, canaries, hashes and counts."""
    if not (folder / held_out.FILE).exists():
        write_held_out_rows(folder, trained, document, setup)
    if not (folder / canaries.FILE).exists():
        with suppress(ModelError, DeviceError):  # a folder without canaries is a model all the same
            write_canaries(folder)
    learned = setup.seen if trained.facts["kept_base"] else setup.seen_afterwards
    if learned.texts <= seen.MOST_TEXTS:
        (folder / seen.FILE).write_bytes(seen.dumps(learned))
    files = {
        "metrics.json": json.dumps(document, indent=2, allow_nan=False) + "\n",
        "training_curve.csv": curve_csv(trained.curve),
        "README.md": make_card(document, name, card_of(setup)),
    }
    for file, text in files.items():
        (folder / file).write_bytes(text.encode("utf-8", "replace"))
    # Reviews are quoted on the page of a folder that stays here, not of one for the Hub.
    quoted = {}
    if document["options"]["push_to_hub"] is None:
        quoted = setup.splits.evaluation.by_number()
    (folder / "report.html").write_bytes(
        render_training(document, files["training_curve.csv"], quoted)
    )
    # safetensors makes files that only their owner can read; the others follow the umask.
    for weights in folder.glob("*.safetensors"):
        weights.chmod((folder / "metrics.json").stat().st_mode & 0o777)


def write_held_out_rows(
    folder: Path, trained: Trained, document: dict[str, Any], setup: Setup
) -> None:
    """Write how the model did on the evaluation rows that its base model has not seen."""
    if trained.held_out is None or len(setup.names) > held_out.MOST_LABELS:
        return
    logits, gold = trained.held_out
    new = np.flatnonzero(~setup.seen.contains(setup.splits.evaluation.texts))
    if not len(new):
        return
    found = count_held_out(
        setup.names,
        softmax(np.asarray(logits, dtype=np.float64)[new]).astype(np.float32),
        np.asarray(gold, dtype=np.int64)[new],
        temperature=document["calibration"]["temperature"],
        weights_sha256=document["calibration"]["weights_sha256"],
        odd_pieces_above=odd_pieces_limit(
            trained.tokenizer, [setup.splits.evaluation.texts[row] for row in new.tolist()]
        ),
    )
    (folder / held_out.FILE).write_bytes(held_out.dumps(found))


def save_state_dict(trained: Trained, path: Path) -> None:
    """Write the weights with torch.save, whole under their name or not at all."""
    import torch

    with writing(path):
        pending = atomic.PendingFile(path)
        try:
            torch.save(trained.model.state_dict(), pending)
            pending.commit()
        finally:
            pending.close()


def model_name(final: Path, document: dict[str, Any]) -> str:
    """Return what the card calls the model: its Hub id, or its folder's name."""
    return str(document["options"]["push_to_hub"] or final.name)


def card_of(setup: Setup) -> BaseCard:
    """Return what the base model's card says."""
    return BaseCard() if setup.base is None else read_base_card(setup.base.path)


def curve_csv(curve: list[dict[str, float]]) -> str:
    """Return the training curve as CSV, a line a step: loss, learning rate, metrics."""
    steps: dict[int, dict[str, float]] = {}
    for entry in curve:
        steps.setdefault(int(entry["step"]), {}).update(entry)
    measured: set[str] = set()
    for entry in curve:
        measured.update(key for key in entry if key.startswith("eval_"))
    # How long an evaluation took differs between two runs that are otherwise the same.
    lasting = [key for key in measured if not key.endswith(("_runtime", "_per_second"))]
    columns = [*CURVE_COLUMNS, *sorted(lasting)]
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(steps[step] for step in sorted(steps))
    return out.getvalue()


def push(final: Path, repository: str) -> str:
    """Upload the finished folder to a Hub model and return its address.

    Raises OutputError; the folder itself is safe.
    """
    import huggingface_hub
    from huggingface_hub import errors as hub

    api = huggingface_hub.HfApi()
    try:
        address = api.create_repo(repository, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=final,
            commit_message="Upload a model made with batchsent",
        )
    except (OSError, ValueError, RuntimeError, hub.HTTPError) as error:  # type: ignore[attr-defined]  # of httpx or httpx2
        raise OutputError(
            f"the model is in {printable(final)}, but was not uploaded: {first_line(error)}",
            hint=f"try again without training: hf upload {printable(repository)} "
            f"{printable(final)}",
        ) from error
    return str(address)
