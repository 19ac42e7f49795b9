"""How far a model's scores can be trusted without gold labels: what its folder says, or why not."""

from dataclasses import dataclass

from batchsent.errors import ModelError
from batchsent.evaluation.without_labels import WithoutLabels
from batchsent.model import calibration, held_out
from batchsent.model.loading import ModelIdentity
from batchsent.model.options import ModelOptions
from batchsent.text import printable


@dataclass(frozen=True)
class Reliability:
    """The calibration temperature of a model and its held-out rows, where its folder has them."""

    temperature: float | None
    why_no_temperature: str | None
    held_out: held_out.HeldOut | None
    why_no_held_out: str | None

    def counts(self, labels: tuple[str, ...]) -> WithoutLabels:
        """Return what counts the scores of a run with this model."""
        if self.held_out is None:
            return WithoutLabels(labels, why_not=self.why_no_held_out)
        return WithoutLabels(labels, self.held_out.calibrated)


def reliability_of(identity: ModelIdentity, options: ModelOptions) -> Reliability:
    """Read what a model folder says of its scores, and hold it against the options of a run.

    Files that are damaged, or belong to other weights, are reasons why a figure is missing, not
    errors: a run without such a figure is whole.
    """
    if identity.cascade is not None:
        why = "the scores are those of two models (--cascade)"
        return Reliability(None, why, None, why)
    temperature, why_no_temperature = _temperature(identity)
    found, why_not = None, why_no_temperature
    if temperature is not None:
        found, why_not = _held_out(identity, temperature, options)
    return Reliability(temperature, why_no_temperature, found, why_not)


def _temperature(identity: ModelIdentity) -> tuple[float | None, str | None]:
    try:
        fitted = calibration.read(identity.path, weights_sha256=identity.weights_sha256)
    except ModelError as error:
        return None, error.message
    if fitted is None:
        return None, f"the model has no {calibration.FILE}"
    if fitted.rows < calibration.FEWEST_ROWS:
        return None, (
            f"the model's temperature is not known: it was fitted on {fitted.rows:,} rows, "
            f"{calibration.FEWEST_ROWS} are required"
        )
    return fitted.temperature, None


def _held_out(
    identity: ModelIdentity, temperature: float, options: ModelOptions
) -> tuple[held_out.HeldOut | None, str | None]:
    try:
        found = held_out.read(identity.path, weights_sha256=identity.weights_sha256)
    except ModelError as error:
        return None, error.message
    if found is None:
        return None, f"the model has no {held_out.FILE}"
    if found.labels != identity.labels or found.temperature != temperature:
        return None, f"{held_out.FILE} does not belong to the model's other files"
    read = {
        "--max-length": (options.max_length, identity.max_length),
        "--long-text": (options.long_text, identity.long_text or "head"),
    }
    for option, (given, usual) in read.items():
        if given is not None and given != usual:
            return None, f"{option} {printable(given)} reads texts otherwise than the held-out rows"
    return found, None
