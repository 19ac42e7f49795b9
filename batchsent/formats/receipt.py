"""The receipt in a Parquet or Arrow output: which model and options made its scores, of what input.

It is strict JSON in the metadata of the schema, under one key. What stands there does not depend on
when or where the run was, so that an interrupted run still writes the same bytes.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from batchsent.evaluation import summary

KEY = b"batchsent"
SCHEMA = "batchsent.receipt/1"
LABELS_MOST = 100
FORMATS_WITH = {"parquet", "arrow"}


def make(
    source: str,
    labels: Sequence[str],
    fingerprint: Mapping[str, Any],
    writing: Mapping[str, Any],
) -> dict[str, Any]:
    """Return a receipt.

    `source` is the model as the user named it; `fingerprint` and `writing` are what decides the
    scores and how they are written, as the summary has them.
    """
    return {
        "schema": SCHEMA,
        "model": source,
        "labels": list(labels[:LABELS_MOST]),
        "scores": dict(fingerprint),
        "writing": dict(writing),
    }


def with_receipt(added: pa.Schema, receipt: Mapping[str, Any]) -> pa.Schema:
    """Return the schema of the added columns with a receipt for the output in its metadata."""
    return added.with_metadata({KEY: summary.dumps(receipt).strip()})


def without_receipt(metadata: Mapping[bytes, bytes] | None) -> dict[bytes, bytes]:
    """Return the metadata of a schema but for a receipt: what is the user's own."""
    return {key: value for key, value in (metadata or {}).items() if key != KEY}


def read(schema: pa.Schema) -> dict[str, Any] | None:
    """Return the receipt in a schema; None where there is none.

    Raises ValueError for a damaged one.
    """
    raw = (schema.metadata or {}).get(KEY)
    if raw is None:
        return None
    try:
        found = json.loads(raw)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ValueError(f"it is no {SCHEMA}")
    return found
