"""A table with every kind of column that people keep beside their reviews."""

import datetime
import decimal
import uuid

import numpy as np
import pyarrow as pa


def everything():
    """A table with every kind of column that people keep beside their reviews."""
    n = 7
    tz = datetime.datetime(2024, 1, 2, 3, 4, 5, 678901, datetime.UTC)
    columns = {
        "text": pa.array(["good", None, "", "bad\r\nworse", "NA", "  ", "é"]),
        "large": pa.array(["x"] * n, pa.large_string()),
        "view": pa.array(["a longer text than twelve bytes"] * n, pa.string_view()),
        "dictionary": pa.array(["a", "b", None, "a", "b", "a", "c"]).dictionary_encode(),
        "binary": pa.array([b"\xff\x00"] * n),
        "small": pa.array([1, None, 3, 4, 5, 6, 7], pa.int8()),
        "unsigned": pa.array([2**64 - 1] * n, pa.uint64()),
        "half": pa.array(np.arange(n).astype(np.float16)),
        "double": pa.array([0.1, float("nan"), float("inf"), -0.0, None, 1e300, 5e-324]),
        "decimal": pa.array([decimal.Decimal("1.10")] * n, pa.decimal128(10, 2)),
        "day": pa.array([datetime.date(2024, 1, 2)] * n),
        "stamp": pa.array([tz] * n, pa.timestamp("us", "Europe/Berlin")),
        "nanos": pa.array([1] * n, pa.timestamp("ns")),
        "duration": pa.array([datetime.timedelta(1)] * n, pa.duration("ms")),
        "bool": pa.array([True, None, False, True, True, True, False]),
        "nothing": pa.nulls(n),
        "list": pa.array([[1, None], [], None, [3], [4], [5], [6]]),
        "struct": pa.array([{"a": 1, "b": {"c": "x"}}] * n),
        "map": pa.array([[("k", 1)]] * n, pa.map_(pa.string(), pa.int32())),
        "uuid": pa.ExtensionArray.from_storage(
            pa.uuid(), pa.array([uuid.UUID(int=5).bytes] * n, pa.binary(16))
        ),
        "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a":1}'] * n)),
    }
    required = pa.field("required", pa.uint16(), nullable=False, metadata={"unit": "stars"})
    fields = [pa.field(name, column.type) for name, column in columns.items()]
    return pa.table(
        [*columns.values(), pa.array(range(n), pa.uint16())],
        schema=pa.schema([*fields, required], metadata={"made": "by hand"}),
    )
