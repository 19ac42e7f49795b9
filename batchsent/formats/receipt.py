"""The receipt in a Parquet or Arrow output: which model and options made its scores, of what input.

It is strict JSON in the metadata of the schema, under one key. What stands there does not depend on
when or where the run was, so that an interrupted run still writes the same bytes.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from batchsent.evaluation import summary

KEY = b"batchsent"
SCHEMA = "batchsent.receipt/1"
LABELS_MOST = 100
FORMATS_WITH = {"parquet", "arrow"}
DIGEST = re.compile("[0-9a-f]{64}")
LARGEST_BYTES = 1 << 16  # one that batchsent wrote has about 2 kB
# Options about what is written beside the output.
BESIDE = {"disagreements", "group_by", "keep", "output_format", "report_examples"}


def make(
    labels: Sequence[str], fingerprint: Mapping[str, Any], writing: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a receipt.

    `fingerprint` and `writing` are what decides the scores and how they are written, as the summary
    has them. No path is taken from there, so that equal rows and weights give equal bytes wherever
    they lie. The digest of a pipe is not known before its end, where the schema is written already.
    """
    input_sha256 = str(fingerprint["input"])
    return {
        "schema": SCHEMA,
        "labels": list(labels[:LABELS_MOST]),
        "scores": {
            **fingerprint,
            "input": input_sha256 if DIGEST.fullmatch(input_sha256) else None,
        },
        "writing": {name: value for name, value in writing.items() if name not in BESIDE},
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
    if len(raw) > LARGEST_BYTES:
        raise ValueError(f"it has {len(raw):,} bytes")
    try:
        found = json.loads(raw)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ValueError(f"it is no {SCHEMA}")
    return found
