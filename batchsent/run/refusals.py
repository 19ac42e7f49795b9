"""Options that cannot mean what they say together: refused before any file is opened."""

import sys

from batchsent.errors import UsageError
from batchsent.evaluation import gates
from batchsent.run.options import BatchOptions
from batchsent.run.places import Places
from batchsent.run.rejects import over_budget
from batchsent.standard_streams import check_stdout
from batchsent.text import printable


def check_options(options: BatchOptions, places: Places) -> None:
    """Refuse what cannot be meant. Raises UsageError."""
    judged = options.gold or options.gold_stars
    if not options.prefix.isprintable():
        raise UsageError(f"--prefix {printable(options.prefix)}: not printable", hint="use letters that print")
    if places.input == "-" and sys.stdin is not None and sys.stdin.isatty():
        raise UsageError(
            "stdin is a terminal", hint="name a file, or pipe one in: cat reviews.csv | batchsent batch - -o -"
        )
    if places.output == "-":
        check_stdout()
    if options.bad_rows == "reject" and places.rejects is None:
        raise UsageError("rejected rows have no place to go", hint="add --rejects FILE")
    if options.bad_rows != "reject" and (options.max_bad_rows or options.rejects):
        raise UsageError("--max-bad-rows and --rejects do nothing by themselves", hint="add --bad-rows reject")
    if (options.gold_stars is None) != (options.stars is None):
        raise UsageError("--gold-stars and --stars go together", hint="for instance --stars 1-2:NEGATIVE,4-5:POSITIVE")
    if options.gold and options.gold_stars:
        raise UsageError("--gold and --gold-stars both say what is right", hint="leave one of them out")
    if options.fail_under and not judged:
        raise UsageError("--fail-under has no figures to go by", hint="add --gold COLUMN")
    if options.disagreements and not judged:
        raise UsageError("--disagreements has nothing to disagree with", hint="add --gold COLUMN or --gold-stars")
    if (options.group_by or options.disagreements) and places.data is None:
        raise UsageError("tables beside the output have no place beside stdout", hint="write to a file")
    if options.report and places.data is None:
        raise UsageError("--report has no place for its page", hint="write to a file, or use batchsent report")
    # Misspelt gates and budgets are refused before the file is read.
    gates.under(None, options.fail_under)
    gates.check_score("--unsure-below", options.unsure_below)
    over_budget(options.max_bad_rows, 0, 1)
