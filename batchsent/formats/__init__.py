"""Files <-> chunks: one module a format, reader and writer side by side.

Knows nothing of models.
"""

from batchsent.formats.opening import format_of, open_sink, open_source
from batchsent.formats.reading import ReadOptions, Sink, Source

__all__ = ["ReadOptions", "Sink", "Source", "format_of", "open_sink", "open_source"]
