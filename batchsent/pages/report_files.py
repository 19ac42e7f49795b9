"""The files of a run as its page lists them, with links that work where the files lie together."""

import posixpath
import urllib.parse
from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]

MEANINGS = {
    "data": "every row with its label and score",
    "groups": "the figures of every group",
    "disagreements": "the rows furthest from their gold labels",
    "rejects": "the rows that were left out, with the reason",
    "summary": "the figures of this page, for programs",
}


def files_content(document: Document, folder: str | None) -> list[dict[str, Any]]:
    """Return the files that a run wrote: role, path, meaning, link or None, rows and bytes.

    `folder` is that of the output as seen from the page, None where that is not known.
    """
    written = {entry["role"]: entry for entry in document["outputs"] if entry.get("role")}
    if "data" not in written:
        return []
    data = written["data"]["path"]
    if data == "-":
        data, folder = "standard output", None
        written["data"] = {**written["data"], "path": data}
    path = summary_path(document)
    if path is not None:
        written["summary"] = {"path": path}
    found = []
    for role, entry in written.items():
        found.append(
            {
                "role": role,
                "path": entry["path"],
                "meaning": MEANINGS.get(role, role),
                "link": _link(entry["path"], posixpath.dirname(data), folder),
                "rows": entry.get("rows"),
                "bytes": entry.get("bytes"),
            }
        )
    return found


def summary_path(document: Document) -> str | None:
    """Return where the run put its summary, as the paths of its outputs are written."""
    named: str | None = (document["run"].get("options") or {}).get("summary")
    if named:
        return named
    paths = [entry["path"] for entry in document["outputs"] if entry.get("role") == "data"]
    return None if not paths or paths[0] == "-" else f"{paths[0]}.summary.json"


def seen_from(path: str, folder: str) -> str | None:
    """Return a path relative to a folder, without a look at the disk.

    None where that cannot be told: one is absolute and the other is not, or the folder lies above
    the working directory, whose name is not known.
    """
    steps, base = _steps(path), _steps(folder)
    if path.startswith("/") != folder.startswith("/"):
        return None
    while steps and base and steps[0] == base[0]:
        del steps[0], base[0]
    if ".." in base:
        return None
    return posixpath.join(*[".."] * len(base), *steps) if steps or base else "."


def _steps(path: str) -> list[str]:
    return [step for step in posixpath.normpath(path).split("/") if step not in {"", "."}]


def _link(path: str, data_folder: str, folder: str | None) -> str | None:
    """Return a relative address. It begins with a dot, so that no name is taken for a scheme."""
    place = seen_from(path, data_folder)
    if place is None or folder is None:
        return None
    whole = posixpath.normpath(posixpath.join(folder, place))
    quoted = urllib.parse.quote(whole, errors="replace")
    return f"./{quoted}"
