r"""A web server on loopback that serves files as real servers do, and loses them on request.

with WebServer() as server:
    server.files["/a.csv"] = Served(b"text\nfine\n", drops=[5])
    url = server.url + "/a.csv"
"""

import contextlib
import hashlib
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Served:
    """A file of the server, and what goes wrong with it."""

    data: bytes
    etag: bool = True
    ranges: bool = True
    chunked: bool = False  # no Content-Length
    missing: int = 0  # bytes that are announced and never sent
    redirect: str | None = None
    drops: list[int] = field(default_factory=list)  # after these bytes the next answers break off
    statuses: list[int] = field(default_factory=list)  # of the next answers
    later: bytes | None = None  # what is there after the first answer
    delay_s: float = 0.0  # before each 4 kB
    user: str | None = None  # the Authorization that is asked for


class WebServer:
    """Files by their path, while entered; `requests` lists path and Range of what was asked."""

    def __init__(self):
        self.files, self.requests = {}, []

    def __enter__(self):
        class Handler(FileHandler):
            owner = self

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def url(self):
        """Address of the server."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def serve(self, path, data, **faults):
        """Serve bytes at a path; return their URL."""
        self.files[path] = Served(data, **faults)
        return self.url + path


class FileHandler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Print nothing."""

    def handle(self):
        """Answer until the client goes away, which it may do before the end."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self):
        """Answer as the file's faults say."""
        asked = self.headers.get("Range")
        self.owner.requests.append((self.path, asked))
        served = self.owner.files.get(urlsplit(self.path).path)
        if served is None:
            return self.answer(404)
        if served.redirect:
            return self.answer(302, Location=served.redirect)
        if served.user and self.headers.get("Authorization") != served.user:
            return self.answer(401)
        if served.statuses:
            return self.answer(served.statuses.pop(0), **{"Retry-After": "0"})
        data = served.data
        if served.later is not None:
            served.data, served.later = served.later, None
        headers = {"ETag": f'"{hashlib.md5(data).hexdigest()}"'} if served.etag else {}
        start, end, status = 0, len(data), 200
        announced = len(data) + served.missing
        if asked and served.ranges:
            first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", asked).groups()
            start, end, status = int(first), min(int(last or len(data)) + 1, len(data)), 206
            if start >= announced:
                return self.answer(416, **{"Content-Range": f"bytes */{announced}"})
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{announced}"
        if served.chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(end - start + served.missing)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        drop = served.drops.pop(0) if served.drops else None
        self.send(data[start:end][:drop], served)
        breaks_off = drop is not None and drop < len(data[start:end])
        self.close_connection = breaks_off or bool(served.missing)
        return None

    def send(self, data, served):
        pause = threading.Event()
        step = 4096 if served.delay_s or served.chunked else 1 << 20
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            if served.delay_s:
                pause.wait(served.delay_s)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if served.chunked else piece)
        if served.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def answer(self, status, **headers):
        """An answer without a body."""
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
