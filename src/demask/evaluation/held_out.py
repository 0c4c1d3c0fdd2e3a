"""The loss of answers that were not trained on, to choose settings by.

loss = measure_loss(loaded, examples, bf16=False, on_done=progress.advance)
"""

from collections.abc import Callable, Iterator, Sequence

import torch

from demask.models.acceleration.target_logits import score_targets
from demask.models.load import LoadedModel
from demask.objectives.batches import move_batch, pad
from demask.records import Example

# Positions that are scored at once, padding included; as a micro-batch of training on CPU.
_POSITIONS = 2048


@torch.no_grad()
def measure_loss(
    loaded: LoadedModel,
    examples: Sequence[Example],
    *,
    bf16: bool,
    on_done: Callable[[int], None] = lambda parts: None,
) -> float:
    """Mean cross-entropy over all scored tokens, in nats.

    Args:
        loaded: the model, with the attention it came with.
        examples: at least one, with at least one scored token.
        bf16: of the matmuls, as in training.
        on_done: told of every batch, how many examples it had.
    """
    nats, tokens = 0.0, 0
    for batch in _in_batches(examples):
        rows = move_batch(pad(batch, pad_id=loaded.pad_id), loaded.device)
        with torch.autocast(loaded.device.type, torch.bfloat16, enabled=bf16):
            nats_N = score_targets(loaded.model, rows, head_of=loaded.model).nats_N
        nats, tokens = nats + float(nats_N.double().sum()), tokens + nats_N.numel()
        on_done(len(batch))
    return nats / tokens


def _in_batches(examples: Sequence[Example]) -> Iterator[list[Example]]:
    """All of them, longest first, as many at once as fit."""
    batch: list[Example] = []
    for example in sorted(examples, key=lambda example: len(example.token_ids), reverse=True):
        if batch and len(batch[0].token_ids) * (len(batch) + 1) > _POSITIONS:
            yield batch
            batch = []
        batch.append(example)
    yield batch
