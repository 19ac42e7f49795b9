"""Objects of web servers: https, and http on this machine.

Not through fsspec, whose files do not notice another ETag or a body that ends early.
"""

import http.client
import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from batchsent.errors import InputError, UsageError
from batchsent.formats.objects import Changed, Lost, NotThere
from batchsent.text import first_line, printable

TIMEOUT_S = (10, 60)  # until there is a connection, and until the next byte comes
RETRIED = {408, 425, 429, 500, 502, 503, 504}
CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class HttpObject:
    """What a web server has at a URL."""

    def __init__(self, url: str) -> None:
        self.name = printable(url)
        self._url = url
        self._session = _Session()
        check_encrypted(url, self.name)

    def connect(self, start: int = 0, end: int | None = None) -> "HttpBody":
        """Ask for the bytes from `start` up to `end`; the server may send all bytes in answer.

        Raises Lost or Changed, and InputError or UsageError where another attempt would not help.
        """
        # Of what the server would compress on the way neither length nor ranges were known.
        headers = {"Accept-Encoding": "identity"}
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        try:
            answer = self._session.get(self._url, headers=headers, stream=True, timeout=TIMEOUT_S)
        except requests.exceptions.SSLError as error:
            raise InputError(
                f"{self.name}: the server's certificate was refused: {innermost(error)}",
                hint="set REQUESTS_CA_BUNDLE to the certificates of your own authority",
            ) from error
        except (requests.ConnectionError, requests.Timeout) as error:
            raise Lost(innermost(error)) from error
        except requests.TooManyRedirects as error:
            raise InputError(f"{self.name}: the server redirects without end") from error
        except (requests.RequestException, ValueError) as error:
            raise UsageError(f"{self.name}: {innermost(error)}", hint="check the URL") from error
        try:
            self._check_status(answer, start)
            return HttpBody(answer)
        except BaseException:
            answer.close()
            raise

    def _check_status(self, answer: requests.Response, start: int) -> None:
        status, name = answer.status_code, self.name
        said = f"{name}: the server answered {status} {printable(answer.reason)}".rstrip()
        if status in RETRIED:
            asked = answer.headers.get("Retry-After", "")
            raise Lost(said.removeprefix(f"{name}: "), float(asked) if asked.isdecimal() else 0.0)
        if status == 416 and start:
            raise Changed  # it is shorter now
        if status in {401, 403}:
            raise InputError(
                said,
                hint="a signed URL may have expired: ask for a new one; user and password of a "
                "host are read from ~/.netrc",
            )
        if status in {404, 410}:
            raise NotThere(said, hint="check the spelling; a browser shows what is there")
        if status not in {200, 206}:
            raise InputError(said)
        if status == 206 and CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "")):
            return
        if status == 206:
            raise InputError(f"{name}: the server does not say which bytes it sends")


class _Session(requests.Session):
    """Connections that are kept, and redirects that are followed where that is safe."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None:
            place = urljoin(resp.url, target)
            check_encrypted(place, f"{printable(resp.url)} leads to {printable(place)}")
        return target


class HttpBody:
    """The body of an answer, as the server has stored it."""

    def __init__(self, answer: requests.Response) -> None:
        self._answer = answer
        self.version = version_in(answer.headers)
        self.start, length = 0, answer.headers.get("Content-Length", "")
        if answer.status_code == 206:
            found = CONTENT_RANGE.fullmatch(answer.headers["Content-Range"])
            assert found is not None
            self.start, length = int(found[1] or 0), found[2]
        self.size = int(length) if length.isdecimal() else None

    def read(self, size: int) -> bytes:
        """Return the next bytes, `size` at most, none at the end. Raises Lost."""
        try:
            return bytes(self._answer.raw.read(size, decode_content=False))
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            said = innermost(error)
            raise Lost("the data ends too early" if "IncompleteRead" in said else said) from error

    def close(self) -> None:
        """Give the connection back."""
        self._answer.close()


def check_encrypted(url: str, said: str) -> None:
    """Refuse http to another machine. Raises UsageError that begins with `said`."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UsageError(f"{said}: {first_line(error)}", hint="check the URL") from error
    if parts.scheme.lower() == "http" and not is_loopback(parts.hostname or ""):
        raise UsageError(f"{said}: http:// is read from this machine only", hint="use https://")


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def version_in(headers: Mapping[str, str]) -> str | None:
    """Return what the headers of an answer say of the version of the object."""
    for name in ("ETag", "Last-Modified"):
        if headers.get(name):
            return f"{name} {headers[name]}"
    return None


def innermost(error: BaseException) -> str:
    """Return what the system said, where a library's error has wrapped it."""
    seen: BaseException | None = error
    while seen is not None:
        found = seen
        reasons = [seen.__cause__, seen.__context__, getattr(seen, "reason", None)]
        seen = next((one for one in reasons if isinstance(one, BaseException)), None)
    if isinstance(found, OSError) and found.strerror:
        return printable(found.strerror.lower())
    return first_line(found)
