"""The linear teacher of the model that comes with batchsent: n-grams with log-count ratios.

Log-count ratios as weights: Wang and Manning, "Baselines and Bigrams", 2012. It says how likely
every review is positive; of the reviews it learned from, by folds, so that it never judges what it
knows by heart.
"""

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SEED = 42
FOLDS = 5
WORDS = r"(?u)\b\w+\b|[!?]"
# Of a labelled review's target so much is its label, the rest the teacher's view of it.
LABEL_SHARE = 0.6


def texts_of(path: str | Path) -> list[str]:
    """Return the reviews of a Parquet file."""
    return pq.read_table(path, columns=["text"])["text"].to_pylist()


def teach(train: str, unlabelled: str, taught: Path, held: Path, held_out: int) -> None:
    """Write all reviews with what the linear teacher says of each, and the `held_out` labelled
    reviews that no step learns from.
    """
    from sklearn.linear_model import LogisticRegression

    labelled = pq.read_table(train, columns=["text", "label"])
    order = np.random.default_rng(SEED).permutation(len(labelled))
    pq.write_table(labelled.take(order[:held_out]), held)
    labelled = labelled.take(np.sort(order[held_out:]))
    texts, labels = labelled["text"].to_pylist(), labelled["label"].to_numpy()
    others = texts_of(unlabelled)
    fold = np.random.default_rng(SEED).integers(FOLDS, size=len(texts))
    margins = np.empty(len(texts))
    for number in range(FOLDS):
        inside = fold == number
        judge = linear_teacher(
            [t for t, left in zip(texts, inside, strict=True) if not left], labels[~inside]
        )
        margins[inside] = judge([t for t, left in zip(texts, inside, strict=True) if left])
        click.echo(
            f"teacher, fold {number + 1}: accuracy {((margins > 0) == labels)[inside].mean():.4f}"
        )
    # Platt scaling on the folds: margins become probabilities that hold.
    scale = LogisticRegression().fit(margins[:, None], labels)
    own = (1 - LABEL_SHARE) * scale.predict_proba(margins[:, None])[:, 1] + LABEL_SHARE * labels
    theirs = scale.predict_proba(linear_teacher(texts, labels)(others)[:, None])[:, 1]
    positive = np.concatenate([own, theirs]).astype(np.float32)
    table = pa.table(
        {
            "text": texts + others,
            "label": (positive > 0.5).astype(np.int8),
            "prob_NEGATIVE": 1 - positive,
            "prob_POSITIVE": positive,
        }
    )
    # A review that is held out, or stands in the file twice, is not learned.
    first = (
        table.append_column("row", pa.array(np.arange(len(table))))
        .group_by("text")
        .aggregate([("row", "min")])
    )
    table = table.take(np.sort(first["row_min"].to_numpy()))
    known = pc.is_in(table["text"], value_set=pq.read_table(held)["text"].combine_chunks())
    pq.write_table(table.filter(pc.invert(known)), taught)


def linear_teacher(texts: list[str], labels: np.ndarray) -> Callable[[list[str]], np.ndarray]:
    """Fit n-grams weighted by their log-count ratio.

    Return a function from texts to margins (rows,).
    """
    import scipy.sparse
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(
        ngram_range=(1, 3),
        min_df=3,
        sublinear_tf=True,
        token_pattern=WORDS,
        preprocessor=plain,
        dtype=np.float32,
    )
    counts = vectorizer.fit_transform(texts)
    present = [
        np.asarray((counts[labels == label] > 0).sum(axis=0)).ravel() + 1 for label in (0, 1)
    ]
    ratio = np.log((present[1] / present[1].sum()) / (present[0] / present[0].sum())).astype(
        np.float32
    )
    weights = scipy.sparse.diags(ratio)
    model = LogisticRegression(
        C=20, solver="liblinear", dual=True, max_iter=200, tol=1e-2, random_state=SEED
    )
    model.fit(counts @ weights, labels)
    return lambda others: model.decision_function(vectorizer.transform(others) @ weights)


def plain(text: str) -> str:
    """Return a review in lower case without line breaks in HTML."""
    return text.replace("<br />", " ").lower()
