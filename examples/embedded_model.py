"""Make the model that comes with batchsent: reviews and a public encoder in, a compact classifier
out.

    python examples/embedded_model.py --train train.parquet --unlabelled unsupervised.parquet --test test.parquet

The recipe, each step kept in --work so that a stopped run goes on where it was, with its seconds:

1. A linear teacher says how likely every review is positive (embedded_teacher.py).
2. The encoder is all-MiniLM-L6-v2 with the pieces of its vocabulary that reviews need
   (embedded_encoder.py).
3. It learns whole reviews and crops of one to three sentences (embedded_training.py): at first the
   labelled reviews, then these again with other crops and some of the unlabelled ones.
4. It is stored in 8 bits and measured on the test reviews, which no step before has used, beside
   TF-IDF with a logistic regression.
"""

import json
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import crops
import embedded_training as training
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from embedded_encoder import cut_out
from embedded_teacher import SEED, teach, texts_of
from numpy.typing import NDArray

import batchsent
from batchsent.evaluation.quality import interval
from batchsent.model import calibration, int8_storage
from batchsent.model.canaries import write_canaries
from batchsent.model.files import sha256_of
from batchsent.training import seen
from batchsent.training.held_out import write_held_out

LAYERS, PIECES = 6, 14_000
EXIT_LAYER = 2  # texts of which the model is sure after so many layers need no more
# Head and tail of so many tokens are learned; 512 are read.
TRAINED_TOKENS = 256
# Of a crop's target so much is the label of its review, the rest an even chance.
CROP_LABEL_SHARE = 0.95
LEARNING_RATE = 1.5e-4
# Steps of the first rows, of a schedule of so many steps; then the second rows, to the end.
FIRST_STEPS, FIRST_SCHEDULE, STEPS = 600, 2_150, 2_700
UNLABELLED_WHOLE, UNLABELLED_CROPS = 10_000, 30_000
# Then a third time, with a new rise and fall of the learning rate: most of it crops.
THIRD = training.Schedule(1e-4, steps=2_500, stop=2_500, seed=SEED + 1, average_keep=0.99)
THIRD_WHOLE, THIRD_UNLABELLED_WHOLE = 10_000, 6_000
# Lengths of the second crops, in sentences, and how often each.
CROP_SENTENCES, CROP_SHARES = (1, 2, 3), (0.45, 0.3, 0.25)

# What all-MiniLM-L6-v2 has learned is not known.
NOTHING_KNOWN = seen.SeenTexts(np.zeros(0, dtype=np.uint32), complete=False)

WORD_EDGES = (10, 20, 40, 80, 160)
WORD_NAMES = ("under 10", "10 to 19", "20 to 39", "40 to 79", "80 to 159", "160 and more")

Rows = tuple[list[str], list[float]]  # texts, and how likely each is positive


@click.command()
@click.option(
    "--train", required=True, help="Labelled reviews: Parquet with text and label (0 or 1)."
)
@click.option("--unlabelled", required=True, help="Reviews without labels: Parquet with text.")
@click.option("--test", required=True, help="Labelled reviews to measure on.")
@click.option(
    "--encoder",
    default="sentence-transformers/all-MiniLM-L6-v2",
    help="Hub id or folder of the encoder.",
)
@click.option("--work", default="embedded-work", help="Folder for what is made on the way.")
@click.option("-o", "--output", default="batchsent/embedded", help="Folder of the finished model.")
def main(train: str, unlabelled: str, test: str, encoder: str, work: str, output: str) -> None:
    """Make the embedded model, step by step; finished steps are not done again."""
    place = Path(work)
    place.mkdir(parents=True, exist_ok=True)
    taught, held = place / "taught.parquet", place / "held-out.parquet"
    if not taught.exists():
        with timed("teacher"):
            teach(train, unlabelled, taught, held)
    if not (place / "base").exists():
        with timed("encoder"):
            cut_out(encoder, texts_of(taught), place / "base", LAYERS, PIECES)
    if not (place / "model" / "config.json").exists():
        with timed("training"):
            learn(taught, train, place)
    with timed("storing"):
        store(place / "model", Path(output), texts_of(taught), held)
    with timed("measuring"):
        measure(Path(output), train, test, place)


@contextmanager
def timed(step: str) -> Iterator[None]:
    """Print how long a step took."""
    begin = time.monotonic()
    yield
    click.echo(f"{step}: {time.monotonic() - begin:.0f} s")


def learn(taught: Path, train: str, work: Path) -> None:
    """Train the encoder in `work`/base and write it to `work`/model."""
    import torch
    import transformers

    torch.manual_seed(SEED)  # the classifier is new, and drops out
    tokenizer = transformers.AutoTokenizer.from_pretrained(work / "base")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        work / "base",
        attn_implementation="eager",  # fused attention is slower in bfloat16 on a CPU
        id2label={0: "NEGATIVE", 1: "POSITIVE"},
        label2id={"NEGATIVE": 0, "POSITIVE": 1},
    )
    first = training.Schedule(LEARNING_RATE, FIRST_SCHEDULE, FIRST_STEPS, SEED)
    second = training.Schedule(LEARNING_RATE, STEPS, STEPS, SEED)
    trained = training.Training(model, work / "training", first)
    trained.resume()
    random = np.random.default_rng(SEED)
    for schedule, rows, first_step in (
        (first, first_rows(taught, train, random), 0),
        (second, second_rows(taught, train, random), FIRST_STEPS),
    ):
        trained.schedule = schedule
        texts, positive = rows
        ids = training.encode(tokenizer, texts, TRAINED_TOKENS)
        trained.run(ids, np.array(positive, dtype=np.float32), first_step)
    with trained.averaged() as averaged:
        averaged.save_pretrained(work / "second")
    refine(tokenizer, model, third_rows(taught, train), work)


def refine(tokenizer: Any, model: Any, rows: Rows, work: Path) -> None:
    """Train a model that has learned already, most of it crops, and write it to `work`/model."""
    texts, positive = rows
    trained = training.Training(model, work / "refining", THIRD, exit_layer=EXIT_LAYER)
    trained.resume()
    ids = training.encode(tokenizer, texts, TRAINED_TOKENS)
    trained.run(ids, np.array(positive, dtype=np.float32))
    with trained.averaged() as averaged:
        averaged.config.long_text = "head-tail"
        averaged.save_pretrained(work / "model")
    tokenizer.save_pretrained(work / "model")


def first_rows(taught: Path, train: str, random: np.random.Generator) -> Rows:
    """Return the labelled reviews with what they were taught, and three crops of each."""
    texts, positive = [], []
    for text, chance, label in labelled(taught, train):
        texts.append(text)
        positive.append(chance)
        for sentences in CROP_SENTENCES:
            found = crops.crops_of(text, sentences, 1, random)
            texts += found
            positive += [crop_target(label)] * len(found)
    return texts, positive


def second_rows(taught: Path, train: str, random: np.random.Generator) -> Rows:
    """Return the labelled reviews with two new crops of each, and some of the unlabelled ones."""
    rows: Rows = ([], [])
    for text, chance, label in labelled(taught, train):
        add_whole(rows, text, chance)
        add_crops(rows, text, label, 2, random)
    others = unlabelled_rows(taught, train)
    order = random.permutation(len(others)).tolist()
    for place in order[:UNLABELLED_WHOLE]:
        add_whole(rows, *others[place])
    for place in order[UNLABELLED_WHOLE : UNLABELLED_WHOLE + UNLABELLED_CROPS]:
        add_crops(rows, *others[place], 1, random)
    return rows


def third_rows(taught: Path, train: str) -> Rows:
    """Return three new crops of each labelled review, two of each unlabelled one, and some reviews
    as they are.
    """
    random = np.random.default_rng(THIRD.seed)
    rows: Rows = ([], [])
    for place, (text, chance, label) in enumerate(shuffled(labelled(taught, train), random)):
        if place < THIRD_WHOLE:
            add_whole(rows, text, chance)
        add_crops(rows, text, label, 3, random)
    for place, (text, chance) in enumerate(shuffled(unlabelled_rows(taught, train), random)):
        if place < THIRD_UNLABELLED_WHOLE:
            add_whole(rows, text, chance)
        add_crops(rows, text, chance, 2, random)
    return rows


def shuffled(rows: Iterable[tuple[Any, ...]], random: np.random.Generator) -> list[tuple[Any, ...]]:
    """Return rows in a random order."""
    listed = list(rows)
    return [listed[place] for place in random.permutation(len(listed)).tolist()]


def add_whole(rows: Rows, text: str, chance: float) -> None:
    """Add a review to rows."""
    rows[0].append(text)
    rows[1].append(chance)


def add_crops(
    rows: Rows, text: str, chance: float, count: int, random: np.random.Generator
) -> None:
    """Add crops of a review to rows, each of another number of sentences."""
    lengths = random.choice(CROP_SENTENCES, count, replace=False, p=CROP_SHARES)
    for sentences in lengths.tolist():
        for crop in crops.crops_of(text, sentences, 1, random):
            add_whole(rows, crop, crop_target(chance))


def crop_target(chance: float) -> float:
    """Return how likely a crop is positive, of a review that is so with this chance."""
    return CROP_LABEL_SHARE * chance + (1 - CROP_LABEL_SHARE) / 2


def labelled(taught: Path, train: str) -> Iterator[tuple[str, float, int]]:
    """Yield text, taught probability and label of each labelled review that is not held out."""
    known = labels_of(train)
    for text, chance in taught_rows(taught):
        if text in known:
            yield text, chance, known[text]


def unlabelled_rows(taught: Path, train: str) -> list[tuple[str, float]]:
    """Return text and taught probability of the other reviews."""
    known = labels_of(train)
    return [(text, chance) for text, chance in taught_rows(taught) if text not in known]


def labels_of(train: str) -> dict[str, int]:
    """Return the label of each labelled review."""
    table = pq.read_table(train, columns=["text", "label"])
    return dict(zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True))


def taught_rows(taught: Path) -> Iterator[tuple[str, float]]:
    """Yield text and taught probability of all reviews."""
    table = pq.read_table(taught, columns=["text", "prob_POSITIVE"])
    yield from zip(table["text"].to_pylist(), table["prob_POSITIVE"].to_pylist(), strict=True)


def store(model: Path, output: Path, learned: list[str], held: Path) -> None:
    """Write the trained model in 8 bits to the folder that batchsent ships, with what belongs to
    it: calibration, canaries, how it did on the reviews held out, and hashes of those learned.
    """
    from safetensors.torch import load_file

    reviews = pq.read_table(held, columns=["text", "label"])
    texts, labels = reviews["text"].to_pylist(), reviews["label"].to_numpy()
    output.mkdir(parents=True, exist_ok=True)
    for name in ("model.safetensors", calibration.FILE, "canaries.json", "held_out.json"):
        (output / name).unlink(missing_ok=True)  # of the model that was there
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model / name, output / name)
    weights = load_file(model / "model.safetensors")
    int8_storage.write(weights, output)
    # Soft targets make it too careful. Divided by the temperature that the reviews held out ask for,
    # its logits are calibrated as they are.
    temperature = calibration.calibrate(logits_of(output, texts), labels).temperature
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name] / temperature
    path = int8_storage.write(weights, output)
    # A later training measures on other reviews.
    (output / seen.FILE).write_bytes(seen.dumps(NOTHING_KNOWN.with_texts(learned)))
    fitted = calibration.calibrate(logits_of(output, texts), labels, weights_sha256=sha256_of(path))
    (output / calibration.FILE).write_bytes(calibration.dumps(fitted))
    write_canaries(output)
    write_held_out(output, texts, labels.tolist())


def logits_of(model: Path, texts: list[str]) -> NDArray[np.float64]:
    """Return the logits (rows, labels) of reviews, up to a constant for each row."""
    found = batchsent.load(str(model), device="cpu", precision="float32").predict(texts)
    each = np.array([list(one.probabilities.values()) for one in found], dtype=np.float64)
    return np.log(each)


def measure(model: Path, train: str, test: str, work: Path) -> None:
    """Score the test reviews and their crops with the finished model, print its figures, and write
    them into its card.
    """
    reviews = pq.read_table(test, columns=["text", "label"])
    scored = work / "whole.parquet"
    whole = batchsent.batch(
        test, scored, model=str(model), gold="label", prefix="pred_", overwrite=True
    )
    of_crops = crops.measure(reviews, str(model), crops.PER_REVIEW, crops.SEED, keep=work)
    linear, linear_rate = baseline(train, reviews)
    figures = {
        "rows": whole["evaluation"]["rows"],
        "accuracy": whole["evaluation"]["accuracy"],
        "interval": whole["evaluation"]["accuracy_interval"],
        "roc_auc": whole["evaluation"]["roc_auc"],
        "calibration_error": whole["evaluation"]["calibration_error"],
        "precision": whole["model"]["precision"],
        "rate": rate(whole),
        "crops": of_crops,
        "by_words": by_words([scored, *(work / crops.scored_name(n) for n in crops.SENTENCES)]),
        "linear_accuracy": linear,
        "linear_rate": linear_rate,
        "device": whole["device"]["description"],
        "megabytes": sum(path.stat().st_size for path in model.iterdir()) / 1e6,
    }
    click.echo(json.dumps(figures, indent=2))
    (work / "figures.json").write_text(json.dumps(figures, indent=2))
    card = Path(__file__).with_name("embedded_card.md").read_text()
    rows = "\n".join(words_row(row) for row in figures["by_words"])
    card = card.format(**figures, words_rows=rows, made=time.strftime("%Y-%m-%d"))
    (model / "README.md").write_text(card)


def by_words(scored: list[Path]) -> list[dict[str, Any]]:
    """Return figures of scored reviews and crops together, by the number of words."""
    columns = ["text", "label", "pred_label", "pred_score"]
    together = pa.concat_tables(
        [pq.read_table(path, columns=columns) for path in scored], promote_options="permissive"
    )
    words = np.array([len(text.split()) for text in together["text"].to_pylist()])
    bins = np.searchsorted(WORD_EDGES, words, "right")
    positive = np.array(together["pred_label"].to_pylist()) == "POSITIVE"
    labels, scores = together["label"].to_numpy(), together["pred_score"].to_numpy()
    found = []
    for number, name in enumerate(WORD_NAMES):
        rows = bins == number
        if not rows.any():
            continue
        right = int((positive[rows] == labels[rows]).sum())
        low, high = interval(right, int(rows.sum()))
        found.append(
            {
                "name": name,
                "texts": int(rows.sum()),
                "accuracy": right / int(rows.sum()),
                "interval": [low, high],
                "mean_score": float(scores[rows].mean()),
                "share_positive": float(positive[rows].mean()),
                "true_share_positive": float(labels[rows].mean()),
            }
        )
    return found


def words_row(row: dict[str, Any]) -> str:
    """Return a line of the card's table by the number of words."""
    low, high = row["interval"]
    return (
        f"| {row['name']} | {row['texts']:,} | {row['accuracy']:.4f} ({low:.3f} to {high:.3f}) "
        f"| {row['mean_score'] - row['accuracy']:+.3f} | {row['share_positive']:.1%} "
        f"| {row['true_share_positive']:.1%} |"
    )


def rate(summary: dict[str, Any]) -> float:
    """Return the reviews a second of a run, once its model was loaded."""
    return summary["rows"]["scored"] / summary["performance"]["seconds"]["score"]


def baseline(train: str, reviews: pa.Table) -> tuple[float, float]:
    """Return accuracy and reviews a second of TF-IDF over words and pairs with a logistic
    regression.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    labelled = pq.read_table(train, columns=["text", "label"])
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), LogisticRegression(C=10)
    )
    model.fit(labelled["text"].to_pylist(), labelled["label"].to_numpy())
    texts = reviews["text"].to_pylist()
    begin = time.perf_counter()
    said = model.predict(texts)
    return float((said == reviews["label"].to_numpy()).mean()), len(texts) / (
        time.perf_counter() - begin
    )


if __name__ == "__main__":
    main()
