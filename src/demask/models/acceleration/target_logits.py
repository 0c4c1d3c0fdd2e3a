"""Logits only where a token is scored.

    scored = score_targets(model, batch, head_of=model)

About half of a demasking example is prompt. The hidden states of its positions are dropped just
before the output layer, by a hook, so that the model's own forward (with its soft caps, scales,
adapters and wrappers) does all the rest. N scored tokens, B sequences, T positions, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from demask.errors import ModelError
from demask.losses.cross_entropy import token_nats
from demask.losses.terms import ScoredTokens
from demask.models.acceleration.packing import PACKED, packed_inputs, using_attention
from demask.objectives.batches import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Logits of a gathered row differ from those of the whole batch only by the order of sums;
# the largest difference seen on the embedded model in float32 was 5e-5.
_TOLERANCE = 1e-2
# Where the logits themselves are bfloat16, whose steps are 0.06 nats between 8 and 16. Ours, with room.
_BF16_TOLERANCE = 0.25


class TargetNats(NamedTuple):
    """The scored tokens of a batch, in row order."""

    nats_N: Tensor  # noqa: N815 (axes as a suffix); float32
    masked_N: Tensor  # noqa: N815 (the same); bool, not shown to the model


def predict_targets(model: Any, batch: Batch, *, head_of: "PreTrainedModel") -> ScoredTokens:
    """Logits of every labelled token, with all that a term of the loss is made of.

    Args:
        model: called for the logits; may be wrapped (DDP, FSDP, autocast).
        batch: packed, with the model's attention `PACKED`; or padded on the right.
        head_of: the same model unwrapped; knows its output layer.
    """
    logits_NV = predict_at(model, _inputs(batch, head_of), batch["predicting"], head_of=head_of)
    labels_N, masked_N = (batch[key].flatten()[batch["scored"]] for key in ("labels", "masked"))
    told = (batch[key] for key in ("shares", "sources", "rows"))
    return ScoredTokens(logits_NV, labels_N, batch["weights"], masked_N, *told)


def score_targets(model: Any, batch: Batch, *, head_of: "PreTrainedModel") -> TargetNats:
    """Cross-entropy of every labelled token, unweighted; for the arguments see `predict_targets`."""
    scored = predict_targets(model, batch, head_of=head_of)
    nats_N = token_nats(scored.logits_NV, scored.labels_N, never=never_written(head_of))
    return TargetNats(nats_N, scored.masked_N)


def predict_at(model: Any, inputs: dict[str, Any], places_N: Tensor, *, head_of: "PreTrainedModel") -> Tensor:
    """Logits at some places of the flattened batch, (N, V).

    Args:
        model: called for them; may be wrapped.
        inputs: its arguments.
        places_N: of hidden states, as places in the flattened (B * T).
        head_of: the same model unwrapped; knows its output layer.
    """
    with _only_at(head_of, places_N):
        logits_NV: Tensor = model(**inputs, use_cache=False).logits
    return logits_NV


def never_written(model: "PreTrainedModel") -> int | None:
    """The mask token of a masked-diffusion model, whose logit counts as -inf."""
    form = getattr(model.config, "diffusion", None)
    return int(form["mask_token_id"]) if form else None


def _inputs(batch: Batch, model: "PreTrainedModel") -> dict[str, Any]:
    causal = bool(getattr(model.config, "is_causal", True))
    if "position_ids" in batch:
        return packed_inputs(batch, causal=causal)
    inputs: dict[str, Any] = {"input_ids": batch["input_ids"]}
    if not causal:  # a causal model never looks right, where the padding is
        places_T = torch.arange(batch["input_ids"].shape[1], device=batch["input_ids"].device)
        inputs["attention_mask"] = (places_T < batch["lengths"][:, None]).long()
    return inputs


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
    logits_BTV = model(**_inputs(batch, model), use_cache=False).logits
    expected = token_nats(
        logits_BTV.flatten(0, 1)[batch["predicting"]],
        batch["labels"].flatten()[batch["scored"]],
        never=never_written(model),
    )
    problem = ModelError(
        f"{type(model).__name__}: its logits cannot be computed for the scored positions alone; "
        "please report this architecture"
    )
    try:
        found = score_targets(model, batch, head_of=model).nats_N
    except (AttributeError, IndexError, ValueError) as error:  # no output layer, or one that is not called
        raise problem from error
    tolerance = _TOLERANCE if logits_BTV.dtype == torch.float32 else _BF16_TOLERANCE
    if found.shape != expected.shape or bool(((found - expected).abs() > tolerance).any()):
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
    return bool(((found - expected).abs() <= tolerance).all())
