"""Between a base model and what training made of it: the largest step that keeps drift within a budget.

    points = find_share(model, base, budget=0.03, drift_of=lambda: measure(model))
    points[-1].share                                   # the model now stands there

W = W_base + share * (W_trained - W_base). Source: WiSE-FT (Wortsman et al. 2022, arXiv 2109.01903); the
budget of KL(base || model) is ours.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Of the way from the base to the trained model, the largest first.
SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


@dataclass(frozen=True)
class Point:
    """A model on the way from the base to what was trained.

    Attributes:
        share: of the way.
        drift: nats per token, on conversations that are neither trained on nor asked about.
        accuracy: by direction, as in `summary.json`; None: it was not asked there.
    """

    share: float
    drift: float
    accuracy: Mapping[str, Any] | None = None


def find_share(
    model: "PreTrainedModel",
    base: Mapping[str, Tensor],
    *,
    budget: float,
    drift_of: Callable[[], float],
    shares: Sequence[float] = SHARES,
    halvings: int = 0,
    trained: Mapping[str, Tensor] | None = None,
) -> list[Point]:
    """Move a trained model towards its base until it drifts no more than the budget.

    Args:
        model: the trained one, moved in place.
        base: its parameters before training, by name; the others stay.
        budget: nats per token.
        drift_of: measures the model as it stands.
        shares: to try, the largest first.
        halvings: of the distance between the share that is kept and the next larger one.
        trained: a copy of the parameters after training; None: made here.

    Returns:
        All that were tried; the model stands at the last one. Only when even that drifts more, it is over
        the budget.
    """
    trained = copy_weights(model, base) if trained is None else trained
    points: list[Point] = []
    for share in shares:
        if share < 1.0:
            move_between(model, base, trained, share)
        points.append(Point(share, drift_of()))
        if points[-1].drift <= budget:
            break
    kept, above = points[-1], points[-2].share if len(points) > 1 else points[-1].share
    for _ in range(halvings if kept.drift <= budget < points[0].drift else 0):
        share = (kept.share + above) / 2
        move_between(model, base, trained, share)
        point = Point(share, drift_of())
        points.append(point)
        kept, above = (point, above) if point.drift <= budget else (kept, share)
    if points[-1] is not kept:
        move_between(model, base, trained, kept.share)
    return [*(point for point in points if point is not kept), kept]


def copy_weights(model: "PreTrainedModel", base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters that are moved, as they are now."""
    return {name: weights.detach().clone() for name, weights in _moved(model, base)}


@torch.no_grad()
def move_between(
    model: "PreTrainedModel", base: Mapping[str, Tensor], trained: Mapping[str, Tensor], share: float
) -> None:
    """Put the model on the way from `base` (share 0) to `trained` (share 1)."""
    for name, weights in _moved(model, base):
        start = base[name].to(weights.device, torch.float32)
        weights.copy_(start + share * (trained[name].float() - start))


def _moved(model: "PreTrainedModel", base: Mapping[str, Tensor]) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, weights) for name, weights in model.named_parameters() if name in base]
