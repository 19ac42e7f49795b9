"""Training reviews a second: `batchsent finetune` beside transformers' Trainer as it comes, in one
run.

    python examples/bench_training.py --train train.parquet --rows 640 --base-model embedded

Both train one epoch on the same reviews at the same length, batch size and learning rate, one after
the other in processes of their own, and measure a handful of reviews at the end.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

BATCH = 16


def stock(train: str, base: str, length: int, rows: int) -> float:
    """Train as a script written from the documentation does; return the seconds."""
    import datasets
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    table = pq.read_table(train, columns=["text", "label"]).slice(0, rows)
    data = datasets.Dataset.from_dict(
        {"text": table["text"].to_pylist(), "label": table["label"].to_pylist()}
    )
    data = data.map(
        lambda batch: tokenizer(batch["text"], truncation=True, max_length=length), batched=True
    )
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = transformers.Trainer(
            model=model, args=arguments, train_dataset=data, processing_class=tokenizer
        )
        return trainer.train().metrics["train_runtime"]


def ours(train: str, base: str, length: int, rows: int) -> float:
    """Train with batchsent; return the seconds."""
    import batchsent

    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "few.parquet"
        pq.write_table(pq.read_table(train, columns=["text", "label"]).slice(rows, 16), few)
        some = Path(folder) / "some.parquet"
        pq.write_table(pq.read_table(train, columns=["text", "label"]).slice(0, rows), some)
        document = batchsent.finetune(
            Path(folder) / "model",
            train=str(some),
            eval=str(few),
            base_model=base,
            max_length=length,
            batch_size=BATCH,
            epochs=1,
            save_strategy="no",
        )
    return document["training"]["runtime_s"]


def main() -> None:
    """Measure both, in turns, and print a line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--train", required=True, help="Parquet with text and label (0 or 1), well mixed"
    )
    parser.add_argument("--base-model", required=True, help="folder of the encoder")
    parser.add_argument("--rows", type=int, default=640)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--only", choices=("stock", "ours"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    words = (options.train, options.base_model, options.max_length, options.rows)
    if options.only:
        print(json.dumps({"stock": stock, "ours": ours}[options.only](*words)))
        return
    seconds = {}
    for name in ("stock", "ours"):
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--only", name],
            capture_output=True,
            text=True,
            check=True,
        )
        seconds[name] = float(done.stdout.strip().splitlines()[-1])
    print(
        f"{time.strftime('%Y-%m-%d')}, {options.rows} reviews, {options.max_length} tokens, batch "
        f"{BATCH}"
    )
    for name, label in (
        ("stock", "transformers.Trainer as it comes"),
        ("ours", "batchsent finetune"),
    ):
        print(
            f"{label:35} {options.rows / seconds[name]:8.1f} reviews/s  "
            f"{seconds['stock'] / seconds[name]:5.2f} x"
        )


if __name__ == "__main__":
    main()
