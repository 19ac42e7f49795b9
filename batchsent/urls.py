"""URLs as names of files: which are one, what the file is called, how they are shown.

Nothing here opens a URL.
"""

import os
import re
from pathlib import Path
from urllib.parse import unquote

SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
# A URL in a text: quotes, brackets and spaces end it.
IN_TEXT = re.compile(r"([a-z][a-z0-9+.-]*)://([^\s'\"<>]*)", re.IGNORECASE)
# What signs a URL, where the libraries' messages hold a part of one only.
SIGNATURE = re.compile(
    r"\b(x-(?:amz|goog)-[a-z-]+|sig|signature|access_token|awsaccesskeyid)=[^&\s'\"]+",
    re.IGNORECASE,
)
# The part before @ is the name of a container there.
CONTAINERS = {"abfs", "abfss"}
HIDDEN = "***"
# Variables that stores read their keys from. Values this short would be found in innocent words.
SECRET_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_SAS_TOKEN",
    "HF_TOKEN",
)
SHORTEST_SECRET = 8


def scheme_of(path: str) -> str | None:
    """Return the scheme of a URL in small letters; None where `path` is no URL."""
    found = SCHEME.match(path)
    return None if found is None else found[1].lower()


def canonical(name: str) -> str:
    """Return a URL with its scheme in small letters, by which it is compared; a path as it is."""
    scheme = scheme_of(name)
    return name if scheme is None else scheme + name[len(scheme) :]


def is_url(path: str) -> bool:
    """Tell whether a name is a URL; a path is everything else."""
    return scheme_of(path) is not None


def file_name(path: str) -> str:
    """Return the last part of a path, or of a URL without its query: what its suffix is read from.

    >>> file_name("https://host/a/b%20c.csv.gz?signature=x")
    'b c.csv.gz'
    """
    scheme = scheme_of(path)
    if scheme is None:
        return Path(path).name
    inside = path[len(scheme) + 3 :]
    if scheme in {"http", "https"}:
        inside = unquote(re.split("[?#]", inside, maxsplit=1)[0])
    _, slash, key = inside.partition("/")
    return key.rpartition("/")[2] if slash else ""


def redacted(text: str) -> str:
    """Return a text that may be shown: without what gives access in the URLs in it.

    That is a user and password before the host, a query (it may be a signature), and the values of
    the variables from which stores read their keys.

    >>> redacted("https://me:secret@host/a.csv?X-Amz-Signature=1f: not found")
    'https://***@host/a.csv?***: not found'
    """
    if "://" in text:
        text = IN_TEXT.sub(_redacted_url, text)
    if "=" in text:
        text = SIGNATURE.sub(rf"\1={HIDDEN}", text)
    for name in SECRET_VARIABLES:
        secret = os.environ.get(name, "")
        if len(secret) >= SHORTEST_SECRET and secret in text:
            text = text.replace(secret, HIDDEN)
    return text


def _redacted_url(found: re.Match[str]) -> str:
    scheme, rest = found[1], found[2]
    url = rest.rstrip(":,.;)")
    stops = rest[len(url) :]
    # In the key of a store # is a character like another.
    head = re.split("[?#]" if scheme.lower() in {"http", "https"} else "[?]", url, maxsplit=1)[0]
    query = url[len(head) : len(head) + 1] + HIDDEN if len(head) < len(url) else ""
    authority, slash, path = head.partition("/")
    user, at, host = authority.rpartition("@")
    port = authority.partition(":")[2]
    if not at and port and not port.isdigit() and "@" in path:
        # A password with a slash in it: what is before the last @ is not shown.
        user, at, host = authority, "@", path.rpartition("@")[2]
        slash = path = ""
    if at and (":" in user or scheme.lower() not in CONTAINERS):
        authority = f"{HIDDEN}@{host}"
    return f"{scheme}://{authority}{slash}{path}{query}{stops}"
