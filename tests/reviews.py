"""Short reviews for trainings, in words that the tiny tokenizer knows."""

import csv

GOOD = ["great", "lovely", "wonderful", "good", "love", "best"]
BAD = ["awful", "boring", "terrible", "bad", "hate", "worst"]


def write_reviews(path, rows=48, labels=("pos", "neg"), words=(GOOD, BAD)):
    """Write short reviews, one class after the other, in words that the tiny tokenizer knows."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(rows):
            of_class = words[i % len(labels)]
            text = " ".join(of_class[(i * k + k) % len(of_class)] for k in range(1, 3 + i % 5))
            writer.writerow([f"the film {text} {i}", labels[i % len(labels)]])
    return str(path)
