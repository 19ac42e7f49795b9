"""The precisions in which a model can run: what is known of each, in one table."""

from dataclasses import dataclass

# Number formats with fewer digits, or a smaller range, than the weights were trained in.
HALF = ("float16", "bfloat16")


@dataclass(frozen=True)
class Precision:
    """How the products of a model are computed, and where."""

    weights: str  # number format in which the model is loaded, by torch's name
    devices: tuple[str, ...]  # kinds of device that have it
    # Largest difference of a logit between the forward pass without padding and transformers' own,
    # as a share of the logits' spread.
    tolerance: float
    least_capability: tuple[int, int] = (0, 0)  # compute capability of CUDA devices
    # It changes scores by more than rounding, and runs without padding only: a run takes it by
    # name, and compares some of its own texts with float32.
    opt_in: bool = False
    cpu_values: int = 2_048 * 768  # numbers in the states of a batch on a CPU (model/budget.py)
    # Functions as MODULE.NAME in batchsent.model, which model/dense.py finds when they are used: a
    # MakeDense, None for the one of the number format, and one of EncoderWeights that says why they
    # cannot run so.
    dense: str | None = None
    obstacle: str | None = None
    path: str = "packed"  # of an encoder without padding, in the summary
    reason: str = ""  # first words of that encoder's reason, for people
    note: str = ""  # what the help text says beside the name

    @property
    def is_half(self) -> bool:
        """Whether a text without a finite number may have one in float32."""
        return self.weights in HALF


# Tolerances: measured on a CPU with 512 tokens, at DistilBERT size and with the embedded model, the
# difference is 3e-6 in float32, the same bits in bfloat16, 0.17 in int8. Float16 has 11 bits, and
# kernels of its own on a GPU. On reviews FP8 differs from float32 by 0.05, int8 by 0.034, the tanh
# form of GELU by 0.0009 (examples/FIGURES.md).
PRECISIONS = {
    "float32": Precision("float32", devices=("cpu", "cuda", "mps"), tolerance=1e-3),
    "float16": Precision("float16", devices=("cuda", "mps"), tolerance=5e-2),
    "bfloat16": Precision("bfloat16", devices=("cpu", "cuda"), tolerance=0.3),
    "int8": Precision(
        "float32",
        devices=("cpu",),
        tolerance=0.5,
        opt_in=True,
        cpu_values=512 * 768,
        dense="int8.int8_dense",
        path="packed, int8",
        reason="dense layers in int8; ",
    ),
    "fp8": Precision(
        "bfloat16",
        devices=("cuda",),
        tolerance=0.5,
        least_capability=(8, 9),  # of FP8 products
        opt_in=True,
        dense="fp8.fp8_dense",
        obstacle="fp8.why_not_fp8",
        path="packed, fp8",
        reason="dense layers in FP8; ",
    ),
    "float16-tanh": Precision(
        "float16",
        devices=("cuda",),
        tolerance=5e-2,
        least_capability=(8, 0),  # of attention over packs
        opt_in=True,
        dense="dense.tanh_dense",
        obstacle="dense.why_not_tanh",
        path="packed, tanh GELU",
        reason="GELU inside of the products; ",
        note="GELU by its tanh form",
    ),
}
# What the user may type.
CHOICES = ("auto", *PRECISIONS)


def choices_in_words() -> str:
    """Return the choices for the help text, those for GPUs last."""
    others = [name for name, found in PRECISIONS.items() if found.devices != ("cuda",)]
    for_gpus = [
        f"{name} ({found.note})" if found.note else name
        for name, found in PRECISIONS.items()
        if name not in others
    ]
    return f"{', '.join(('auto', *others))}, or on GPUs {' or '.join(for_gpus)}"
