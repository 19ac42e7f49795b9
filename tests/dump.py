"""A dump, the command that scores it, and what the output must be."""

import hashlib
import json
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tests.children import run


def make_input(folder, form, rows=60):
    """A dump with an awkward text in it every few rows."""
    texts = [
        ["plain", 'quoted "text", here', "two\nlines", "", "é 漢"][n % 5] + f" {n}" * (n % 5 != 3)
        for n in range(rows)
    ]
    path = folder / f"in.{form}"
    frame = pd.DataFrame({"id": [f"{n:04d}" for n in range(rows)], "text": texts})
    if form == "csv":
        frame.to_csv(path, index=False)
    elif form == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path, row_group_size=25)
    return path


def make_dump(tmp_path, form, rows=60, chunk_rows=20):
    source = make_input(tmp_path, form, rows)
    command = [source, "-o", f"out.{form}", "--chunk-rows", chunk_rows, "-q"]
    calm = tmp_path / "calm"
    calm.mkdir()
    code, stderr = run([source, "-o", f"out.{form}", "--chunk-rows", chunk_rows], calm)
    assert code == 0, stderr
    return Dump(tmp_path / "work", form, command, calm)


class Dump:
    """One command in one folder, beside the result of an undisturbed run."""

    def __init__(self, folder, form, command, calm):
        self.folder, self.form, self.command = folder, form, command
        self.output, self.summary = folder / f"out.{form}", folder / f"out.{form}.summary.json"
        self.expected = (calm / f"out.{form}").read_bytes()
        self.expected_summary = json.loads((calm / f"out.{form}.summary.json").read_bytes())
        self.clear()

    def clear(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def check_invariant(self):
        """The output is absent or complete, and a summary that says success is right."""
        if self.output.exists():
            assert self.output.read_bytes() == self.expected
        if self.summary.exists():
            (described,) = json.loads(self.summary.read_bytes())["outputs"]
            assert described["sha256"] == hashlib.sha256(self.output.read_bytes()).hexdigest()

    def check_finished(self):
        """The output is that of an undisturbed run, so are the summary's counts, and nothing else
        is left.
        """
        assert self.output.read_bytes() == self.expected
        summary = json.loads(self.summary.read_bytes())
        for section in ("status", "rows", "text", "predictions"):
            assert summary[section] == self.expected_summary[section]
        hashes = [
            [output["sha256"] for output in s["outputs"]] for s in (summary, self.expected_summary)
        ]
        assert hashes[0] == hashes[1]
        assert sorted(path.name for path in self.folder.iterdir()) == sorted(
            [self.output.name, self.summary.name, "stderr.log"]
        )

    def finish(self):
        """Run the same command again, to its end."""
        code, stderr = run(self.command, self.folder)
        assert code == 0, stderr
        assert stderr == "" or "earlier run" in stderr or "up to date" in stderr
        self.check_finished()
