"""Masked-language-model training on Hugging Face's Trainer: the masks, the loss, the order of rows.

Masks are drawn for each row and pass from the seed alone, so a training that resumes draws the same
ones.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.errors import UsageError
from batchsent.model.tokens import TextEncoder
from batchsent.training.hf_trainer import sampler_class, trainer_class, training_arguments
from batchsent.training.masked_model import OTHER_BASE_MODELS
from batchsent.training.plan import Plan

IGNORED = -100  # transformers' label of a token that is not to be guessed


def check_head(model: Any, loss: "MaskedLoss") -> None:
    """Refuse a head that reads other tokens than the one it guesses. Raises UsageError.

    Its logits of two tokens must be the same, whether it sees their states alone or all.
    """
    import torch

    words = torch.arange(8)[None] + 1
    labels = torch.full_like(words, IGNORED)
    labels[0, [2, 5]] = 1
    model.eval()
    found = None
    with torch.no_grad(), contextlib.suppress(RuntimeError, IndexError, ValueError):
        whole = model(input_ids=words).logits[:, [2, 5]]
        with loss.masking(labels):
            found = model(input_ids=words).logits
    model.train()
    if (
        found is None
        or found.shape != whole.shape
        or not torch.allclose(found, whole, rtol=1e-3, atol=1e-3, equal_nan=True)
    ):
        raise UsageError(
            f"--pretrain-on: the head of {type(model).__name__} does not guess each masked token "
            "from its own state",
            hint=OTHER_BASE_MODELS,
        )


def encode_texts(texts: Sequence[str], text_encoder: TextEncoder) -> list[NDArray[np.int32]]:
    """Return the token ids of each text, as long as scoring reads them."""
    tokens = text_encoder.encode(list(texts))
    pairs = zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
    return [tokens.ids[start:end] for start, end in pairs]


class MaskedRows:
    """A data set of token ids; row `rows + i` is row i in the next pass, with other masks."""

    def __init__(self, ids: Sequence[NDArray[np.int32]]) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"input_ids": self.ids[row % len(self.ids)].tolist(), "draw": row}


def make_collator(tokenizer: Any, seed: int) -> Any:
    """Return what makes a batch of rows and masks 15 % of its tokens, drawn for its first row."""
    import torch
    import transformers

    class Collator(transformers.DataCollatorForLanguageModeling):  # type: ignore[misc]  # transformers is untyped here
        """The library's collator, whose random numbers do not depend on the batches before."""

        def torch_call(self, examples: Any) -> Any:
            state = np.random.SeedSequence([seed, examples[0]["draw"]]).generate_state(1, np.uint64)
            self.generator = torch.Generator().manual_seed(int(state[0]))
            return super().torch_call([{"input_ids": row["input_ids"]} for row in examples])

    return Collator(tokenizer)


class MaskedLoss:
    """Cross entropy on the masked tokens; `logits` of other tokens are not computed."""

    def __init__(self, encoder: Any) -> None:
        self.mask: Any = None  # (texts, tokens) bool, of the batch that runs
        encoder.register_forward_hook(self._keep_masked)

    def _keep_masked(self, encoder: Any, inputs: Any, output: Any) -> Any:
        """Hand the head the states of masked tokens alone: 1 text of (masked tokens, width).

        The decoder is as large as the layers of a small encoder, and the logits of 16 texts of 512
        tokens over 30,000 pieces have 1 GB.
        """
        if self.mask is not None:
            output.last_hidden_state = output.last_hidden_state[self.mask][None]
        return output

    def of_tokens(self, outputs: Any, labels: Any) -> Any:
        """Return the loss of every masked token (masked tokens,)."""
        from torch.nn import functional

        logits = outputs.logits[0].float()
        return functional.cross_entropy(logits, labels[labels != IGNORED], reduction="none")

    def __call__(self, outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        """Return the mean loss over the masked tokens of a step; 0 where there are none."""
        losses = self.of_tokens(outputs, labels)
        count = len(losses) if num_items_in_batch is None else num_items_in_batch
        return losses.sum() / max(count, 1)

    @contextlib.contextmanager
    def masking(self, labels: Any) -> Iterator[None]:
        """Compute the masked tokens of a batch only while the block runs."""
        self.mask = labels != IGNORED
        try:
            yield
        finally:
            self.mask = None


def measure_tokens(prediction: Any) -> dict[str, float]:
    """Return loss and perplexity of an evaluation: its predictions are sums and counts of rows."""
    total, count = prediction.predictions.astype(np.float64).sum(axis=0)
    loss = float(total / count) if count else float("nan")
    return {"loss": loss, "perplexity": float(np.exp(loss))}


def masked_trainer_class() -> Any:
    """Return the Trainer of a pre-training."""
    import torch
    import transformers

    class PassSampler(sampler_class()):  # type: ignore[misc]  # transformers is untyped here
        """The order of a training's rows, with another number for a row in each pass."""

        def __iter__(self) -> Iterator[int]:
            first = self.epoch * len(self)
            return (first + row for row in super().__iter__())

    class MaskedTrainer(trainer_class()):  # type: ignore[misc]  # transformers is untyped here
        """A Trainer that learns masked tokens; an evaluation has one loss for all tokens."""

        head_rate = 1.0

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return PassSampler(self.lengths, self._train_batch_size, self.args.seed)

        def shortened_pass(self, model: Any) -> contextlib.AbstractContextManager[Any]:
            return contextlib.nullcontext()

        def create_optimizer(self, *arguments: Any, **settings: Any) -> Any:
            if self.optimizer is not None:
                return self.optimizer
            optimizer = super().create_optimizer(*arguments, **settings)
            encoder = {id(weight) for weight in self.model.base_model.parameters()}
            for group in list(optimizer.param_groups):
                head = [weight for weight in group["params"] if id(weight) not in encoder]
                if head and self.head_rate != 1.0:
                    group["params"] = [w for w in group["params"] if id(w) in encoder]
                    rate = group["lr"] * self.head_rate
                    optimizer.add_param_group({**group, "params": head, "lr": rate})
            return optimizer

        def take_weights(self, checkpoint: Path) -> None:
            """Restore a training that had taken all its steps."""
            state = str(checkpoint / "trainer_state.json")
            self.state = transformers.TrainerState.load_from_json(state)
            self._load_from_checkpoint(str(checkpoint))

        def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **settings: Any) -> Any:
            self.compute_loss_func = self.training_loss
            with self.training_loss.masking(inputs["labels"]):
                return transformers.Trainer.compute_loss(
                    self, model, inputs, *arguments, **settings
                )

        def prediction_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
            """Return the mean loss, and sum and count of the tokens' losses for each row."""
            inputs = self._prepare_inputs(inputs)
            labels = inputs.pop("labels")
            with (
                torch.no_grad(),
                self.training_loss.masking(labels),
                self.compute_loss_context_manager(),
            ):
                losses = self.training_loss.of_tokens(model(**inputs), labels)
            rows = (labels != IGNORED).nonzero()[:, 0]
            sums = torch.zeros(len(labels), 2, device=losses.device)
            sums[:, 0].index_add_(0, rows, losses)
            sums[:, 1].index_add_(0, rows, torch.ones_like(losses))
            return losses.sum() / max(len(losses), 1), sums, sums[:, 1]

    return MaskedTrainer


def make_masked_trainer(
    model: Any,
    tokenizer: Any,
    train: Sequence[NDArray[np.int32]],
    held_out: Sequence[NDArray[np.int32]],
    plan: Plan,
    steps: int,
    folder: Path,
) -> Any:
    """Return a Trainer that learns masked tokens of `train` and measures those of `held_out`."""
    import transformers

    arguments = training_arguments(plan, len(train), folder, "none")
    arguments.max_steps = steps
    arguments.warmup_steps = round(plan.warmup * steps)
    arguments.logging_steps = max(1, steps // 50)
    arguments.remove_unused_columns = False  # the number of a draw is no input of a model
    loss = MaskedLoss(model.base_model)
    check_head(model, loss)
    trainer = masked_trainer_class()(
        lengths=list(map(len, train)),
        training_loss=loss,
        model=model,
        args=arguments,
        train_dataset=MaskedRows(train),
        eval_dataset=MaskedRows(sorted(held_out, key=len)),
        processing_class=tokenizer,
        data_collator=make_collator(tokenizer, plan.seed),
        compute_metrics=measure_tokens,
    )
    # it prints to stdout, which belongs to data
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer
