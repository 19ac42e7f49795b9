"""Which training rows would teach nothing or too much: copies, contradictions, evaluation rows."""

from batchsent.training.examples import Examples


def choose_rows(
    examples: Examples, measured: Examples | None = None
) -> tuple[list[int], dict[str, int]]:
    """Return the row numbers to train on, in their order, and how many others there are by reason.

    Texts that differ in white space only are copies. Left out are texts that `measured` has too (a
    review learned by heart measures nothing), texts that come with different labels (all copies:
    nobody knows which is right), and of other copies all but the first. A teacher's probabilities
    cannot contradict: its copies differ by rounding.
    """
    known = {plain(text) for text in measured.texts} if measured is not None else set()
    texts = [plain(text) for text in examples.texts]
    label_of: dict[str, int] = {}
    contradictory: set[str] = set()
    if examples.targets is None:
        for text, label in zip(texts, examples.labels, strict=True):
            if label_of.setdefault(text, label) != label:
                contradictory.add(text)
    counts = {"also_in_evaluation": 0, "contradictory": 0, "duplicate": 0}
    seen: set[str] = set()
    rows: list[int] = []
    for row, text in enumerate(texts):
        if text in known:
            counts["also_in_evaluation"] += 1
        elif text in contradictory:
            counts["contradictory"] += 1
        elif text in seen:
            counts["duplicate"] += 1
        else:
            seen.add(text)
            rows.append(row)
    return rows, counts


def plain(text: str) -> str:
    """Return the text with single spaces: what makes two copies of a review the same."""
    return " ".join(text.split())
