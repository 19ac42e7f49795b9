"""The sentences of a text under it, green where they are clearly positive, red where negative."""

from collections.abc import Iterable
from typing import Protocol, TextIO

from rich.console import Console
from rich.text import Text

from batchsent.terminal.summaries import console_of
from batchsent.text import printable

STYLES = {"positive": "green", "negative": "red", None: ""}


class Sentence(Protocol):
    """A sentence with what the model says of it."""

    @property
    def text(self) -> str:
        """The sentence."""

    @property
    def label(self) -> str | None:
        """The most probable label, None where there is no score."""

    @property
    def score(self) -> float | None:
        """Its probability."""

    @property
    def clearly(self) -> str | None:
        """Either positive, negative or None."""


def show(sentences: Iterable[Sentence], target: Console | TextIO) -> None:
    """Print label, score and text of each sentence on a line, two spaces in.

    Without a terminal there are no colours.
    """
    console = console_of(target)
    for sentence in sentences:
        words = f"  {printable(sentence.text)}"
        if sentence.score is not None:
            words = f"  {printable(sentence.label)} {sentence.score:.4f}{words}"
        console.print(Text(words, STYLES[sentence.clearly]), soft_wrap=True)
