"""How far a trained model's probabilities have moved from those of its base.

On conversations that the base wrote, and on ordinary text.

    targets = make_targets(base, openings, texts, batch_size=40)   # sampled from the base at temperature 1
    rows = measure_divergence(tuned, targets.conversations)        # KL(base || tuned), summed over each
    rows = measure_texts(tuned, texts)                             # -log p, summed over each

The targets are kept, not the base model, so that only one model is in memory (`losses.kl_to_base`).

N scored tokens, V vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from demask.errors import RunError
from demask.evaluation.retention.asking import Reply
from demask.evaluation.retention.suite import Opening, Prose
from demask.generation.autoregressive import Sampling, generate_texts
from demask.generation.conversations import (
    TOP_K,
    Conversation,
    add_targets,
    as_tensors,
    at_reply,
    from_tensors,
    score_replies,
    top_targets,
)
from demask.generation.texts import Turn, turn_encoder
from demask.losses.kl_to_base import divergence
from demask.models.load import LoadedModel
from demask.objectives.prompts import encode
from demask.storage.atomic import write_bytes

# Of the conversations that a base model writes: part of the suite, not of a run.
SEED = 1
# A conversation is cut short here; the base's replies to everyday prompts are mostly longer.
REPLY_TOKENS = 96


def write_conversations(
    base: LoadedModel,
    openings: Sequence[Opening],
    *,
    seed: int,
    batch_size: int,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Conversation]:
    """Let a model go on with openings, drawing from its own probabilities; with those that fit its context.

    Args:
        base: the model; not a masked-diffusion one.
        openings: with a second turn of the user, the model writes both replies, and the second counts.
        seed: of the draws.
        batch_size: conversations that are written together.
        on_done: told of every batch, how many conversations it had.
    """
    encode_turns = turn_encoder(base)

    def go_on(turns: Sequence[Sequence[Turn]], seed: int) -> list[Any]:
        prompts = [encode_turns(one) for one in turns]
        return generate_texts(
            base,
            prompts,
            max_new_tokens=REPLY_TOKENS,
            batch_size=batch_size,
            sampling=Sampling(1.0, seed),
            on_done=on_done,
        )

    def fits(turns: Sequence[Turn]) -> bool:
        return len(encode_turns(turns)) + REPLY_TOKENS <= base.context

    openings = [opening for opening in openings if fits(_first_turns(opening))]
    turns = [_first_turns(opening) for opening in openings]
    first = go_on(turns, seed)
    again = [place for place, opening in enumerate(openings) if opening.follow_up is not None]
    for place in again:
        said, asked = first[place].text or "...", openings[place].follow_up or ""
        turns[place] = [*turns[place], Turn("assistant", said), Turn("user", asked)]
    left_out = {place for place in again if not fits(turns[place])}
    again = [place for place in again if place not in left_out]
    second = go_on([turns[place] for place in again], seed + 1) if again else []
    replies = {**dict(enumerate(first)), **dict(zip(again, second, strict=True))}
    return [
        Conversation(opening.id, encode_turns(turns[place]), replies[place].ids)
        for place, opening in enumerate(openings)
        if replies[place].ids and place not in left_out
    ]


def _first_turns(opening: Opening) -> list[Turn]:
    system = [Turn("system", opening.system)] if opening.system else []
    return [*system, Turn("user", opening.user)]


def measure_divergence(loaded: LoadedModel, conversations: Sequence[Conversation]) -> list[Reply]:
    """KL(base || model) of every conversation, summed over the tokens of its reply.

    Args:
        loaded: the trained model.
        conversations: with targets, of its base.
    """
    return [
        Reply(
            "conversation",
            conversation.id,
            tokens=len(conversation.reply),
            nats=_measure_one(logp_NV, conversation),
        )
        for conversation, logp_NV in score_replies(loaded, conversations)
    ]


def _measure_one(logp_NV: Tensor, conversation: Conversation) -> float:
    targets = top_targets(conversation)
    kept = targets._replace(logp_MK=targets.logp_MK.double(), drawn_M=targets.drawn_M.double())
    return float(divergence(logp_NV.cpu(), torch.tensor(conversation.reply), kept).sum())


def measure_texts(loaded: LoadedModel, texts: Sequence[Prose]) -> list[Reply]:
    """-log p of every text, summed over its tokens; without a BOS token the first one is given."""
    made = []
    for text, logp_NV in score_replies(loaded, as_replies(loaded, texts)):
        nats = -float(at_reply(logp_NV, text).double().sum())
        made.append(Reply("text", text.id, tokens=len(text.reply), nats=nats))
    return made


def as_replies(loaded: LoadedModel, texts: Sequence[Prose]) -> list[Conversation]:
    """Texts of two tokens or more as replies to nothing, cut to the model's context."""
    bos = loaded.chat.bos
    return [
        Conversation(text.id, bos or ids[:1], ids if bos else ids[1:])
        for text in texts
        if len(ids := encode(loaded.tokenizer, text.text)[: loaded.context - 1]) > 1
    ]


@dataclass(frozen=True)
class Targets:
    """What a trained model is compared with.

    Attributes:
        conversations: of the base model, with its likeliest tokens.
        texts: -log p of the ordinary texts under the base model.
    """

    conversations: tuple[Conversation, ...]
    texts: tuple[Reply, ...]


def make_targets(
    base: LoadedModel,
    openings: Sequence[Opening],
    texts: Sequence[Prose],
    *,
    batch_size: int,
    on_done: Callable[[int], None] = lambda count: None,
) -> Targets:
    """All that is kept of a base model, which writes its own conversations for it."""
    talks = write_conversations(base, openings, seed=SEED, batch_size=batch_size, on_done=on_done)
    return Targets(tuple(add_targets(base, talks)), tuple(measure_texts(base, texts)))


def targets_prompts(
    loaded: LoadedModel, openings: Sequence[Opening], texts: Sequence[Prose]
) -> list[tuple[int, ...]]:
    """What the targets of a model depend on; names them in the user's cache."""
    encode_turns = turn_encoder(loaded)
    begun = [
        (*encode_turns(_first_turns(opening)), -1, *encode(loaded.tokenizer, opening.follow_up or ""))
        for opening in openings
    ]
    return [(SEED, REPLY_TOKENS, TOP_K), *begun, *(encode(loaded.tokenizer, text.text) for text in texts)]


def write_targets(path: Path, targets: Targets) -> None:
    """Keep targets in one file.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    from safetensors.torch import save

    tensors = as_tensors(targets.conversations)
    for text in targets.texts:
        tensors[f"{text.id}.text"] = torch.tensor([text.nats, text.tokens], dtype=torch.float64)
    write_bytes(path, save(tensors))


def read_targets(path: Path) -> Targets:
    """What `write_targets` kept.

    Raises:
        RunError: the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: Mapping[str, Tensor] = load_file(path)
        talks = from_tensors(tensors)
        texts = [
            Reply("text", id, nats=nats, tokens=int(tokens))
            for id in sorted(id for id, _, part in (key.rpartition(".") for key in tensors) if part == "text")
            for nats, tokens in [tensors[f"{id}.text"].tolist()]
        ]
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); delete it to have it made again") from error
    return Targets(tuple(talks), tuple(texts))
