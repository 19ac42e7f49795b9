"""Unlabelled reviews to pre-train on: drawn from a dump of any size, without rows to measure on."""

import hashlib
import heapq
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from batchsent.chunk import is_blank
from batchsent.errors import UsageError
from batchsent.formats import open_source
from batchsent.formats.dumps import find_dumps
from batchsent.formats.found import Dump
from batchsent.reporting import Reporter
from batchsent.text import printable
from batchsent.training.deduplicate import plain
from batchsent.training.examples import encodable
from batchsent.training.options import PRETRAINING_TEXTS, FinetuneOptions
from batchsent.training.plan import Plan, Splits, Unlabelled
from batchsent.training.read_labelled import offering_own_options, reading_of
from batchsent.urls import file_name

# The loss on masked tokens of so many rows is known to a hundredth; of small dumps a tenth.
HELD_OUT, HELD_OUT_SHARE = 1_000, 10


class Draw:
    """The texts with the smallest hashes, of all that are given: a random sample without copies.

    Which texts these are depends on the texts and the seed alone, not on their order.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.key = count, str(seed).encode()
        self._texts: dict[bytes, str] = {}

    def add(self, text: str, plain_text: str) -> None:
        """Take a text, or not."""
        data = plain_text.encode("utf-8", "surrogatepass")
        self._texts.setdefault(hashlib.blake2b(data, digest_size=8, key=self.key).digest(), text)
        if len(self._texts) > 2 * self.count:
            self._texts = self._smallest()

    def texts(self) -> list[str]:
        """Return the texts, in an order that is random too."""
        return list(self._smallest().values())

    def _smallest(self) -> dict[bytes, str]:
        hashes = heapq.nsmallest(self.count, self._texts)
        return {found: self._texts[found] for found in hashes}


def find_unlabelled(
    settings: FinetuneOptions, splits: Splits, plan: Plan, reporter: Reporter
) -> Unlabelled | None:
    """Return the texts to pre-train on; None where that was not asked for.

    Texts that the training is measured on, or chosen by, are left out and counted: they have no
    labels here, but figures on texts that are new say more. Raises InputError and UsageError for a
    dump that cannot be read, or has too few texts.
    """
    if settings.pretrain_on is None:
        return None
    measured = [splits.evaluation] + ([splits.validation] if splits.validation else [])
    known = {plain(text) for side in measured for text in side.texts}
    step_rows = plan.batch_size * plan.accumulate * plan.processes
    wanted = (
        PRETRAINING_TEXTS
        if settings.pretrain_steps is None
        else settings.pretrain_steps * step_rows
    )
    draw = Draw(wanted + HELD_OUT, settings.seed)
    dumps = dumps_of(settings.pretrain_on)
    rows = 0
    left_out = {"without_text": 0, "also_in_evaluation": 0}
    for text in texts_of(dumps, settings, reporter):
        rows += 1
        if text is None or is_blank(text):
            left_out["without_text"] += 1
            continue
        plain_text = plain(text)
        if plain_text in known:
            left_out["also_in_evaluation"] += 1
        else:
            draw.add(encodable(text), plain_text)
    texts = draw.texts()
    held = min(HELD_OUT, len(texts) // HELD_OUT_SHARE)
    name = file_name(settings.pretrain_on) or settings.pretrain_on
    if not held:
        raise UsageError(
            f"--pretrain-on: {printable(name)} has {len(texts)} different texts to learn from; "
            f"{HELD_OUT_SHARE} are needed",
            hint="give more of them, or leave it out",
        )
    texts = texts[: held + wanted]
    left_out["copy_or_not_drawn"] = rows - sum(left_out.values()) - len(texts)
    facts = {
        "name": name,
        "files": len(dumps),
        "rows_read": rows,
        "left_out": left_out,
        "rows": len(texts) - held,
        "held_out": held,
        "rows_sha256": sha256_of(texts),
    }
    report(facts, reporter)
    return Unlabelled(texts[held:], texts[:held], facts)


def dumps_of(given: str) -> list[Dump]:
    """Return the files that --pretrain-on names. Raises InputError or UsageError."""
    found = find_dumps([given])
    for _, error in found.unread:
        raise error
    if not found.dumps:
        raise UsageError(
            f"--pretrain-on: there is no dump in {printable(given)}",
            hint="name a folder with CSV, JSON lines, Parquet or Arrow files",
        )
    return found.dumps


def texts_of(
    dumps: list[Dump], settings: FinetuneOptions, reporter: Reporter
) -> Iterator[str | None]:
    """Yield the text of each row of each dump; what a person should know of a file is said."""
    for dump in dumps:
        with (
            offering_own_options(),
            closing(open_source(dump.path, reading_of(settings))) as source,
        ):
            for chunk in source.chunks():
                yield from chunk.texts
            for said in source.warnings():
                reporter.warning(f"{source.name}: {said['message']} ({said['hint']})")


def report(facts: dict[str, Any], reporter: Reporter) -> None:
    """Say how many rows there are to pre-train on, and what was left out."""
    left = ", ".join(
        f"{count:,} {reason.replace('_', ' ')}"
        for reason, count in facts["left_out"].items()
        if count
    )
    left = f"; left out of {facts['rows_read']:,}: {left}" if left else ""
    reporter.notice(
        f"pre-train on {facts['rows']:,} rows of {printable(facts['name'])}, "
        f"{facts['held_out']:,} more to measure on{left}"
    )


def sha256_of(texts: list[str]) -> str:
    """Return a hash over exactly these texts, in this order."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d " % len(data))
        digest.update(data)
    return digest.hexdigest()
