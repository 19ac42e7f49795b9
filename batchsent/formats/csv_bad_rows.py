"""Which rows of a CSV cannot be taken, and why: their quoting, width, length or encoding."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from batchsent.chunk import Reject
from batchsent.formats.bad_rows import BadRow, or_leave_out, sort_out
from batchsent.formats.reading import ReadOptions
from batchsent.formats.records import Dialect, Records


@dataclass(frozen=True)
class RowChecks:
    """What a record must be to be taken."""

    options: ReadOptions
    dialect: Dialect
    encoding: str  # of the records' bytes
    fields: int  # in every record
    name: str  # of the input, for messages

    def sort_out(self, runs: Iterable[Records]) -> Iterator[Records | Reject]:
        """Yield runs of good rows and the bad rows between them, in file order.

        Raises InputError for a bad row unless they are to be left out.
        """
        for run in runs:
            yield from sort_out(run, self.bad_rows(run), self.options, self.name)

    def bad_rows(self, run: Records) -> Iterator[BadRow]:
        """Yield every row of a run that cannot be taken."""
        suspect = run.field_counts != self.fields
        suspect[list(run.problems)] = True
        # Only such a record can hold a field that is too long.
        suspect |= run.ends - run.starts > self.options.max_field_bytes
        if self.options.encoding_errors == "strict":
            for number in range(len(run)):
                if not self.decodes(run.data[run.starts[number] : run.ends[number]]):
                    suspect[number] = True
        for number in np.flatnonzero(suspect).tolist():
            bad = self.judge(run, number)
            if bad is not None:
                yield bad

    def good_start(self, run: Records) -> Records:
        """Return the records of a run before the first that is too wide, narrow or damaged."""
        odd = np.flatnonzero(run.field_counts != self.fields).tolist()
        return run.slice(0, min([*odd, *run.problems, len(run)]))

    def judge(self, run: Records, number: int) -> BadRow | None:
        """Return what is wrong with a record, None where nothing is."""
        offset = int(run.starts[number])
        raw = run.data[offset : int(run.ends[number])]
        one = run.slice(number, number + 1)
        found = int(one.field_counts[0])
        if problem := run.problems.get(number):
            return BadRow(number, problem.what, problem.offset, self.hint(raw))
        if found != self.fields:
            reason = f"{found} field(s) where {self.fields} are expected"
            return BadRow(number, reason, offset, self.hint(raw))
        longest = longest_field(one, self.fields)
        if longest > self.options.max_field_bytes:
            reason = f"a field of {longest:,} bytes, more than {self.options.max_field_bytes:,}"
            return BadRow(number, reason, offset, self.hint(raw, "--max-field-bytes"))
        if not self.decodes(raw):
            reason = f"bytes that are not valid {self.encoding}"
            return BadRow(number, reason, offset, or_leave_out(self._other_encoding()))
        return None

    def _other_encoding(self) -> str:
        if self.encoding == "utf-8":
            return "if the file is from a spreadsheet, add --encoding cp1252"
        return f"{self.encoding} may be wrong: change --encoding"

    def decodes(self, raw: bytes) -> bool:
        """Tell whether bytes are text in the file's encoding."""
        try:
            raw.decode(self.encoding)
        except UnicodeDecodeError:
            return False
        return True

    def hint(self, raw: bytes, flag: str | None = None) -> str:
        """Return what to try for a bad row: `flag`, or what its bytes look like."""
        quote = self.dialect.quotechar
        if flag is not None:
            try_first = f"raise or change {flag}"
        elif b"\\" + quote in raw and self.dialect.escapechar is None:
            try_first = "if quotes are escaped with a backslash, add --escapechar '\\'"
        elif self.dialect.delimiter + b" " + quote in raw and not self.dialect.skip_initial_space:
            try_first = "if fields are quoted after a space, add --skip-initial-space"
        else:
            try_first = "correct the line"
        return or_leave_out(try_first)


def longest_field(record: Records, fields: int) -> int:
    """Return the bytes of the longest field of a run of one record."""
    longest = 0
    for position in range(fields):
        begins, ends = record.bounds(position)
        longest = max(longest, int(ends[0] - begins[0]))
    return longest
