"""Text that is safe to show on a terminal or in a log."""

from batchsent.urls import redacted


def printable(value: object) -> str:
    """Return `value` as text that is safe on a terminal, in a log line or in a summary.

    It has no control characters (see `visible`), and URLs in it have no credentials. For values of
    the user's rows, which are shown as they are, use `visible`.
    """
    return visible(redacted(str(value)))


def visible(value: object) -> str:
    r"""Return `value` as text in which every character can be seen.

    Control characters, bidirectional overrides and lone surrogates, which could rewrite what the
    reader sees (CWE-150), become escapes such as ``\x1b``.
    """
    text = str(value)
    # isprintable is False for the Unicode categories Other and Separator, the space excepted. That
    # includes the width joiners, with which one name can be made to look like another.
    if text.isprintable():
        return text
    shown = ""
    for character in text:
        if character.isprintable():
            shown += character
        else:
            shown += character.encode("unicode_escape", "surrogatepass").decode("ascii")
    return shown


def first_line(error: BaseException, characters: int = 300) -> str:
    """Return the first line of an error's text, printable; of an error without text its type."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return printable(lines[0][:characters])


def shortened(text: str, characters: int) -> str:
    """Return the beginning of a text on one line, with dots where more follows."""
    words = " ".join(text[: 4 * characters].split())
    if len(words) <= characters and len(text) <= 4 * characters:
        return words
    return f"{words[: characters - 1].rstrip()}…"


def without_surrogates(text: str) -> str:
    """Return a text that UTF-8 can encode.

    Halves of surrogate pairs are joined, lone ones become U+FFFD.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def elapsed(seconds: float) -> str:
    """Return a duration in words, such as 59.9 s, 3 min 29 s or 1 h 2 min."""
    if seconds < 59.95:  # what would round to 60.0 s is a minute
        return f"{seconds:.1f} s"
    minutes, whole = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {whole} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min"
