"""Parquet files of other writers: whatever codec, encoding and page version pyarrow reads is
copied.
"""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.commands.batch import batch
from batchsent.errors import InputError
from batchsent.verification.verify import verify
from tests.hash_model import HashModels

TABLE = pa.table({"id": list(range(300)), "text": [f"review {n} " * 20 for n in range(300)]})
# Column metadata in the footer: the path ["text"], then field 4, the codec, an i32 of value 7
# (LZ4_RAW) or 5 (LZ4).
RAW, DEPRECATED = b"\x19\x18\x04text\x15\x0e", b"\x19\x18\x04text\x15\x0a"


def deprecated_lz4(path):
    """A file as old Hadoop and Impala wrote it: pyarrow reads it and does not write it."""
    pq.write_table(TABLE, path, compression="lz4")
    data = path.read_bytes()
    assert data.count(RAW) == 1
    path.write_bytes(data.replace(RAW, DEPRECATED))
    assert pq.ParquetFile(path).metadata.row_group(0).column(1).compression == "UNKNOWN"
    return path


def test_a_file_with_the_deprecated_lz4_codec_is_scored_and_the_output_has_lz4_raw(tmp_path):
    """The summary says so once; the values are the input's."""
    source = deprecated_lz4(tmp_path / "old.parquet")
    summary = batch(source, tmp_path / "out.parquet", models=HashModels())
    (said,) = [warning for warning in summary["warnings"] if warning["code"] == "deprecated_codec"]
    assert "the deprecated LZ4 codec (text)" in said["message"]
    written = pq.ParquetFile(tmp_path / "out.parquet")
    assert written.metadata.row_group(0).column(1).compression == "LZ4"
    assert written.read(["id", "text"]).equals(TABLE)
    assert verify(source, tmp_path / "out.parquet")["verdict"]


WRITERS = [
    *({"compression": codec} for codec in ("none", "snappy", "gzip", "brotli", "zstd", "lz4")),
    {"data_page_version": "2.0"},
    {"version": "1.0"},
    {
        "use_dictionary": False,
        "column_encoding": {"id": "DELTA_BINARY_PACKED", "text": "DELTA_LENGTH_BYTE_ARRAY"},
    },
    {
        "use_dictionary": False,
        "column_encoding": {"id": "BYTE_STREAM_SPLIT", "text": "DELTA_BYTE_ARRAY"},
    },
    {"write_page_checksum": True, "data_page_size": 512},
    {"store_schema": False, "write_page_index": True},
]


@pytest.mark.parametrize("settings", WRITERS, ids=str)
def test_every_codec_encoding_and_page_version_is_copied(tmp_path, settings):
    """The values come out as they went in, with label and score beside them."""
    pq.write_table(TABLE, tmp_path / "in.parquet", **settings)
    batch(tmp_path / "in.parquet", tmp_path / "out.parquet", models=HashModels())
    assert pq.read_table(tmp_path / "out.parquet", columns=["id", "text"]).equals(TABLE)


def test_a_codec_that_pyarrow_does_not_read_is_an_input_error(tmp_path):
    """LZO, of the format's first years: exit 4 with the file's name, not a traceback."""
    path = tmp_path / "lzo.parquet"
    pq.write_table(TABLE, path, compression="lz4")
    path.write_bytes(path.read_bytes().replace(RAW, RAW[:-1] + b"\x06"))
    with pytest.raises(InputError, match="lzo"):
        batch(path, tmp_path / "out.parquet", models=HashModels())
