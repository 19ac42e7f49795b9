"""Memory of a run with gold labels stays flat up to five million rows."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.peak_memory import CODE, ROOT

GROUP_ROWS = 100_000
GOLD = pa.array(["neg", "pos", "NEGATIVE", "1", "no label", None])


def write_reviews(path, rows):
    """Write short reviews, every one different, with gold values of every kind."""
    schema = pa.schema([("text", pa.string()), ("gold", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, rows, GROUP_ROWS):
            numbers = pa.array(np.arange(start, min(start + GROUP_ROWS, rows)))
            texts = pc.binary_join_element_wise(
                "review", numbers.cast(pa.string()), "of a film", " "
            )
            gold = GOLD.take(pa.array(numbers.to_numpy() % len(GOLD)))
            writer.write_table(pa.Table.from_arrays([texts, gold], schema=schema))


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_memory_is_flat_up_to_five_million_rows_with_gold(tmp_path):
    """5,000,000 rows with a gold column, judged by length and score, peak like 500,000."""
    peaks, sizes = [], []
    for rows in (500_000, 5_000_000):
        source, target = tmp_path / f"{rows}.parquet", tmp_path / f"{rows}-out.parquet"
        write_reviews(source, rows)
        command = [
            sys.executable,
            "-c",
            CODE,
            source,
            target,
            json.dumps({"gold": "gold", "unsure_below": 0.7}),
        ]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=3_000)
        code, said, megabytes = json.loads(done.stdout)
        assert code == 0, said
        summary = tmp_path / f"{target.name}.summary.json"
        document = json.loads(summary.read_bytes())
        assert document["rows"]["scored"] == rows
        assert document["evaluation"]["rows"] == sum(rows // 6 + (n < rows % 6) for n in range(4))
        assert document["evaluation"]["gold"]["unmatched_values"][0]["value"] == "no label"
        peaks.append(megabytes)
        sizes.append(summary.stat().st_size)
        source.unlink()
        target.unlink()
    print(f"peak MB {peaks}, bytes of the summary {sizes}")
    assert peaks[1] < peaks[0] + 60
    assert sizes[1] < sizes[0] + 500
