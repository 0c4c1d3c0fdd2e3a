"""Ask a causal language model: greedy, in batches of like length, until the end of turn.

    texts = generate_texts(loaded, prompts, max_new_tokens=128, batch_size=40)

Greedy decoding is deterministic: the same weights and prompts give the same words.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from demask.models.load import LoadedModel


@dataclass(frozen=True)
class Generated:
    """The continuation of one prompt; `stopped` is False when the limit of tokens cut it short."""

    text: str
    tokens: int
    seconds: float
    stopped: bool


def generate_texts(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Generated]:
    """Continue every prompt, in the order given.

    Args:
        loaded: the model with its tokenizer.
        prompts: token ids, the template's own tokens included.
        max_new_tokens: after which a text is cut short.
        batch_size: prompts decoded together, longest first, so that memory runs out at once or never.
        on_done: told how many prompts a finished batch had.
    """
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    done: dict[int, Generated] = {}
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        begun = time.monotonic()
        rows = _decode(loaded, [prompts[index] for index in batch], max_new_tokens)
        share = (time.monotonic() - begun) / len(batch)
        for index, ids in zip(batch, rows, strict=True):
            done[index] = _finish(loaded, ids, share)
        on_done(len(batch))
    return [done[index] for index in range(len(prompts))]


@torch.inference_mode()
def _decode(loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
    """New token ids of each prompt, what follows the end of turn included."""
    from transformers import GenerationConfig

    length = max(len(prompt) for prompt in prompts)
    pad = loaded.pad_id
    ids = torch.tensor([[*[pad] * (length - len(p)), *p] for p in prompts], device=loaded.device)
    mask = torch.tensor([[*[0] * (length - len(p)), *[1] * len(p)] for p in prompts], device=loaded.device)
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=_stop_ids(loaded), pad_token_id=pad
    )
    model: Any = loaded.model
    with _without_habits(model):
        out = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
    return [list(map(int, row)) for row in out[:, length:]]


@contextmanager
def _without_habits(model: torch.nn.Module) -> Iterator[None]:
    """Put the checkpoint's own decoding settings aside.

    `generate` fills what its settings leave open from them, and they may punish the repetition of
    facts (Qwen2.5: `repetition_penalty`). An adapter's model has them inside.
    """
    from transformers import GenerationConfig

    parts: list[Any] = [part for part in model.modules() if "generation_config" in vars(part)]
    habits = [part.generation_config for part in parts]
    for part in parts:
        part.generation_config = GenerationConfig()
    try:
        yield
    finally:
        for part, own in zip(parts, habits, strict=True):
            part.generation_config = own


def _stop_ids(loaded: LoadedModel) -> list[int]:
    eos = loaded.tokenizer.eos_token_id
    return sorted({loaded.chat.end[-1]} | ({int(eos)} if isinstance(eos, int) else set()))


def _finish(loaded: LoadedModel, ids: Sequence[int], seconds: float) -> Generated:
    stops = _stop_ids(loaded)
    end = next((place for place, token in enumerate(ids) if token in stops), None)
    words = ids if end is None else ids[:end]
    text = str(loaded.tokenizer.decode(list(words), skip_special_tokens=True)).strip()
    return Generated(text, len(words) + (end is not None), seconds, end is not None)
