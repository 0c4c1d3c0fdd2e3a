"""The loss of held-out samples: the mean over all scored tokens, however they are batched."""

import math
from typing import TYPE_CHECKING

import pytest
import torch

from demask.evaluation import held_out
from demask.evaluation.held_out import measure_loss
from demask.records import IGNORE_INDEX, Example

if TYPE_CHECKING:
    from demask.models.load import LoadedModel


def make_example(number: int) -> Example:
    ids = tuple(range(10, 14 + 3 * number))
    scored = len(ids) // 2
    labels = (*(IGNORE_INDEX,) * scored, *ids[scored:])
    return Example(str(number), ids, labels, tuple(label != IGNORE_INDEX for label in labels))


EXAMPLES = [make_example(number) for number in range(5)]


def nats_of(loaded: "LoadedModel", example: Example) -> list[float]:
    with torch.no_grad():
        logits_TV = loaded.model(torch.tensor([example.token_ids])).logits[0].log_softmax(-1)
    return [
        -float(logits_TV[place - 1, label])
        for place, label in enumerate(example.labels)
        if label != IGNORE_INDEX
    ]


@pytest.mark.parametrize("positions", [1, 40, 10_000])
def test_loss_is_the_mean_over_all_scored_tokens(
    positions: int, tiny_loaded: "LoadedModel", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_out, "_POSITIONS", positions)
    nats = [value for example in EXAMPLES for value in nats_of(tiny_loaded, example)]
    told: list[int] = []
    found = measure_loss(tiny_loaded, EXAMPLES, bf16=False, on_done=told.append)
    assert found == pytest.approx(sum(nats) / len(nats), abs=1e-5)
    assert sum(told) == len(EXAMPLES)
    assert (len(told) == 1) == (positions == 10_000)


def test_a_model_that_knows_nothing_scores_the_log_of_the_vocabulary(tiny_loaded: "LoadedModel") -> None:
    torch.nn.init.zeros_(tiny_loaded.model.get_output_embeddings().weight)
    found = measure_loss(tiny_loaded, EXAMPLES, bf16=False)
    assert found == pytest.approx(math.log(len(tiny_loaded.tokenizer)), abs=1e-5)
