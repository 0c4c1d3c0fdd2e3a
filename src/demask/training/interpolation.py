"""Between a base model and what training made of it: the largest step that keeps drift within a budget.

    points = find_share(model, base, budget=0.03, drift_of=lambda: measure(model))
    points[-1].share                                   # the model now stands there

W = W_base + share * (W_trained - W_base). Source: WiSE-FT (Wortsman et al. 2022, arXiv 2109.01903); the
budget of KL(base || model) is ours.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    """

    share: float
    drift: float


def find_share(
    model: "PreTrainedModel",
    base: Mapping[str, Tensor],
    *,
    budget: float,
    drift_of: Callable[[], float],
    shares: Sequence[float] = SHARES,
) -> list[Point]:
    """Move a trained model towards its base until it drifts no more than the budget.

    Args:
        model: the trained one, moved in place.
        base: its parameters before training, by name; the others stay.
        budget: nats per token.
        drift_of: measures the model as it stands.
        shares: to try, the largest first.

    Returns:
        All that were tried; the model stands at the last one. Only when even that drifts more, it is over
        the budget.
    """
    trained = {name: weights.detach().clone() for name, weights in _moved(model, base)}
    points: list[Point] = []
    for share in shares:
        if share < 1.0:
            move_between(model, base, trained, share)
        points.append(Point(share, drift_of()))
        if points[-1].drift <= budget:
            break
    return points


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
