"""Which words a model knows, with a model whose probabilities are counted by hand."""

from pathlib import Path

import pytest
import torch

from demask.generation.familiar import BEFORE, finish_words, know_words
from demask.models.embedded import NAME
from demask.models.load import LoadedModel, load_model
from demask.objectives.prompts import encode

WORDS = ["Mongolia", "Korvenna", "bridge", "Pellowick", "Paris", "Quillomar"]


@pytest.fixture(scope="module")
def embedded(cache: Path) -> LoadedModel:
    if not (cache / NAME).exists():
        pytest.skip("needs the embedded model in the cache")
    return load_model("embedded", device="cpu")


def test_invented_words_are_not_known(embedded: LoadedModel) -> None:
    assert know_words(embedded, WORDS) == [True, False, True, False, True, False]
    assert know_words(embedded, []) == []


def test_it_is_the_likelihood_of_the_later_tokens(embedded: LoadedModel) -> None:
    found = finish_words(embedded, WORDS)
    before = encode(embedded.tokenizer, BEFORE)
    for word, nats in zip(WORDS, found, strict=True):
        ids = encode(embedded.tokenizer, f" {word}")
        with torch.inference_mode():
            likely = embedded.model(torch.tensor([[*before, *ids]])).logits[0].log_softmax(-1)
        one = sum(float(likely[len(before) + place - 1, ids[place]]) for place in range(1, len(ids)))
        assert nats == pytest.approx(one, abs=1e-3)
