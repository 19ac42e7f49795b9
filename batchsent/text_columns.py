"""Which columns the text of a row is made of, and how the values of several become one text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from batchsent.chunk import is_blank
from batchsent.text import printable

# An empty line, as between a heading and what it stands over. A sentence always ends there
# (sentences.py), so that a title is judged by itself, and no sign is put into the text that its
# writer did not type. For a tokenizer such as BERT's it is white space.
JOINT = "\n\n"


@dataclass(frozen=True)
class TextColumns:
    """The columns of a text in the order in which their values are joined."""

    names: tuple[str, ...]
    joint: str = JOINT

    @classmethod
    def of(cls, names: Any, joint: Any) -> "TextColumns":
        """Make it of what a JSON file holds; without a joint it is JOINT.

        Raises ValueError for anything that is not a list of names and a text.
        """
        if not isinstance(names, list) or not names or len(set(map(str, names))) < len(names):
            raise ValueError(f"text_columns is {printable(repr(names)[:60])}")
        if not all(isinstance(name, str) and name for name in names):
            raise ValueError(f"text_columns is {printable(repr(names)[:60])}")
        if joint is not None and (not isinstance(joint, str) or not joint):
            raise ValueError(f"text_joint is {printable(repr(joint)[:60])}")
        return cls(tuple(names), JOINT if joint is None else joint)

    @property
    def single(self) -> bool:
        """Whether it is one column, whose values are texts as they are."""
        return len(self.names) == 1

    def as_chosen_by_model(self) -> str:
        """Return what to tell the user where nothing else was named."""
        text = f"column {printable(self.names[0])}"
        if not self.single:
            joint = "an empty line" if self.joint == JOINT else printable(repr(self.joint))
            text = f"columns {' + '.join(map(printable, self.names))}, joined by {joint}"
        return f"text: {text}, as the model was trained; --text-column names others"


def join_texts(columns: Sequence[Sequence[str | None]], joint: str) -> Sequence[str | None]:
    """Return the text of each row: its values in some columns, with `joint` between them.

    Values without text (null, empty, white space) are left out, as such rows are; a row of these
    alone is None. The values of a single column are returned as they are.

    >>> join_texts([["Great", "", None], ["I loved it", "So-so", " "]], "; ")
    ['Great; I loved it', 'So-so', None]
    """
    if len(columns) == 1:
        return columns[0]
    texts: list[str | None] = []
    for values in zip(*columns, strict=True):
        kept = [value for value in values if value is not None and not is_blank(value)]
        texts.append(joint.join(kept) if kept else None)
    return texts
