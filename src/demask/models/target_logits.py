"""Logits only where a token is scored.

    nats_N, masked_N = score_targets(model, batch)

About half of a demasking example is prompt. The hidden states of its positions are dropped just
before the output layer, by a hook, so that the model's own forward (with its soft caps, scales,
adapters and wrappers) does all the rest. N scored tokens, B sequences, T positions, D width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from demask.errors import ModelError
from demask.models.packing import PACKED, packed_inputs, using_attention
from demask.objectives.batches import Batch
from demask.objectives.token_loss import token_nats
from demask.records import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Logits of a gathered row differ from those of the whole batch only by the order of sums;
# the largest difference seen on the embedded model in float32 was 5e-5.
_TOLERANCE = 1e-2


class TargetNats(NamedTuple):
    """The scored tokens of a batch, in row order."""

    nats_N: Tensor  # noqa: N815 (axes as a suffix); float32
    masked_N: Tensor  # noqa: N815 (the same); bool, not shown in the prompt


def score_targets(model: Any, batch: Batch, *, head_of: "PreTrainedModel") -> TargetNats:
    """Cross-entropy of every labelled token.

    Args:
        model: called for the logits; may be wrapped (DDP, FSDP, autocast).
        batch: packed, with the model's attention `PACKED`; or padded on the right, hence without
            attention mask.
        head_of: the same model unwrapped; knows its output layer.
    """
    predicting_N = batch["predicting"]
    with _only_at(head_of, predicting_N):
        inputs = packed_inputs(batch) if "position_ids" in batch else {"input_ids": batch["input_ids"]}
        logits_NV = model(**inputs, use_cache=False).logits
    labels_N, masked_N = (batch[key].flatten()[predicting_N + 1] for key in ("labels", "masked"))
    return TargetNats(token_nats(logits_NV, labels_N), masked_N)


@contextmanager
def _only_at(model: "PreTrainedModel", places_N: Tensor) -> Iterator[None]:
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(
        lambda _, inputs: (inputs[0].flatten(0, 1).index_select(0, places_N), *inputs[1:])
    )
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def check_target_logits(model: "PreTrainedModel", batch: Batch) -> None:
    """Compare with the logits of all positions, once, before training.

    Raises:
        ModelError: this architecture does something after its output layer that needs all positions.
    """
    labels_BT = batch["labels"][:, 1:]
    scored_BT = labels_BT != IGNORE_INDEX
    logits_BTV = model(input_ids=batch["input_ids"], use_cache=False).logits[:, :-1]
    expected = token_nats(logits_BTV[scored_BT], labels_BT[scored_BT])
    problem = ModelError(
        f"{type(model).__name__}: its logits cannot be computed for the scored positions alone; "
        "please report this architecture"
    )
    try:
        found = score_targets(model, batch, head_of=model).nats_N
    except (AttributeError, IndexError, ValueError) as error:  # no output layer, or one that is not called
        raise problem from error
    if found.shape != expected.shape or (found - expected).abs().max() > _TOLERANCE:
        raise problem


@torch.no_grad()
def packing_is_exact(model: "PreTrainedModel", packed: Batch, padded: Batch, *, tolerance: float) -> bool:
    """Whether a model scores examples in one row as it does each in a row of its own.

    It does not when something but its attention mixes positions, or when its attention does more than
    ours; then examples must be padded.

    Args:
        model: with the attention it came with.
        packed: some examples, two at least.
        padded: the same examples.
        tolerance: largest difference in nats per token.
    """
    expected = score_targets(model, padded, head_of=model).nats_N
    try:
        with using_attention(model, PACKED):
            found = score_targets(model, packed, head_of=model).nats_N
    except (RuntimeError, TypeError, ValueError):  # an argument that this architecture does not know
        return False
    return bool((found - expected).abs().max() <= tolerance)
