"""The default number of tokens in one forward pass, from the sizes of device and model."""

from batchsent.model.loading import LoadedModel
from batchsent.precisions import PRECISIONS

# The share of a device's memory for one batch. The rest is for the weights and for the allocator's
# gaps.
MEMORY_SHARE = 0.4
LARGEST_BUDGET = 131_072  # an H200 is full at 64k to 128k tokens


def default_budget(model: LoadedModel) -> int:
    """Return the default tokens of a batch, from the sizes of device and model.

    Not from the memory that is free, since a run that is resumed beside another program must have
    the same batches.
    """
    config = model.config
    hidden = int(getattr(config, "hidden_size", 768))
    if model.device.memory_bytes is None:
        # The states of a batch should fit in the processor's cache: 2,048 tokens of 768 numbers in
        # float32, 512 in int8. There twice as many are 2 to 15 % slower, half as many up to 3 %
        # (IMDB reviews, DistilBERT size, AMD EPYC Zen 4).
        values = PRECISIONS[model.device.precision].cpu_values
        return max(512, min(LARGEST_BUDGET, values // hidden))
    inner = int(
        getattr(config, "intermediate_size", None)
        or getattr(config, "hidden_dim", None)
        or 4 * hidden
    )
    bytes_per_token = (8 * hidden + 2 * inner) * (4 if model.device.weights == "float32" else 2)
    fitting = int(model.device.memory_bytes * MEMORY_SHARE) // bytes_per_token
    return max(512, min(LARGEST_BUDGET, fitting))
