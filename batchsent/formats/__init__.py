"""Files <-> chunks: one module a format, reader and writer side by side."""

from batchsent.formats.catalog import FORMATS
from batchsent.formats.opening import format_of, open_sink, open_source
from batchsent.formats.reading import ReadOptions, Sink, Source

__all__ = ["FORMATS", "ReadOptions", "Sink", "Source", "format_of", "open_sink", "open_source"]
