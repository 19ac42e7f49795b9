"""The receipt in Parquet and Arrow outputs: what made the scores, in the file itself."""

import hashlib
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.commands.batch import batch
from batchsent.commands.info import info
from batchsent.errors import GateFailed, InputError, UsageError
from batchsent.formats import receipt
from batchsent.verification.verify import verify
from tests.hash_model import HashModels


@pytest.fixture(params=["in.parquet", "in.csv"])
def dump(request, tmp_path):
    """Some reviews, in two formats."""
    path = tmp_path / request.param
    frame = pd.DataFrame({"text": [f"review {n}" for n in range(50)], "id": range(50)})
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    return path


def schema_of(path):
    """The schema of a Parquet file or an Arrow stream."""
    if path.suffix == ".parquet":
        return pq.read_schema(path)
    return pa.ipc.open_stream(path.read_bytes()).schema


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_it_names_model_options_and_input(dump, tmp_path, suffix):
    """Digest of the input, of weights and tokenizer, and every option; info shows it."""
    out = tmp_path / f"out{suffix}"
    summary = batch(dump, out, models=HashModels(), prefix="p_", details=True)
    found = info(out)["receipt"]
    assert found["schema"] == "batchsent.receipt/1"
    assert found["scores"]["input"] == hashlib.sha256(dump.read_bytes()).hexdigest()
    assert found["scores"] == summary["run"]["fingerprint"]
    assert str(tmp_path) not in json.dumps(found)
    assert found["writing"]["details"] is True
    assert found["labels"] == ["NEGATIVE", "POSITIVE"]
    assert "review" not in json.dumps(found).replace("text_column", "")
    verified = verify(dump, out, prefix="p_")
    assert any("receipt" in line for line in verified["checked"])


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_the_users_own_metadata_stays(dump, tmp_path, suffix):
    """Pandas' and any other: the receipt is one key more, and with no_receipt none."""
    out, plain = tmp_path / f"out{suffix}", tmp_path / f"plain{suffix}"
    batch(dump, out, models=HashModels())
    batch(dump, plain, models=HashModels(), no_receipt=True)
    own = pq.read_schema(dump).metadata if dump.suffix == ".parquet" else {}
    assert dict(schema_of(plain).metadata or {}) == dict(own or {})
    given = dict(schema_of(out).metadata)
    assert given.pop(receipt.KEY)
    assert given == dict(own or {})
    verify(dump, plain)
    with pytest.raises(UsageError, match="has no receipt: none was written"):
        info(plain)


def test_an_older_receipt_is_not_passed_on(dump, tmp_path):
    """Scoring a scored file writes the receipt of this run; without one, none."""
    first, second, third = (tmp_path / f"{name}.parquet" for name in ("a", "b", "c"))
    batch(dump, first, models=HashModels())
    batch(first, second, models=HashModels(), prefix="again_")
    batch(first, third, models=HashModels(), prefix="again_", no_receipt=True)
    digest = hashlib.sha256(first.read_bytes()).hexdigest()
    assert info(second)["receipt"]["scores"]["input"] == digest
    assert receipt.KEY not in (schema_of(third).metadata or {})
    verify(first, second, prefix="again_")
    verify(first, third, prefix="again_")


def test_the_bytes_do_not_depend_on_the_run(dump, tmp_path):
    """Two runs of the same command write the same file."""
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    batch(dump, one, models=HashModels())
    batch(dump, two, models=HashModels())
    assert one.read_bytes() == two.read_bytes()


def test_verify_refuses_a_receipt_that_is_not_the_summarys(dump, tmp_path):
    """Whether it is about another input, or no JSON; without a summary the input tells."""
    out = tmp_path / "out.parquet"
    batch(dump, out, models=HashModels())
    table = pq.read_table(out)
    document = json.loads(table.schema.metadata[receipt.KEY])
    document["scores"]["input"] = "0" * 64
    for raw in (json.dumps(document).encode(), b"{"):
        changed = table.replace_schema_metadata(dict(table.schema.metadata) | {receipt.KEY: raw})
        pq.write_table(changed, out)
        with pytest.raises(GateFailed, match="receipt"):
            verify(dump, out)
    changed = table.replace_schema_metadata(
        dict(table.schema.metadata) | {receipt.KEY: json.dumps(document).encode()}
    )
    pq.write_table(changed, out)
    (tmp_path / "out.parquet.summary.json").unlink()
    with pytest.raises(GateFailed, match="receipt"):
        verify(dump, out)


def test_a_receipt_that_was_taken_out_is_missed(dump, tmp_path):
    """The summary says that there was one, even where its hash was changed with the file."""
    out = tmp_path / "out.parquet"
    batch(dump, out, models=HashModels())
    table = pq.read_table(out)
    own = {key: value for key, value in table.schema.metadata.items() if key != receipt.KEY}
    pq.write_table(table.replace_schema_metadata(own), out)
    path = tmp_path / "out.parquet.summary.json"
    document = json.loads(path.read_text())
    data = document["outputs"][0]
    data["bytes"] = out.stat().st_size
    data["sha256"] = hashlib.sha256(out.read_bytes()).hexdigest()
    path.write_text(json.dumps(document))
    with pytest.raises(GateFailed, match="receipt in the metadata is missing"):
        verify(dump, out)


def test_a_csv_has_its_summary(dump, tmp_path):
    """Info says so."""
    out = tmp_path / "out.csv"
    batch(dump, out, models=HashModels())
    with pytest.raises(UsageError, match="only Parquet and Arrow outputs have one") as caught:
        info(out)
    assert "out.csv.summary.json" in caught.value.hint


def test_an_output_of_before_the_options_of_today_is_up_to_date(dump, tmp_path):
    """An option that its summary does not name had no effect then."""
    out = tmp_path / "out.csv"
    batch(dump, out, models=HashModels())
    path = tmp_path / "out.csv.summary.json"
    document = json.loads(path.read_text())
    for name in ("no_receipt", "polarity", "neutral_band"):
        del document["run"]["writing"][name]
    path.write_text(json.dumps(document))
    assert batch(dump, out, models=HashModels())["status"] == "up_to_date"


def test_a_receipt_made_to_exhaust_the_reader_is_refused(dump, tmp_path):
    """JSON nested 60,000 deep is a damaged receipt, not a bug."""
    out = tmp_path / "out.parquet"
    batch(dump, out, models=HashModels())
    metadata = pq.read_schema(out).metadata | {receipt.KEY: b"[" * 60_000}
    pq.write_table(pq.read_table(out).replace_schema_metadata(metadata), out)
    with pytest.raises(GateFailed, match="receipt cannot be read: it is nested too deeply"):
        verify(dump, out)
    with pytest.raises(InputError, match="damaged: it is nested too deeply"):
        info(out)
