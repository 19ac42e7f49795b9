"""A stand-in for torch on a machine with a GPU, as far as the choice of a device asks it."""

from types import SimpleNamespace


def torch_with(gpu):
    """Stand in for torch with one CUDA device of these properties, and an Apple GPU."""
    return SimpleNamespace(
        __version__="2.13.0",
        version=SimpleNamespace(cuda="13.0"),
        cuda=SimpleNamespace(
            is_available=lambda: True,
            device_count=lambda: 1,
            get_device_properties=lambda number: gpu,
            get_arch_list=list,
        ),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: True)),
    )
