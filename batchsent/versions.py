"""The versions of Python and of packages, found without importing them."""

import platform
from collections.abc import Sequence
from importlib import metadata

# Packages whose version can change a score or a byte of the output.
SCORING = ("batchsent", "torch", "transformers", "tokenizers", "pyarrow", "numpy")
# Packages whose version can change a trained model or its figures.
TRAINING = ("batchsent", "torch", "transformers", "tokenizers", "datasets", "evaluate", "numpy")


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the version of Python and of each package, or "not installed"."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
