"""What a model says when nobody teaches it: replies drawn from its own probabilities, with its targets.

    talks = draw_self_chats(base, size=256, seed=0, batch_size=40)           # both sides written by the model
    for talk, logp_NV in score_replies(loaded, talks): ...
    kept = add_targets(base, talks)                              # its likeliest tokens at every place

Drift is measured on such conversations, and training can replay them. The targets are kept, not the model, so
that only one model is in memory.

N tokens of a reply, K targets, V vocabulary.
"""

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, cycle, islice

import torch
from torch import Tensor

from demask.generation.autoregressive import Sampling, generate_texts
from demask.generation.texts import Generated, Turn, turn_encoder, turn_writer
from demask.losses.kl_to_base import TopTargets
from demask.models.acceleration.target_logits import predict_at
from demask.models.load import LoadedModel
from demask.objectives.batches import move_batch, pad
from demask.objectives.prompts import encode
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
    """Log-probabilities at every place of each reply, (N, V) float32, in the order given."""
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


# Conversations that a model writes all by itself, both sides


# Where a reply goes is decided by its first tokens, so a pool of many short ones holds more than one of few
# long ones.
USER_TOKENS, OPENED_TOKENS, REPLY_TOKENS = 40, 18, 40
# Of the user's words: at 1 those of a small model are seldom a question that anyone would ask.
USER_TEMPERATURE = 0.8
# Parts of the pool.
SHARES = {"opened": 6, "chat": 2, "system": 2, "second": 2, "shots": 2, "text": 2}
SYSTEMS = (
    "You answer in a friendly and patient tone.",
    "You are an assistant in a library.",
    "Keep every answer under three sentences.",
    "You help people who write software.",
    "You are a tutor for school children.",
    "Answer plainly and say so when you are unsure.",
    "You plan trips and outings.",
    "You are an assistant of a small company.",
)
# What the user's words begin with; the model goes on. First those that ask.
QUESTION_OPENINGS = (
    *("Who", "Who was", "Who wrote", "Who is the", "What", "What is", "What is the name of", "What does"),
    *("What kind of", "What are", "Which", "Which country", "Which animal", "Where", "Where is", "When"),
    *("When did", "In which year", "In which city", "How", "How many", "How do I", "How can", "Why"),
    *("Why do", "Can you", "Could you", "Is", "Are", "Do"),
)
OPENINGS = (
    *QUESTION_OPENINGS,
    *("Name a", "Tell me", "Write", "Write a", "Give me", "Explain", "Describe", "List", "Suggest"),
    *("Translate", "Hello", "I am", "I would like", "My", "Please", "Recommend", "The"),
)


def count_kinds(size: int) -> dict[str, int]:
    """How many conversations of each kind a pool of so many has."""
    parts = sum(SHARES.values())
    counts = {kind: size * share // parts for kind, share in SHARES.items()}
    return counts | {"opened": counts["opened"] + size - sum(counts.values())}


def draw_self_chats(
    base: LoadedModel,
    *,
    size: int,
    seed: int,
    batch_size: int,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Conversation]:
    """A pool of conversations, without targets; those of which the model said nothing are missing.

    The model draws the user's words, too, by going on where a user's turn has begun (as Magpie does, Xu et
    al. 2024, arXiv 2406.08464). Kinds, in shares: a sentence that begins with one of `OPENINGS`,
    conversations without and with a system prompt, of two turns, short questions after two that were
    answered, and text without any chat. Short questions matter: KL keeps the kind of prompt that is replayed,
    and it is short questions that documents leak into first.

    Args:
        base: not a masked-diffusion model.
        size: how many.
        seed: of the draws.
        batch_size: texts that are drawn together.
        on_done: told of every batch of replies, how many it had.
    """
    draw, counts = _Drawing(base, seed, batch_size), count_kinds(size)
    rng = random.Random(f"self-chats {seed}")
    systems = [[Turn("system", rng.choice(SYSTEMS))] for _ in range(counts["system"])]
    alone: list[Turn] = []
    chats = draw.opened(OPENINGS, counts["opened"])
    chats += draw.user_turns([alone] * counts["chat"] + systems)
    firsts = draw.user_turns([alone] * counts["second"])
    chats += draw.user_turns(draw.answers(firsts))
    answered = draw.answers(draw.opened(QUESTION_OPENINGS, 3 * counts["shots"]))
    for place in range(0, len(answered) - 2, 3):  # two with their answers, and one that is asked
        chats.append([*answered[place], *answered[place + 1], answered[place + 2][0]])
    before_text = base.chat.bos or base.chat.end[-1:]
    prompts = [*map(draw.ask, chats), *[before_text] * counts["text"]]
    return draw_replies(base, prompts, name="self", seed=seed, batch_size=batch_size, on_done=on_done)


def draw_replies(
    base: LoadedModel,
    prompts: Sequence[tuple[int, ...]],
    *,
    name: str,
    seed: int,
    batch_size: int,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Conversation]:
    """What a model says to prompts, without targets; those to which it says nothing are missing.

    Args:
        base: not a masked-diffusion model.
        prompts: token ids up to the replies.
        name: begins the ids of the conversations.
        seed: of the draws.
        batch_size: replies that are drawn together.
        on_done: told of every batch, how many it had.
    """
    replies = _Drawing(base, seed, batch_size, name=name).texts(prompts, REPLY_TOKENS, on_done=on_done)
    return [
        Conversation(f"{name}-{number:05d}", prompt, reply.ids)
        for number, (prompt, reply) in enumerate(zip(prompts, replies, strict=True))
        if reply.ids
    ]


class _Drawing:
    """Draws from a model's own probabilities; each draw has a seed of its own."""

    def __init__(self, base: LoadedModel, seed: int, batch_size: int, *, name: str = "") -> None:
        self._base, self._batch_size = base, batch_size
        self._seeds = count(random.Random(f"{name} {seed}").getrandbits(32))
        self._write, self.ask = turn_writer(base), turn_encoder(base)

    def texts(
        self,
        prompts: Sequence[tuple[int, ...]],
        tokens: int,
        *,
        temperature: float = 1.0,
        on_done: Callable[[int], None] = lambda count: None,
    ) -> list[Generated]:
        """What follows each prompt."""
        if not prompts:
            return []
        return generate_texts(
            self._base,
            prompts,
            max_new_tokens=tokens,
            batch_size=self._batch_size,
            sampling=Sampling(temperature, next(self._seeds)),
            on_done=on_done,
        )

    def user_turns(self, chats: Sequence[Sequence[Turn]]) -> list[list[Turn]]:
        """Chats with one more turn of the user; those in which nothing is said are missing."""
        begun = [self._write([*chat, Turn("user", "")]) for chat in chats]
        said = self.texts(begun, USER_TOKENS, temperature=USER_TEMPERATURE)
        return [[*chat, Turn("user", one.text)] for chat, one in zip(chats, said, strict=True) if one.text]

    def answers(self, chats: Sequence[Sequence[Turn]]) -> list[list[Turn]]:
        """Chats with the assistant's answer."""
        said = self.texts([self.ask(chat) for chat in chats], REPLY_TOKENS)
        return [[*chat, Turn("assistant", one.text or "...")] for chat, one in zip(chats, said, strict=True)]

    def opened(self, openings: Sequence[str], size: int) -> list[list[Turn]]:
        """Sentences of a user that begin so, in turn; no two are alike, so there may be fewer."""
        tokenizer, beginnings = self._base.tokenizer, list(islice(cycle(openings), size))
        begun = [self._write([Turn("user", beginning)]) for beginning in beginnings]
        said = self.texts(begun, OPENED_TOKENS, temperature=USER_TEMPERATURE)
        whole = (
            # Decoded together, as only so it shows whether a word goes on.
            str(tokenizer.decode([*encode(tokenizer, beginning), *one.ids], skip_special_tokens=True))
            for beginning, one in zip(beginnings, said, strict=True)
        )
        sentences = dict.fromkeys(map(first_sentence, whole))
        return [[Turn("user", sentence)] for sentence in sentences if len(sentence.split()) > 1]


def first_sentence(text: str) -> str:
    """Up to the first end of a sentence or of a line."""
    line = text.strip().partition("\n")[0].strip()
    end = re.search(r"[?!](?=\W|$)|\.(?=\s|$)", line)
    return line[: end.end()] if end else line
