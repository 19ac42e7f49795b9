"""Scores that a run keeps, chunk by chunk, and which of them a resumed run may use.

A part holds the scores of one chunk, bound to the chunk's texts by their hash. A resumed run reads
its input again from the start and takes the scores of parts where it has them, so that it writes
the same bytes as an undisturbed run. A part has 9 to 14 bytes a row and 4 a row and label. The
sentences of a chunk have a part of their own, in which each is a row.
"""

import hashlib
import json
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from batchsent.chunk import PENDING, Chunk, Scores
from batchsent.errors import UsageError
from batchsent.files.atomic import fault, fsync_directory, output_errors, write_file
from batchsent.formats import text_table
from batchsent.formats.outputs import COMMITTING, WORK_ENDING
from batchsent.row_texts import digest
from batchsent.text import printable

MANIFEST = "manifest.json"
FORMAT = 1
# What a run puts into its work folder, finished or half written (see atomic.temporary_path).
KEPT = rf"{MANIFEST}|{COMMITTING}|(part|sentences)-\d{{12}}|{text_table.PREFIX}\w+"
OWN_NAME = re.compile(rf"({KEPT}|\.({KEPT})\.batchsent\.tmp)")


def work_directory(output: Path) -> Path:
    """Return the folder beside an output that holds its finished parts."""
    return output.with_name(output.name + WORK_ENDING)


@dataclass
class Parts:
    """The parts of one run, in their folder.

    `stamp` says what computes the scores: device, precision and so on (device_stamp.py). A part
    with another stamp is not used, since its scores may differ in the last digits.
    """

    folder: Path
    stamp: dict[str, Any] = field(default_factory=dict)
    kind: str = "part"  # what the names of the files begin with
    resumed_rows: int = 0
    mismatched: bool = False

    def of_sentences(self) -> "Parts":
        """Return the parts that hold the scores of the sentences of each chunk, in this folder."""
        return Parts(self.folder, self.stamp, "sentences")

    def check(self, fingerprint: dict[str, Any], *, restart: bool, overwrite: bool = False) -> None:
        """Refuse to lose scored work of another input, model or option.

        Raises UsageError that names what differs.
        """
        manifest = self.manifest()
        if manifest is None or restart or not any(self.folder.glob("part-*")):
            return
        different = differences(manifest.get("fingerprint"), fingerprint)
        if list(different) == ["input"]:
            # A part is bound to its texts: those of unchanged chunks are still valid.
            if overwrite:
                return
            raise UsageError(
                f"{printable(self.folder)} holds unfinished work, and the input was changed since: "
                f"{different['input']}",
                hint="add --overwrite to keep the scores of unchanged chunks, or --restart to "
                "score everything again",
                differs=["input"],
            )
        if different:
            raise UsageError(
                f"{printable(self.folder)} holds the unfinished work of another run: "
                f"{'; '.join(different.values())}",
                hint="repeat that run's command to finish it, or add --restart to throw its work "
                "away",
                differs=list(different),
            )

    def begin(self, fingerprint: dict[str, Any], *, restart: bool) -> bool:
        """Bind the folder to what decides the scores; return whether there is work to resume.

        `check` comes first. Raises OutputError.
        """
        manifest = self.manifest() or {}
        known = manifest.get("fingerprint")
        resumed = not restart and set(differences(known, fingerprint)) <= {"input"}
        if resumed and known == fingerprint and manifest.get("stamp") == self.stamp:
            return True
        if not resumed:
            with output_errors(self.folder):
                fault("remove")
                shutil.rmtree(self.folder, ignore_errors=True)
                fault("mkdir")
                self.folder.mkdir()
                fsync_directory(self.folder.parent)
        document = {"format": FORMAT, "fingerprint": fingerprint, "stamp": self.stamp}
        write_file(self.folder / MANIFEST, json.dumps(document, indent=1).encode())
        return resumed

    def manifest(self) -> dict[str, Any] | None:
        """Return the manifest; None where there is none, or it is damaged."""
        with suppress(OSError, ValueError):
            document = json.loads((self.folder / MANIFEST).read_bytes())
            if isinstance(document, dict) and document.get("format") == FORMAT:
                return document
        return None

    def foreign_names(self) -> list[str]:
        """Return the names in the folder that no run put there."""
        return sorted(
            path.name for path in self.folder.iterdir() if not OWN_NAME.fullmatch(path.name)
        )

    def _path(self, chunk: Chunk) -> Path:
        return self.folder / f"{self.kind}-{chunk.start_row:012d}"

    def load(self, chunk: Chunk, labels: int) -> Scores | None:
        """Return the scores kept for a chunk, or None; unfinished ones have PENDING rows.

        A part that is damaged or belongs to other texts is ignored: its chunk is scored again.
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
            if header["stamp"] != self.stamp:
                return None
            if header["texts"] != digest(chunk.texts) or header["rows"] != chunk.rows:
                self.mismatched = True
                return None
            return unpack(
                body,
                chunk.rows,
                labels,
                header["distinct"],
                odd=header.get("odd", False),
                cascade=header.get("cascade", False),
            )
        return None

    def save(self, chunk: Chunk, scores: Scores) -> None:
        """Keep the scores of a chunk. Raises OutputError."""
        body = pack(scores)
        header = {
            "sha256": hashlib.sha256(body).hexdigest(),
            "stamp": self.stamp,
            "texts": digest(chunk.texts),
            "rows": chunk.rows,
            "labels": scores.probabilities.shape[1],
            "distinct": scores.distinct,
            "odd": scores.odd_pieces is not None,
            "cascade": scores.escalated is not None,
            "scored_rows": int((scores.status != PENDING).sum()),
        }
        write_file(self._path(chunk), json.dumps(header).encode() + b"\n" + body)

    def kept_rows(self) -> int:
        """Return how many rows of this stamp have kept scores, by the headers of the parts."""
        rows = 0
        for path in self.folder.glob("part-*"):
            with suppress(OSError, ValueError, KeyError, TypeError), path.open("rb") as file:
                header = json.loads(file.readline())
                if header["stamp"] == self.stamp:
                    rows += int(header["scored_rows"])
        return rows

    def announce(self, outputs: list[dict[str, Any]], run_id: str) -> None:
        """Record which files are about to get their names: a resumed run may replace them."""
        content = {"outputs": outputs, "run": run_id}
        write_file(self.folder / COMMITTING, json.dumps(content).encode())

    def announced(self) -> dict[str, Any]:
        """Return what `announce` recorded: "outputs" as in the summary and "run"; or {}."""
        with suppress(OSError, ValueError):
            found = json.loads((self.folder / COMMITTING).read_bytes())
            if isinstance(found, dict) and isinstance(found.get("outputs"), list):
                return found
        return {}

    def remove(self) -> None:
        """Remove the folder: its scores are in the output now. Errors are ignored."""
        # The manifest goes last: only a folder with a manifest counts as unfinished work.
        with suppress(OSError):
            fault("remove")
        with suppress(OSError):
            names = [path.name for path in self.folder.iterdir() if OWN_NAME.fullmatch(path.name)]
            for name in sorted(names, key=lambda name: name == MANIFEST):
                (self.folder / name).unlink()
            self.folder.rmdir()


def differences(known: Any, fingerprint: dict[str, Any]) -> dict[str, str]:
    """Return what differs between two fingerprints, by name, in words; five at most."""
    if not isinstance(known, dict):
        return {"everything": "it cannot be read"}
    different = [key for key in fingerprint if known.get(key) != fingerprint[key]]
    words = {}
    for key in different[:5]:
        before, now = known.get(key), fingerprint[key]
        if isinstance(before, str) and isinstance(now, str):
            before, now = unlike(before, now), unlike(now, before)
        words[key] = f"{key} was {shorten(before)}, now {shorten(now)}"
    return words


def unlike(one: str, other: str) -> str:
    """Return those entries of a list in words, such as versions, that another list lacks."""
    return ", ".join(entry for entry in one.split(", ") if entry not in other.split(", ")) or one


def pack(scores: Scores) -> bytes:
    """Return scores as bytes: little-endian, one array after another."""
    return b"".join(
        (
            scores.probabilities.astype("<f4").tobytes(),
            scores.n_tokens.astype("<i4").tobytes(),
            scores.truncated_tokens.astype("<i4").tobytes(),
            scores.status.astype("u1").tobytes(),
            b"" if scores.odd_pieces is None else scores.odd_pieces.astype("<i4").tobytes(),
            b"" if scores.escalated is None else scores.escalated.astype("u1").tobytes(),
        )
    )


def unpack(
    body: bytes, rows: int, labels: int, distinct: int, *, odd: bool = False, cascade: bool = False
) -> Scores:
    """Return the scores that `pack` turned into bytes.

    `odd` says whether odd pieces are there, `cascade` whether the rows that were escalated are.
    Raises ValueError for another size.
    """
    if len(body) != rows * (4 * labels + 9 + 4 * odd + cascade):
        raise ValueError("size")
    at = 4 * rows * labels
    flags_at = len(body) - rows * cascade
    return Scores(
        probabilities=np.frombuffer(body[:at], "<f4").reshape(rows, labels).copy(),
        n_tokens=np.frombuffer(body[at : at + 4 * rows], "<i4").copy(),
        truncated_tokens=np.frombuffer(body[at + 4 * rows : at + 8 * rows], "<i4").copy(),
        status=np.frombuffer(body[at + 8 * rows : at + 9 * rows], "u1").copy(),
        distinct=distinct,
        odd_pieces=np.frombuffer(body[at + 9 * rows : flags_at], "<i4").copy() if odd else None,
        escalated=np.frombuffer(body[flags_at:], "u1").astype(bool) if cascade else None,
    )


def shorten(value: Any) -> str:
    """Return a value for an error message; hashes by their first digits."""
    if value is None:
        return "not given"
    text = printable(value)
    if len(text) == 64 and " " not in text:
        return text[:12] + "…"
    return text[:80]
