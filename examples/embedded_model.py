"""Make the model that comes with batchsent: reviews and a public encoder in, a compact classifier
out.

    python examples/embedded_model.py --train train.parquet --unlabelled unsupervised.parquet --test test.parquet

The recipe, each step kept in --work so that a stopped run goes on where it was:

1. A linear teacher over words, pairs and triples of words learns the labelled reviews (log-count ratios as weights:
   Wang and Manning, "Baselines and Bigrams", 2012). It says how likely every review is positive; of the reviews it
   learned from, by folds, so that it never judges what it knows by heart.
2. The compact encoder is cut out of all-MiniLM-L6-v2: its first layers, and the pieces of its vocabulary that
   reviews need.
3. `batchsent finetune --distill` teaches it the teacher's probabilities, mixed with the labels where there are any.
4. It is stored in float16 and measured on the test reviews, which no step before has used, beside TF-IDF with a
   logistic regression.
"""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import crops
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import batchsent
from batchsent.model import calibration, files, weight_files
from batchsent.model.canaries import write_canaries
from batchsent.reporting import Reporter
from batchsent.training.held_out import write_held_out

SEED = 42
HELD_OUT = 1_000  # labelled reviews that no step learns from: they calibrate, and are counted
FOLDS = 5
WORDS = r"(?u)\b\w+\b|[!?]"
# Of a labelled review's target so much is its label, the rest the teacher's view of it.
LABEL_SHARE = 0.6
LAYERS, PIECES = 2, 14_000
TRAINING = {
    "max_length": 512,
    "long_text": "head-tail",
    "batch_size": 32,
    "eval_batch_size": 32,
    "epochs": 2.4,
    "learning_rate": 3e-4,
    "warmup": 0.05,
    "save_strategy": "steps",
    "save_steps": 200,
}


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
@click.option("--epochs", default=TRAINING["epochs"], help="Passes over all reviews.")
def main(
    train: str, unlabelled: str, test: str, encoder: str, work: str, output: str, epochs: float
) -> None:
    """Make the embedded model, step by step; finished steps are not done again."""
    place = Path(work)
    place.mkdir(parents=True, exist_ok=True)
    taught, held = place / "taught.parquet", place / "held-out.parquet"
    if not taught.exists():
        teach(train, unlabelled, taught, held)
    if not (place / "base").exists():
        cut_out(encoder, texts_of(taught), place / "base")
    if not (place / "model").exists():
        batchsent.finetune(
            place / "model",
            train=str(taught),
            eval=str(held),
            base_model=str(place / "base"),
            distill=True,
            seed=SEED,
            reporter=Spoken(),
            **(TRAINING | {"epochs": epochs}),
        )
    store(place / "model", Path(output))
    reviews = pq.read_table(held, columns=["text", "label"])
    write_canaries(Path(output))
    write_held_out(Path(output), reviews["text"].to_pylist(), reviews["label"].to_pylist())
    measure(Path(output), train, test, place)


def texts_of(path: str | Path) -> list[str]:
    """Return the reviews of a Parquet file."""
    return pq.read_table(path, columns=["text"])["text"].to_pylist()


def teach(train: str, unlabelled: str, taught: Path, held: Path) -> None:
    """Write all reviews with what the linear teacher says of each, and the labelled reviews that
    are held out.
    """
    from sklearn.linear_model import LogisticRegression

    labelled = pq.read_table(train, columns=["text", "label"])
    order = np.random.default_rng(SEED).permutation(len(labelled))
    pq.write_table(labelled.take(order[:HELD_OUT]), held)
    labelled = labelled.take(np.sort(order[HELD_OUT:]))
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


def cut_out(encoder: str, texts: list[str], output: Path) -> None:
    """Write a DistilBERT of the encoder's first layers, its more used neurons, and the word pieces
    of the texts.
    """
    import torch
    import transformers

    torch.manual_seed(SEED)
    whole = transformers.AutoModel.from_pretrained(encoder, add_pooling_layer=False).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    pieces = needed_pieces(tokenizer, texts)
    old = whole.state_dict()
    new = {
        "embeddings.word_embeddings.weight": old["embeddings.word_embeddings.weight"][
            tokenizer.convert_tokens_to_ids(pieces)
        ],
        # DistilBERT knows no second sentence: what marks the first is added to every place.
        "embeddings.position_embeddings.weight": old["embeddings.position_embeddings.weight"]
        + old["embeddings.token_type_embeddings.weight"][0],
        "embeddings.LayerNorm.weight": old["embeddings.LayerNorm.weight"],
        "embeddings.LayerNorm.bias": old["embeddings.LayerNorm.bias"],
    }
    names = {
        "attention.self.query": "attention.q_lin",
        "attention.self.key": "attention.k_lin",
        "attention.self.value": "attention.v_lin",
        "attention.output.dense": "attention.out_lin",
        "attention.output.LayerNorm": "sa_layer_norm",
        "intermediate.dense": "ffn.lin1",
        "output.dense": "ffn.lin2",
        "output.LayerNorm": "output_layer_norm",
    }
    for layer in range(LAYERS):
        for theirs, ours in names.items():
            for part in ("weight", "bias"):
                new[f"transformer.layer.{layer}.{ours}.{part}"] = old[
                    f"encoder.layer.{layer}.{theirs}.{part}"
                ]
    config = transformers.DistilBertConfig(
        vocab_size=len(pieces),
        max_position_embeddings=whole.config.max_position_embeddings,
        dim=whole.config.hidden_size,
        hidden_dim=whole.config.intermediate_size,
        n_layers=LAYERS,
        n_heads=whole.config.num_attention_heads,
        # Soft targets of 75,000 reviews leave little to learn by heart; dropout only costs time.
        dropout=0.0,
        attention_dropout=0.0,
        seq_classif_dropout=0.1,
    )
    compact = transformers.DistilBertModel(config)
    compact.load_state_dict(new)
    compact.save_pretrained(output)
    transformers.BertTokenizerFast(
        vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=True, model_max_length=512
    ).save_pretrained(output)


def needed_pieces(tokenizer: Any, texts: list[str]) -> list[str]:
    """Return special tokens, the single characters that occur, and the commonest other pieces, in
    their old order.
    """
    counts: Counter[int] = Counter()
    for first in range(0, len(texts), 1_000):
        for encoding in tokenizer.backend_tokenizer.encode_batch_fast(texts[first : first + 1_000]):
            counts.update(encoding.ids)
    names = {number: piece for piece, number in tokenizer.get_vocab().items()}
    special = list(tokenizer.all_special_ids)
    # Without its characters a word whose pieces were cut would be unknown.
    characters = [
        n for n, piece in names.items() if len(piece.removeprefix("##")) == 1 and piece.isascii()
    ]
    kept = dict.fromkeys([*special, *characters, *(n for n, _ in counts.most_common())])
    return [names[n] for n in sorted(list(kept)[:PIECES])]


class Spoken(Reporter):
    """Says on the terminal how far the training is."""

    said = 0.0

    def notice(self, text: str, **facts: object) -> None:
        """Print it."""
        click.echo(text)

    def warning(self, text: str, **facts: object) -> None:
        """Print it."""
        click.echo(f"warning: {text}")

    def progress(self, rows: int, total_rows: int | None, *, reused_rows: int = 0) -> None:
        """Print the time and the rows, once a minute."""
        if time.monotonic() - self.said > 60:
            self.said = time.monotonic()
            click.echo(f"{time.strftime('%H:%M:%S')} {rows:,} of {total_rows:,} reviews")


def store(model: Path, output: Path) -> None:
    """Write the trained model in float16 to the folder that batchsent ships, with its calibration."""
    from safetensors.torch import load_file, save_file

    output.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.half() for name, tensor in load_file(model / weight_files.WEIGHTS).items()
    }
    save_file(weights, output / weight_files.WEIGHTS, metadata={"format": "pt"})
    (output / weight_files.WEIGHTS).chmod(0o644)
    # With the hashes of the reviews that it has seen, a later training measures on others.
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "seen_texts.hashes"):
        shutil.copy(model / name, output / name)
    fitted = json.loads((model / calibration.FILE).read_bytes())
    fitted["weights_sha256"] = files.sha256_of(output / weight_files.WEIGHTS)
    (output / calibration.FILE).write_text(json.dumps(fitted, indent=2) + "\n")


def measure(model: Path, train: str, test: str, work: Path) -> None:
    """Score the test reviews with the finished model, print its figures, and write them into its
    card.
    """
    reviews = pq.read_table(test, columns=["text", "label"])
    whole, int8 = (
        batchsent.batch(
            test,
            work / f"{name}.parquet",
            model=str(model),
            precision=precision,
            gold="label",
            prefix="pred_",
            overwrite=True,
        )
        for name, precision in (("whole", "float32"), ("int8", "int8"))
    )
    linear, linear_rate = baseline(train, reviews)
    figures = {
        "rows": whole["evaluation"]["rows"],
        "accuracy": whole["evaluation"]["accuracy"],
        "interval": whole["evaluation"]["accuracy_interval"],
        "roc_auc": whole["evaluation"]["roc_auc"],
        "calibration_error": whole["evaluation"]["calibration_error"],
        "rate": rate(whole),
        "int8_accuracy": int8["evaluation"]["accuracy"],
        "int8_rate": rate(int8),
        "crops": crops.measure(reviews, str(model), crops.PER_REVIEW, crops.SEED),
        "linear_accuracy": linear,
        "linear_rate": linear_rate,
        "device": whole["device"]["description"],
        "megabytes": sum(path.stat().st_size for path in model.iterdir()) / 1e6,
    }
    click.echo(json.dumps(figures, indent=2))
    (work / "figures.json").write_text(json.dumps(figures, indent=2))
    card = Path(__file__).with_name("embedded_card.md").read_text()
    (model / "README.md").write_text(card.format(**figures, made=time.strftime("%Y-%m-%d")))


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
