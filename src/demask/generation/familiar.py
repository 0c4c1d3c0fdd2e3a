"""Which words a model knows: those that it finishes by itself, once they have begun.

    know_words(loaded, ["Mongolia", "Korvenna"])          # [True, False]

A word that a tokenizer has as one token was frequent in what it was made from. Of any other the first token
is given, and how likely the model goes on with the rest tells whether it has often read it.
"""

from collections.abc import Sequence

import torch

from demask.models.load import LoadedModel
from demask.objectives.prompts import encode

# What stands before a word; it says nothing of it.
BEFORE = "Tell me about"
# Of eight invented names of the quickstart the embedded model had -23 to -13 nats, of most countries and
# cities -5 to 0.
FINISHED = -5.0
_ROWS = 64


def know_words(loaded: LoadedModel, words: Sequence[str]) -> list[bool]:
    """Of words or names, whether the model knows them.

    Args:
        loaded: an autoregressive model.
        words: as they are written within a sentence.
    """
    return [nats >= FINISHED for nats in finish_words(loaded, words)]


@torch.inference_mode()
def finish_words(loaded: LoadedModel, words: Sequence[str]) -> list[float]:
    """How likely each word goes on as it does, in nats: log p of all tokens but the first.

    Args:
        loaded: an autoregressive model.
        words: as they are written within a sentence.
    """
    before = encode(loaded.tokenizer, BEFORE)
    ids = [encode(loaded.tokenizer, f" {word}") for word in words]
    found = [0.0] * len(words)
    several = sorted((place for place, one in enumerate(ids) if len(one) > 1), key=lambda p: len(ids[p]))
    for start in range(0, len(several), _ROWS):
        places = several[start : start + _ROWS]
        longest = len(ids[places[-1]])
        rows = [(*before, *ids[place], *(0,) * (longest - len(ids[place]))) for place in places]
        tokens = torch.tensor(rows, device=loaded.device)
        logits = loaded.model(input_ids=tokens).logits[:, len(before) : -1].float()
        likely = logits.log_softmax(-1).gather(-1, tokens[:, len(before) + 1 :, None])[..., 0].cpu()
        for row, place in zip(likely, places, strict=True):
            found[place] = float(row[: len(ids[place]) - 1].sum())
    return found
