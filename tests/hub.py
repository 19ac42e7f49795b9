"""A small Hugging Face Hub on loopback: models and data sets to download, and uploads that can be
looked at.

`huggingface_hub` reads HF_ENDPOINT when it is imported, so programs under test run in a child
process with `hub.environment(cache)`:

    with Hub({"models/owner/name": folder, "datasets/owner/name": folder}) as hub:
        subprocess.run([...], env=os.environ | hub.environment(tmp_path))
    hub.uploads["owner/name"]["README.md"]
"""

import base64
import hashlib
import json
import re
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_loopback"
# Files that the real Hub keeps in large file storage; the others travel inside the commit.
LARGE = (".safetensors", ".parquet", ".bin")


class Hub:
    """Repositories served on a free port of 127.0.0.1 while entered.

    `repositories` maps
    ``models/OWNER/NAME`` or ``datasets/OWNER/NAME`` to a folder. `requests` lists what was asked, `uploads`
    maps repositories to path -> bytes of what was committed to them.
    """

    def __init__(self, repositories=None):
        self.repositories = {name: Path(folder) for name, folder in (repositories or {}).items()}
        self.requests: list[str] = []
        self.uploads: dict[str, dict[str, bytes]] = {}
        self.stored: dict[str, bytes] = {}  # large files by their SHA-256, not committed yet

    def __enter__(self):
        """Start serving."""
        hub = self

        class Handler(HubHandler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exception):
        """Stop serving."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def url(self):
        """Address of the hub."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def environment(self, cache):
        """Return the variables that make a child process talk to this hub alone, logged in, with an
        empty cache.
        """
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_TOKEN": TOKEN,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "NO_PROXY": "127.0.0.1",
        }

    def files(self, repository):
        """Return path -> bytes of a repository, or None where there is none."""
        folder = self.repositories.get(repository)
        if folder is None:
            # The oldest models live without an owner: distilbert-base-uncased.
            return None
        return {
            str(p.relative_to(folder)): p.read_bytes()
            for p in sorted(folder.rglob("*"))
            if p.is_file()
        }


class HubHandler(BaseHTTPRequestHandler):
    """What huggingface_hub and datasets ask of a Hub, and no more: anything else is a 404 that
    `requests` shows.
    """

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        """Keep the test's output clean."""

    def do_HEAD(self):
        """Answer as for GET without the body."""
        self.get(with_body=False)

    def do_GET(self):
        """Serve a page of the API or a file."""
        self.get(with_body=True)

    def get(self, *, with_body):
        """Serve a page of the API or a file, with or without its body."""
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        if path == "/api/whoami-v2":
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.fail(401, "Invalid credentials")
            return self.answer(
                {"type": "user", "name": "tester", "auth": {"accessToken": {"role": "write"}}}
            )
        if found := re.fullmatch(
            r"/api/(models|datasets)/(.+?)(?:/(revision|tree)/([^/]+)(?:/(.*))?)?", path
        ):
            kind, name, what, _, below = found.groups()
            files = self.hub.files(f"{kind}/{name}")
            if files is None:
                return self.no_repository()
            if what == "tree":
                return self.answer(self.tree(files, below or ""))
            siblings = [
                {"rfilename": p, "size": len(data), "blobId": git_id(data)}
                for p, data in files.items()
            ]
            tags = {
                "id": name,
                "modelId": name,
                "private": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
            }
            return self.answer(
                {
                    **tags,
                    "sha": COMMIT,
                    "siblings": siblings,
                    "lastModified": "2026-01-01T00:00:00.000Z",
                }
            )
        if found := re.fullmatch(r"/(datasets/)?(.+?)/resolve/([^/]+)/(.+)", path):
            kind, name, _, file = found.groups()
            files = self.hub.files(f"{(kind or 'models/')}{name}")
            if files is None:
                return self.no_repository()
            if file not in files:
                return self.fail(404, "Entry not found", "EntryNotFound")
            return self.send_file(file, files[file], with_body=with_body)
        return self.fail(404, "Not found")

    def do_POST(self):
        """Take part in an upload: create, preupload, large file batch, commit; or tell about some
        paths.
        """
        path = unquote(urlsplit(self.path).path)
        body = self.body()
        self.hub.requests.append(f"{self.command} {path}")
        if found := re.fullmatch(r"/api/(models|datasets)/(.+?)/paths-info/([^/]+)", path):
            kind, name, _ = found.groups()
            files = self.hub.files(f"{kind}/{name}")
            if files is None:
                return self.no_repository()
            wanted = form_or_json(self.headers.get("Content-Type", ""), body)
            entries = self.tree(files, "", recursive=True)
            return self.answer([entry for entry in entries if entry["path"] in wanted])
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.fail(401, "Invalid credentials")
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(
                part for part in (asked.get("organization") or "tester", asked["name"]) if part
            )
            self.hub.uploads.setdefault(name, {})
            return self.answer({"url": f"{self.hub.url}/{name}", "name": name, "id": name})
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if found := re.fullmatch(r"/api/models/(.+?)/preupload/([^/]+)", path):
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return self.answer({"files": modes})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**item, "actions": {"upload": {"href": f"{self.hub.url}/storage/{item['oid']}"}}}
                for item in json.loads(body)["objects"]
            ]
            return self.answer({"transfer": "basic", "objects": objects})
        if found := re.fullmatch(r"/api/models/(.+?)/commit/([^/]+)", path):
            name = found.group(1)
            target = self.hub.uploads.setdefault(name, {})
            for line in body.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    target[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    target[value["path"]] = self.hub.stored[value["oid"]]
            return self.answer(
                {"commitUrl": f"{self.hub.url}/{name}/commit/{COMMIT}", "commitOid": COMMIT}
            )
        return self.fail(404, "Not found")

    def do_PUT(self):
        """Store a large file under its SHA-256."""
        path = urlsplit(self.path).path
        body = self.body()
        self.hub.requests.append(f"{self.command} {path}")
        self.hub.stored[hashlib.sha256(body).hexdigest()] = body
        self.answer({})

    def body(self):
        """Read the body of the request, which may come in chunks."""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def tree(self, files, below, *, recursive=None):
        """Return the entries of a folder, as the Hub lists them."""
        recursive = "recursive=true" in self.path.lower() if recursive is None else recursive
        entries, folders = [], set()
        for path, data in files.items():
            inside = path.removeprefix(f"{below}/") if below else path
            if below and inside == path:
                continue
            parents = inside.split("/")[:-1]
            for depth in range(len(parents)):
                folders.add("/".join(([below] if below else []) + parents[: depth + 1]))
            if recursive or not parents:
                entry = {"type": "file", "path": path, "size": len(data), "oid": git_id(data)}
                if path.endswith(LARGE):
                    oid = hashlib.sha256(data).hexdigest()
                    entry["lfs"] = {"oid": oid, "size": len(data), "pointerSize": 134}
                entries.append(entry)
        top = below.count("/") + bool(below)
        shown = [folder for folder in sorted(folders) if recursive or folder.count("/") == top]
        return [
            {"type": "directory", "path": folder, "size": 0, "oid": "0" * 40} for folder in shown
        ] + entries

    def send_file(self, name, data, *, with_body):
        """Send a file, or the part of it that was asked for."""
        etag = hashlib.sha256(data).hexdigest() if name.endswith(LARGE) else git_id(data)
        status, headers = 200, {}
        if with_body and (
            asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        ):
            first, last = int(asked[1]), int(asked[2] or len(data) - 1)
            status, headers = 206, {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
            data = data[first : last + 1]
        self.send_response(status)
        headers |= {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        headers |= (
            {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{etag}"'}
            if name.endswith(LARGE)
            else {}
        )
        headers |= {
            "Content-Type": "application/octet-stream",
            "Last-Modified": formatdate(0, usegmt=True),
        }
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def answer(self, document, status=200, **headers):
        """Send JSON."""
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Repo-Commit", COMMIT)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def fail(self, status, message, code=None):
        """Send an error, with the code that huggingface_hub turns into its own exception."""
        self.answer(
            {"error": message},
            status,
            **({"X_Error_Code": code, "X_Error_Message": message} if code else {}),
        )

    def no_repository(self):
        """Say that there is no such repository."""
        self.fail(404, "Repository not found", "RepoNotFound")


def git_id(data):
    """Return the id that git gives a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def form_or_json(content_type, body):
    """Return the paths of a request about some paths."""
    if "json" in content_type:
        return json.loads(body)["paths"]
    from urllib.parse import parse_qs

    return parse_qs(body.decode())["paths"]
