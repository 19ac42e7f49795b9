"""Batches through an encoder, in halves where the memory of the device is too small for one.

A batch that does not fit is split in two, and later batches of that size are split before they run.
The halves give the same numbers as the whole but for a last digit, since no text depends on its
neighbours. Packs of one size are not split, since their halves would be as large.
"""

import resource
import sys
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsent.errors import DeviceError
from batchsent.model.batches import halve
from batchsent.model.device import Device, device_error, is_out_of_memory, lacks_memory
from batchsent.model.device_time import device_time
from batchsent.model.early_exit import EarlyExit
from batchsent.model.encoder import Encoder
from batchsent.model.packing import Tokens
from batchsent.text import printable


class Copy:
    """Results on their way from a CUDA device, which nothing launched later delays."""

    def __init__(self, output: Any) -> None:
        import torch

        self._values = torch.empty(output.shape, dtype=output.dtype, pin_memory=True)
        self._values.copy_(output, non_blocking=True)
        self._arrived = torch.cuda.Event()
        self._arrived.record()

    def cpu(self) -> Any:
        """Wait for the results and return them."""
        self._arrived.synchronize()
        return self._values


def start_copy(output: Any) -> Any:
    """Begin to copy results from a CUDA device; others are returned as they are."""
    return Copy(output) if getattr(output, "is_cuda", False) else output


class BatchRunner:
    """Runs batches on one device, and counts what they cost."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.runs_ahead = device.kind == "cuda"  # whether batches run after their calls returned
        # largest batch known to fit, once memory has run out
        self.largest_batch_tokens: int | None = None
        self.begin_counts()

    def begin_counts(self) -> None:
        """Count anew: another run begins, and no batch is at work."""
        self.time = device_time(self.device)
        self.backoffs = 0  # batches that were split because memory ran out
        self.tokens = 0
        self.padded_tokens = 0  # tokens and padding
        self._texts = 0  # or windows of texts
        self._early_exits = 0  # those among them that skipped layers

    def run(
        self, encoder: Encoder, tokens: Tokens, batch: NDArray[np.int64]
    ) -> list[tuple[NDArray[np.int64], Any]]:
        """Run one planned batch; return the parts that it ran in, each with its output."""
        results, waiting = [], [batch]
        while waiting:
            rows = waiting.pop(0)
            lengths = tokens.lengths[rows]
            size = int(lengths.sum())
            padded_size = encoder.pack_tokens or size
            if encoder.shape == "padded":
                padded_size = int(lengths.max()) * len(rows)
            if len(rows) > 1 and self._is_known_to_be_too_large(padded_size):
                waiting[:0] = halve(rows)
                continue
            exits = encoder.early_exits
            output = self._attempt(encoder, tokens.take(rows), lengths)
            if output is not None:
                results.append((rows, start_copy(output)))
                self._texts += len(rows)
                self._early_exits += encoder.early_exits - exits
                self.tokens += size
                self.padded_tokens += padded_size
                continue
            # Not in an except block, whose traceback would hold the failed batch's tensors.
            self.free()
            if encoder.pack_tokens is not None:
                raise self._no_memory(f"a pack of {encoder.pack_tokens:,} tokens", "--batch-tokens")
            if len(rows) == 1:
                raise self._no_memory(f"one text of {lengths[0]} tokens", "--max-length")
            self.backoffs += 1
            self.largest_batch_tokens = max(1, padded_size // 2)
            waiting[:0] = halve(rows)
        return results

    def run_alone(self, encoder: Encoder, tokens: Tokens, piece: np.int64) -> Any:
        """Run one text, or one window of it, by itself."""
        row = np.array([piece])
        lengths = tokens.lengths[row]
        output = self._attempt(encoder, tokens.take(row), lengths)
        if output is None:
            self.free()
            output = self._attempt(encoder, tokens.take(row), lengths)
        if output is None:
            raise self._no_memory(f"one text of {lengths[0]} tokens", "--max-length")
        return output

    def fetch(self, outputs: list[Any]) -> NDArray[np.float32]:
        """Copy outputs from the device, as one array; nothing is allocated there."""
        try:
            found = np.concatenate([output.cpu().numpy() for output in outputs])
            self.time.read()
        except (RuntimeError, MemoryError) as error:
            raise self._device_error(error) from error
        return found

    def free(self) -> None:
        """Give the memory that PyTorch holds free back to the device."""
        if self.device.kind == "cuda":
            import torch

            # A device that failed answers this too with an error: its own is raised by a pass.
            with suppress(RuntimeError):
                torch.cuda.empty_cache()

    def early_exit(self, rule: EarlyExit | None) -> dict[str, Any] | None:
        """Return the summary's section on a model's early exit; None where it has none."""
        if rule is None:
            return None
        return {
            "layer": rule.layer,
            "threshold": rule.threshold,
            "texts": self._texts,
            "exited": self._early_exits,
        }

    def peak_memory_bytes(self) -> int:
        """Return the peak of the device's memory; on a CPU, of the process."""
        if self.device.kind == "cuda":
            import torch

            return int(torch.cuda.max_memory_allocated(self.device.name))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # macOS counts bytes, Linux kilobytes.
        return peak if sys.platform == "darwin" else peak * 1024

    def _is_known_to_be_too_large(self, padded_tokens: int) -> bool:
        return self.largest_batch_tokens is not None and padded_tokens > self.largest_batch_tokens

    def _attempt(self, encoder: Encoder, ids: NDArray[np.int32], lengths: NDArray[np.int64]) -> Any:
        """Run an encoder once; None where memory ran out."""
        try:
            with self.time.batch():
                return encoder.probabilities(ids, lengths)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                return None
            raise self._device_error(error) from error

    def _device_error(self, error: Exception) -> Exception:
        """Translate an accelerator's error; on a CPU it is our mistake, or a lack of memory."""
        if self.device.kind == "cpu" and not lacks_memory(error):
            return error
        return device_error(
            self.device.description, error, "run the same command again: finished parts are kept"
        )

    def _no_memory(self, what: str, option: str) -> DeviceError:
        return DeviceError(
            f"{printable(self.device.description)} has no memory for {what}",
            hint=f"end other programs on it, lower {option}, or use --device cpu",
        )


def padding_share(*runners: BatchRunner) -> float:
    """Return the share of padding, and of filler, in all that was run."""
    padded = sum(runner.padded_tokens for runner in runners)
    return 1 - sum(runner.tokens for runner in runners) / padded if padded else 0.0
