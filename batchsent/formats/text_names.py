"""Which columns of an input are its text: as named, as the model was trained, else by the name."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from batchsent.errors import UsageError
from batchsent.formats.reading import RowOptions, find_column, list_columns, mend
from batchsent.text import printable
from batchsent.text_columns import JOINT, TextColumns

TEXT_NAMES = ("text", "review")
LOOKED_AT = 100  # rows whose values are looked at to propose a text column
CLEARLY_LONGER = 2  # how many times longer its values are than those of every other column

Options = TypeVar("Options", bound=RowOptions)

# The text columns of those who name none, such as the model's; found when they are needed, since a
# model may have to be fetched first.
Usual = Callable[[], TextColumns | None]
# The first values of each column that may be proposed as the text, by its name.
Values = Callable[[], Mapping[str, Sequence[str]]]


def with_usual(options: Options, has_column: Callable[[str], bool], usual: Usual | None) -> Options:
    """Return the options with what `usual` says of the text where they say nothing.

    Its columns are taken where the input has all of them.
    """
    named, joint = options.text_column, options.text_joint
    single = isinstance(named, str) or options.text_column_index is not None
    if usual is None or single or (named is not None and joint is not None):
        return options
    known = usual()
    if known is None:
        return options
    if named is None:
        if not all(map(has_column, known.names)):
            return options
        if known.single:
            return replace(options, text_column=known.names[0])
        named = known.names
    return replace(options, text_column=named, text_joint=joint or known.joint)


def chosen_by_model(options: RowOptions, text: TextColumns, known: TextColumns | None) -> bool:
    """Tell whether the text columns of an input are those that its model was trained on."""
    named = options.text_column is not None or options.text_column_index is not None
    return not named and known is not None and known.names == text.names


def names_of_text(options: RowOptions) -> tuple[str, ...]:
    """Return the names of the text columns that were given."""
    named = options.text_column or ()
    return (named,) if isinstance(named, str) else named


def joint_of(options: RowOptions, columns: int) -> str:
    r"""Return what is put between the values of so many text columns: \n and \t are read.

    Raises UsageError for a joint of one column.
    """
    if options.text_joint is None:
        return JOINT
    if columns == 1:
        raise UsageError(
            "--text-joint requires several text columns",
            hint="leave it out, or name each column with a --text-column of its own",
        )
    return options.text_joint.replace("\\n", "\n").replace("\\t", "\t")


def find_text_columns(
    columns: list[str], options: RowOptions, name: str, values: Values
) -> list[int]:
    """Return the positions of the text columns: as named, else the only one that shows as text.

    Raises UsageError that lists the columns, and proposes one by its `values`.
    """
    if options.text_column is not None and options.text_column_index is None:
        named = names_of_text(options)
        return [find_column(columns, wanted, "--text-column", name) for wanted in named]
    return [_find_text_column(columns, options, name, values)]


def _find_text_column(columns: list[str], options: RowOptions, name: str, values: Values) -> int:
    """Return the position of the text column that was not named."""
    if options.text_column_index is not None:
        index = options.text_column_index - 1
        if not 0 <= index < len(columns):
            raise UsageError(
                f"{name} has {len(columns)} column(s), so there is no column "
                f"{options.text_column_index}",
                hint="--text-column-index counts from 1",
            )
        return index
    matches = text_columns(columns)
    if len(matches) == 1:
        return matches[0]
    listed = list_columns(columns)
    if matches:
        raise UsageError(
            f"{name} has more than one column that could be the text: {listed}",
            hint="name it with --text-column, or give its position with --text-column-index",
        )
    error = UsageError(f"{name} has no column called text or review; its columns are {listed}")
    error.hint = _with_space(columns)
    looks_like_table = len(columns) > 1 and not columns[0].startswith("#")
    if error.hint is None and looks_like_table and (likely := likely_text_column(values())):
        error.hint = f"{why_likely(likely)}add {flag_for(likely)}"
        error.details["columns"] = columns
    error.hint = error.hint or mend(columns)
    raise error


def likely_text_column(values: Mapping[str, Sequence[str]]) -> str | None:
    """Return the column whose values are clearly the longest, else the only one named like text.

    Values without a letter, such as numbers and dates, are no text.
    """
    lengths = {
        name: sum(len(value) for value in found if any(map(str.isalpha, value)))
        for name, found in values.items()
    }
    longest = max(lengths, key=lengths.__getitem__, default="")
    others = max((size for name, size in lengths.items() if name != longest), default=0)
    if lengths.get(longest, 0) > CLEARLY_LONGER * others:
        return longest
    named = list(filter(has_text_word, values))
    return named[0] if len(named) == 1 else None


def why_likely(column: str) -> str:
    """Return what is said before a proposal to take a column whose name does not say so."""
    return "" if has_text_word(column) else f"the longest values are in {printable(column)}: "


def flag_for(column: str) -> str:
    """Return the option that names a text column, as it is typed."""
    return f"--text-column '{printable(column)}'"


def has_text_column(columns: list[str], options: RowOptions) -> bool:
    """Tell whether the text column is named, or shows in its name."""
    named = options.text_column is not None or options.text_column_index is not None
    return named or len(text_columns(columns)) == 1


def text_columns(columns: list[str]) -> list[int]:
    """Return the positions of the columns that are the text by their names."""
    return [n for n, column in enumerate(columns) if is_text_name(column)]


def is_text_name(column: object) -> bool:
    """Tell whether a column is the text without being named: text or review, any case."""
    return isinstance(column, str) and column.lower() in TEXT_NAMES


def _with_space(columns: list[str]) -> str | None:
    """Propose the column whose name is text or review but for white space."""
    for column in columns:
        if is_text_name(column.strip()):
            return f"if you mean the column '{printable(column)}': {flag_for(column)}"
    return None


def has_text_word(column: str) -> bool:
    """Tell whether text or review is one of the words of a column's name, as in review_text."""
    return not set(re.split(r"[\W_]+", column.lower())).isdisjoint(TEXT_NAMES)
