"""How far a trained model's probabilities have moved from those of its base.

On conversations that the base wrote, and on ordinary text.

    targets = make_targets(base, openings, texts, batch_size=40)   # sampled from the base at temperature 1
    rows = measure_divergence(tuned, targets.conversations)        # KL(base || tuned), summed over each
    rows = measure_texts(tuned, texts)                             # -log p, summed over each

The targets are kept, not the base model, so that only one model is in memory. The part of the divergence that
they leave out is estimated from the conversations, which were drawn from the base: without bias, as
each token that is none of the likeliest stands for its kind in proportion. To count all of those as one
token would be a lower bound, 12% too low on the embedded model whether it had drifted by 0.09 or by 3.5 nats.

B conversations, N scored tokens, K targets, V vocabulary.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from demask.errors import RunError
from demask.evaluation.retention.asking import Reply, turn_encoder
from demask.evaluation.retention.probes import Turn
from demask.evaluation.retention.suite import Opening, Prose
from demask.generation.autoregressive import Sampling, generate_texts
from demask.models.acceleration.target_logits import predict_at
from demask.models.load import LoadedModel
from demask.objectives.batches import move_batch, pad
from demask.objectives.prompts import encode
from demask.records import IGNORE_INDEX, Example
from demask.storage.atomic import write_bytes

TOP_K = 64
# Of the conversations that a base model writes: part of the suite, not of a run.
SEED = 1
# A conversation is cut short here; the base's replies to everyday prompts are mostly longer.
REPLY_TOKENS = 96
# Scored positions that go through the model together: their logits over a vocabulary of 150,000 take 0.6 GB.
_POSITIONS = 1024


@dataclass(frozen=True)
class Conversation:
    """A prompt, and what the base model said to it.

    Attributes:
        id: of its opening.
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


def write_conversations(
    base: LoadedModel,
    openings: Sequence[Opening],
    *,
    seed: int,
    batch_size: int,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Conversation]:
    """Let a model go on with openings, drawing from its own probabilities.

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

    turns = [_first_turns(opening) for opening in openings]
    first = go_on(turns, seed)
    again = [place for place, opening in enumerate(openings) if opening.follow_up is not None]
    for place in again:
        said, asked = first[place].text or "...", openings[place].follow_up or ""
        turns[place] = [*turns[place], Turn("assistant", said), Turn("user", asked)]
    second = go_on([turns[place] for place in again], seed + 1) if again else []
    replies = {**dict(enumerate(first)), **dict(zip(again, second, strict=True))}
    return [
        Conversation(opening.id, encode_turns(turns[place]), replies[place].ids)
        for place, opening in enumerate(openings)
        if replies[place].ids
    ]


def _first_turns(opening: Opening) -> list[Turn]:
    system = [Turn("system", opening.system)] if opening.system else []
    return [*system, Turn("user", opening.user)]


def add_targets(base: LoadedModel, conversations: Sequence[Conversation]) -> list[Conversation]:
    """The same conversations with the base model's likeliest tokens at every place of the reply."""
    made = []
    for conversation, logp_NV in _score_replies(base, conversations):
        top = logp_NV.topk(min(TOP_K, logp_NV.shape[1]), dim=1)
        made.append(
            replace(
                conversation,
                top_ids=top.indices.int().cpu(),
                top_logp=top.values.float().cpu(),
                reply_logp=_at_reply(logp_NV, conversation).float().cpu(),
            )
        )
    return made


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
        for conversation, logp_NV in _score_replies(loaded, conversations)
    ]


def _at_reply(logp_NV: Tensor, conversation: Conversation) -> Tensor:
    """The log-probabilities of the tokens that the reply has, (N,)."""
    return logp_NV.gather(1, torch.tensor(conversation.reply, device=logp_NV.device)[:, None])[:, 0]


def _measure_one(logp_NV: Tensor, conversation: Conversation) -> float:
    top_ids, top_logp, reply_logp = _targets(conversation)
    found_N = divergence(
        logp_NV.cpu(),
        torch.tensor(conversation.reply),
        top_ids_NK=top_ids.long(),
        top_logp_NK=top_logp,
        reply_logp_N=reply_logp,
    )
    return float(found_N.sum())


def _targets(conversation: Conversation) -> tuple[Tensor, Tensor, Tensor]:
    assert conversation.top_ids is not None
    assert conversation.top_logp is not None
    assert conversation.reply_logp is not None
    return conversation.top_ids, conversation.top_logp, conversation.reply_logp


def divergence(
    logp_NV: Tensor, reply_N: Tensor, *, top_ids_NK: Tensor, top_logp_NK: Tensor, reply_logp_N: Tensor
) -> Tensor:
    """An estimate of KL(base || model) at every place, in nats, (N,) float64.

    The sum over the base's K likeliest tokens, and, where the reply's token is none of them, its log-ratio.
    The reply was drawn from the base, so the mean over draws is the divergence; with K = V it is exact.

    Args:
        logp_NV: the model's log-probabilities.
        reply_N: int64, the tokens that were drawn.
        top_ids_NK: int64, the base's likeliest tokens.
        top_logp_NK: their log-probabilities under the base.
        reply_logp_N: those of the reply's tokens.
    """
    q_NK, p_NK = logp_NV.gather(1, top_ids_NK).double(), top_logp_NK.double()
    likeliest_N = (p_NK.exp() * (p_NK - q_NK)).sum(dim=1)
    rare_N = (top_ids_NK != reply_N[:, None]).all(dim=1)
    ratio_N = reply_logp_N.double() - logp_NV.gather(1, reply_N[:, None])[:, 0].double()
    return likeliest_N + ratio_N * rare_N


def measure_texts(loaded: LoadedModel, texts: Sequence[Prose]) -> list[Reply]:
    """-log p of every text, summed over its tokens; without a BOS token the first one is given."""
    bos = loaded.chat.bos
    made = []
    cut = [
        Conversation(text.id, bos or ids[:1], ids if bos else ids[1:])
        for text in texts
        if len(ids := encode(loaded.tokenizer, text.text)[: loaded.context - 1]) > 1
    ]
    for text, logp_NV in _score_replies(loaded, cut):
        nats = -float(_at_reply(logp_NV, text).double().sum())
        made.append(Reply("text", text.id, tokens=len(text.reply), nats=nats))
    return made


@torch.no_grad()
def _score_replies(
    loaded: LoadedModel, conversations: Sequence[Conversation]
) -> Iterator[tuple[Conversation, Tensor]]:
    """Log-probabilities at every place of each reply, (N, V) float32, in the order given."""
    for batch in _in_batches(conversations):
        rows = move_batch(pad([_as_example(one) for one in batch], pad_id=loaded.pad_id), loaded.device)
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


def _as_example(conversation: Conversation) -> Example:
    prompt, reply = conversation.prompt, conversation.reply
    return Example(
        id=conversation.id,
        token_ids=(*prompt, *reply),
        labels=(*[IGNORE_INDEX] * len(prompt), *reply),
        masked=(*[False] * len(prompt), *[True] * len(reply)),
    )


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


def targets_prompts(loaded: LoadedModel, openings: Sequence[Opening]) -> list[tuple[int, ...]]:
    """What the conversations of a model depend on; names them in the user's cache."""
    encode_turns = turn_encoder(loaded)
    begun = [
        (*encode_turns(_first_turns(opening)), -1, *encode(loaded.tokenizer, opening.follow_up or ""))
        for opening in openings
    ]
    return [(SEED, REPLY_TOKENS, TOP_K), *begun]


# Of a conversation, as its tensors are named in a file.
_TARGETS = ("ids", "logp", "reply-logp")


def write_targets(path: Path, targets: Targets) -> None:
    """Keep targets in one file.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    from safetensors.torch import save

    tensors = {}
    for talk in targets.conversations:
        tensors[f"{talk.id}.prompt"] = torch.tensor(talk.prompt, dtype=torch.int32)
        tensors[f"{talk.id}.reply"] = torch.tensor(talk.reply, dtype=torch.int32)
        for name, tensor in zip(_TARGETS, _targets(talk), strict=True):
            tensors[f"{talk.id}.{name}"] = tensor.contiguous()
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
        talks = [
            Conversation(
                id,
                tuple(tensors[f"{id}.prompt"].tolist()),
                tuple(tensors[f"{id}.reply"].tolist()),
                *(tensors[f"{id}.{name}"] for name in _TARGETS),
            )
            for id in sorted(_ids(tensors, "reply"))
        ]
        texts = [
            Reply("text", id, nats=nats, tokens=int(tokens))
            for id in sorted(_ids(tensors, "text"))
            for nats, tokens in [tensors[f"{id}.text"].tolist()]
        ]
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); delete it to have it made again") from error
    return Targets(tuple(talks), tuple(texts))


def _ids(tensors: Mapping[str, Tensor], part: str) -> list[str]:
    return [id for id, _, name in (key.rpartition(".") for key in tensors) if name == part]
