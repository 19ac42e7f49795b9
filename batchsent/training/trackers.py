"""Where else a curve goes: the trackers that transformers can talk to.

Sends nothing unless asked.
"""

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchsent.errors import UsageError
from batchsent.text import printable

TENSORBOARD_DIR = "TENSORBOARD_LOGGING_DIR"  # what transformers reads


def check_reporting(name: str) -> None:
    """Raise UsageError for a tracker that transformers does not know or that is not installed."""
    from transformers.integrations import get_available_reporting_integrations
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    if name not in INTEGRATION_TO_CALLBACK:
        near = difflib.get_close_matches(name, INTEGRATION_TO_CALLBACK, n=1)
        known = ", ".join(INTEGRATION_TO_CALLBACK)
        raise UsageError(
            f"--report-to {printable(name)}: transformers knows no such tracker",
            hint=f"did you mean {near[0]}?" if near else f"choose one of: none, {known}",
        )
    # flyte is only told inside of a Flyte task, which is for itself to say.
    if name not in {*get_available_reporting_integrations(), "flyte"}:
        raise UsageError(
            f"--report-to {name} needs a package that is not installed", hint=f"pip install {name}"
        )


@contextmanager
def tensorboard_folder(final: Path) -> Iterator[None]:
    """Have TensorBoard's logs beside the model, as OUTPUT.logs, unless the environment says where.

    Its own default is a folder inside that of the checkpoints, which goes when the model is there.
    """
    given = os.environ.get(TENSORBOARD_DIR)
    os.environ[TENSORBOARD_DIR] = given or str(final.with_name(f"{final.name}.logs"))
    try:
        yield
    finally:
        if given is None:
            del os.environ[TENSORBOARD_DIR]
