"""Finished parts of a run, and what a resume may trust of them; knows nothing of files' formats.

A part holds the scores of one chunk, bound to the chunk's texts by their hash. A resumed run reads its input again
from the start and takes the scores of parts instead of the model's: it writes the same bytes as an undisturbed run
because it is one, without the wait. Scores are small (12 bytes a row and 4 a label), so a part costs next to nothing.
"""

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchsent.chunk import PENDING, Chunk, Scores
from batchsent.errors import UsageError, printable
from batchsent.run.commit import fault, fsync_directory, output_errors, write_file

MANIFEST = "manifest.json"
COMMITTING = "committing.json"
FORMAT = 1


def work_directory(output: Path) -> Path:
    """Return the folder beside an output that holds its finished parts."""
    return output.with_name(output.name + ".batchsent")


def digest(chunk: Chunk) -> str:
    """Return the SHA-256 of a chunk's texts: the same texts get the same scores."""
    texts: list[Any] = chunk.texts
    if None in texts:
        lengths = np.array([-1 if text is None else len(text) for text in texts], np.int64)
        texts = [text for text in texts if text]
    else:
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    found = hashlib.sha256(lengths.tobytes())
    found.update("".join(texts).encode("utf-8", "surrogatepass"))
    return found.hexdigest()


@dataclass
class Parts:
    """The parts of one run, in their folder."""

    folder: Path
    reused_rows: int = 0
    mismatched: bool = False

    def begin(self, fingerprint: dict[str, Any], *, restart: bool) -> bool:
        """Bind the folder to what decides the scores; tell whether there is work to go on from.

        Raises UsageError, naming what differs, for a folder that belongs to another input, model or option.
        """
        found = self._manifest()
        if found is not None and not restart:
            known = found.get("fingerprint", {})
            different = [key for key in fingerprint if known.get(key) != fingerprint[key]]
            if different:
                lines = "; ".join(
                    f"{key} was {shorten(known.get(key))}, now {shorten(fingerprint[key])}" for key in different[:5]
                )
                raise UsageError(
                    f"{printable(self.folder)} holds the unfinished work of another run: {lines}",
                    hint="repeat that run's command to finish it, or add --restart to throw its work away",
                    differs=different,
                )
            return True
        with output_errors(self.folder):
            fault("remove")
            shutil.rmtree(self.folder, ignore_errors=True)
            fault("mkdir")
            self.folder.mkdir()
            fsync_directory(self.folder.parent)
        document = {"format": FORMAT, "fingerprint": fingerprint}
        write_file(self.folder / MANIFEST, json.dumps(document, indent=1).encode())
        return False

    def _manifest(self) -> dict[str, Any] | None:
        """Return the manifest, None where there is none that can be believed."""
        with suppress(OSError, ValueError):
            document = json.loads((self.folder / MANIFEST).read_bytes())
            if isinstance(document, dict) and document.get("format") == FORMAT:
                return document
        return None

    def _path(self, chunk: Chunk) -> Path:
        return self.folder / f"part-{chunk.start_row:012d}"

    def load(self, chunk: Chunk, labels: int) -> Scores | None:
        """Return the scores kept for a chunk, unfinished ones with PENDING rows, None where there are none.

        A part that is damaged, or belongs to other texts, is no part: its chunk is scored again.
        """
        try:
            data = self._path(chunk).read_bytes()
        except OSError:
            return None
        with suppress(ValueError, KeyError, TypeError):
            header_bytes, _, body = data.partition(b"\n")
            header = json.loads(header_bytes)
            if header["sha256"] != hashlib.sha256(body).hexdigest() or header["labels"] != labels:
                return None
            if header["texts"] != digest(chunk) or header["rows"] != chunk.rows:
                self.mismatched = True
                return None
            return unpack(body, chunk.rows, labels, header["distinct"])
        return None

    def save(self, chunk: Chunk, scores: Scores) -> None:
        """Keep the scores of a chunk. Raises OutputError."""
        body = pack(scores)
        header = {
            "sha256": hashlib.sha256(body).hexdigest(),
            "texts": digest(chunk),
            "rows": chunk.rows,
            "labels": scores.probabilities.shape[1],
            "distinct": scores.distinct,
            "complete": not bool((scores.status == PENDING).any()),
        }
        write_file(self._path(chunk), json.dumps(header).encode() + b"\n" + body)

    def announce(self, size: int, sha256: str) -> None:
        """Write down what is about to take the output's name, so that a resume knows it as ours."""
        write_file(self.folder / COMMITTING, json.dumps({"bytes": size, "sha256": sha256}).encode())

    def committed(self, output: Path) -> bool:
        """Tell whether `output` is what an earlier sitting of this run was about to put there."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            announced = json.loads((self.folder / COMMITTING).read_bytes())
            if output.stat().st_size == announced["bytes"]:
                with output.open("rb") as file:
                    return bool(hashlib.file_digest(file, "sha256").hexdigest() == announced["sha256"])
        return False

    def remove(self) -> None:
        """Remove the folder: its work is in the output now. What cannot be removed does no harm."""
        # The manifest goes last: a folder without it is nobody's unfinished work, one with it can be resumed.
        with suppress(OSError):
            fault("remove")
            for path in self.folder.iterdir():
                if path.name != MANIFEST:
                    path.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)


def pack(scores: Scores) -> bytes:
    """Return scores as bytes, little-endian, array behind array."""
    return b"".join(
        (
            scores.probabilities.astype("<f4").tobytes(),
            scores.n_tokens.astype("<i4").tobytes(),
            scores.tokens_cut.astype("<i4").tobytes(),
            scores.status.astype("u1").tobytes(),
        )
    )


def unpack(body: bytes, rows: int, labels: int, distinct: int) -> Scores:
    """Return the scores that `pack` made bytes of. Raises ValueError where the size is not theirs."""
    if len(body) != rows * (4 * labels + 9):
        raise ValueError("size")
    at = 4 * rows * labels
    return Scores(
        probabilities=np.frombuffer(body[:at], "<f4").reshape(rows, labels).copy(),
        n_tokens=np.frombuffer(body[at : at + 4 * rows], "<i4").copy(),
        tokens_cut=np.frombuffer(body[at + 4 * rows : at + 8 * rows], "<i4").copy(),
        status=np.frombuffer(body[at + 8 * rows :], "u1").copy(),
        distinct=distinct,
    )


def shorten(value: Any) -> str:
    """Return a value for an error message; hashes by their first digits."""
    text = printable(value)
    return text[:12] + "…" if len(text) == 64 and " " not in text else text[:80]
