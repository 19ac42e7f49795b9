"""What the tests ask of an S3 on loopback: its objects, and a server before it that refuses."""

import contextlib
import http.client
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SECRET = "loopback-secret-key"


def objects(s3, prefix):
    """The content of each object that begins with `prefix`, by the rest of its key."""
    listed = s3.list_objects_v2(Bucket="dumps", Prefix=prefix).get("Contents", [])
    keys = [entry["Key"] for entry in listed]
    return {
        key.removeprefix(prefix): s3.get_object(Bucket="dumps", Key=key)["Body"].read()
        for key in keys
    }


class Passing(BaseHTTPRequestHandler):
    """Passes requests on to an S3, but for those that it refuses."""

    protocol_version = "HTTP/1.1"
    to = ""

    def refuses(self):
        """Whether this request is answered with an error."""
        return False

    def do_PUT(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.refuses():
            return self.answer(400, b"<Error><Code>Bad</Code><Message>no</Message></Error>")
        connection = http.client.HTTPConnection(urlsplit(self.to).netloc)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body or None, dict(self.headers))
            found = connection.getresponse()
            return self.answer(found.status, found.read(), found.headers)

    do_GET = do_HEAD = do_POST = do_DELETE = do_PUT  # noqa: N815 (http.server calls them so)

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name in headers:
            if name.lower() in {"etag", "content-type", "last-modified"}:
                self.send_header(name, headers[name])
        size = len(body)
        if self.command == "HEAD" and headers:
            size = headers["Content-Length"]
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def passing_on(kind, monkeypatch):
    """Have the libraries ask a server of this kind, for the block."""
    from s3fs import S3FileSystem

    handler = type("Handler", (kind,), {"to": os.environ["AWS_ENDPOINT_URL"]})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        S3FileSystem.clear_instance_cache()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            S3FileSystem.clear_instance_cache()
