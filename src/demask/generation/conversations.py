"""What a model says when nobody teaches it, with its targets: its likeliest tokens at every place.

    for talk, logp_NV in score_replies(loaded, talks): ...
    kept = add_targets(base, talks)

Drift is measured on such conversations, and training can replay them. The targets are kept, not the model, so
that only one model is in memory.

N tokens of a reply, K targets, V vocabulary.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from demask.losses.kl_to_base import TopTargets
from demask.models.acceleration.target_logits import predict_at
from demask.models.gated import behind_gate, which_open
from demask.models.load import LoadedModel
from demask.objectives.batches import move_batch, pad
from demask.records import IGNORE_INDEX, Example

TOP_K = 64
# Scored positions that go through the model together: their logits over a vocabulary of 150,000 take 0.6 GB.
_POSITIONS = 1024


@dataclass(frozen=True)
class Conversation:
    """A prompt, and what the base model said to it.

    Attributes:
        id: unique among those that are kept together.
        prompt: token ids up to the reply.
        reply: token ids that the base model drew.
        top_ids: (N, K) int32, its likeliest tokens at every place of the reply; None: not computed yet.
        top_logp: (N, K) float32, their log-probabilities.
        reply_logp: (N,) float32, the log-probability of the reply's own tokens.
    """

    id: str
    prompt: tuple[int, ...]
    reply: tuple[int, ...]
    top_ids: Tensor | None = None
    top_logp: Tensor | None = None
    reply_logp: Tensor | None = None


def add_targets(base: LoadedModel, conversations: Sequence[Conversation]) -> list[Conversation]:
    """The same conversations with the base model's likeliest tokens at every place of the reply."""
    made = []
    for conversation, logp_NV in score_replies(base, conversations):
        top = logp_NV.topk(min(TOP_K, logp_NV.shape[1]), dim=1)
        made.append(
            replace(
                conversation,
                top_ids=top.indices.int().cpu(),
                top_logp=top.values.float().cpu(),
                reply_logp=at_reply(logp_NV, conversation).float().cpu(),
            )
        )
    return made


def at_reply(logp_NV: Tensor, conversation: Conversation) -> Tensor:
    """The log-probabilities of the tokens that the reply has, (N,)."""
    return logp_NV.gather(1, torch.tensor(conversation.reply, device=logp_NV.device)[:, None])[:, 0]


def top_targets(conversation: Conversation) -> TopTargets:
    """The targets of a conversation that has some."""
    assert conversation.top_ids is not None
    assert conversation.top_logp is not None
    assert conversation.reply_logp is not None
    return TopTargets(conversation.top_ids.long(), conversation.top_logp, conversation.reply_logp)


@torch.no_grad()
def score_replies(
    loaded: LoadedModel, conversations: Sequence[Conversation]
) -> Iterator[tuple[Conversation, Tensor]]:
    """Log-probabilities at every place of each reply, (N, V) float32.

    In the order given; behind a gate first those of the base model, whose prompts leave it shut.
    """
    opened = which_open(loaded, [one.prompt for one in conversations])
    for is_open in sorted(set(opened)):
        asked = [one for one, here in zip(conversations, opened, strict=True) if here == is_open]
        with behind_gate(loaded, is_open=is_open):
            yield from _score(loaded, asked)


def _score(
    loaded: LoadedModel, conversations: Sequence[Conversation]
) -> Iterator[tuple[Conversation, Tensor]]:
    for batch in _in_batches(conversations):
        rows = move_batch(pad([as_example(one) for one in batch], pad_id=loaded.pad_id), loaded.device)
        logits_NV = predict_at(
            loaded.model, {"input_ids": rows["input_ids"]}, rows["predicting"], head_of=loaded.model
        )
        logp_NV = logits_NV.float().log_softmax(dim=1)
        parts = torch.split(logp_NV, [len(one.reply) for one in batch])
        yield from zip(batch, parts, strict=True)


def _in_batches(conversations: Sequence[Conversation]) -> Iterator[list[Conversation]]:
    batch: list[Conversation] = []
    for conversation in conversations:
        longest = max([len(one.prompt) + len(one.reply) for one in [*batch, conversation]])
        if batch and longest * (len(batch) + 1) > 2 * _POSITIONS:
            yield batch
            batch = []
        batch.append(conversation)
    if batch:
        yield batch


def as_example(conversation: Conversation, *, id: str | None = None, row: int | None = None) -> Example:
    """A prompt with the reply as what is predicted.

    Args:
        conversation: what was said.
        id: of the example; None: the conversation's.
        row: of the reply's first token among targets; then the example is replayed. None: it has no targets.
    """
    prompt, reply = conversation.prompt, conversation.reply
    return Example(
        id=id or conversation.id,
        token_ids=(*prompt, *reply),
        labels=(*[IGNORE_INDEX] * len(prompt), *reply),
        masked=(*[False] * len(prompt), *[True] * len(reply)),
        source="document" if row is None else "replay",
        row=row,
    )


# Of a conversation with targets, as its tensors are named in a file.
_TARGETS = ("ids", "logp", "reply-logp")


def as_tensors(conversations: Iterable[Conversation]) -> dict[str, Tensor]:
    """Conversations with targets as named tensors, for one file of safetensors."""
    tensors = {}
    for talk in conversations:
        tensors[f"{talk.id}.prompt"] = torch.tensor(talk.prompt, dtype=torch.int32)
        tensors[f"{talk.id}.reply"] = torch.tensor(talk.reply, dtype=torch.int32)
        for name, tensor in zip(_TARGETS, (talk.top_ids, talk.top_logp, talk.reply_logp), strict=True):
            assert tensor is not None, "kept conversations have targets"
            tensors[f"{talk.id}.{name}"] = tensor.contiguous()
    return tensors


def from_tensors(tensors: Mapping[str, Tensor]) -> list[Conversation]:
    """What `as_tensors` made, in the order of their ids; other tensors are left alone.

    Raises:
        KeyError: a part of a conversation is missing.
    """
    ids = [id for id, _, part in (key.rpartition(".") for key in tensors) if part == "reply"]
    return [
        Conversation(
            id,
            tuple(tensors[f"{id}.prompt"].tolist()),
            tuple(tensors[f"{id}.reply"].tolist()),
            *(tensors[f"{id}.{name}"] for name in _TARGETS),
        )
        for id in sorted(ids)
    ]
