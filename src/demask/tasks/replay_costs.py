"""What replay costs a run, before there is a pool: for the plan.

    stream = stand_in_stream(config, learned, context, device)    # as long as the run's, made of stand-ins
    cost = measure_replay(config, loaded, context, progress)        # drawing the pool, measuring drift

Steps are timed with conversations that are as long as those of a pool and say nothing: what a step takes does
not depend on its words. How fast this model draws and scores is timed; how much there is to draw was counted
in pools that the embedded model drew.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from demask.progress import Progress, Silent
from demask.recipe.fine_tuning import TaskConfig
from demask.stages.replay import expect_pool_rows, is_kept, mix_replay, split_pool
from demask.stages.retained import FROM_FILE, read_retained

if TYPE_CHECKING:
    import torch

    from demask.generation.conversations import Conversation
    from demask.models.load import LoadedModel
    from demask.objectives.objective import Context
    from demask.stages.training import Stream

# Of the pool that the embedded model drew, 852 conversations of its own: tokens of the prompts in sixteenths,
# and the mean of the replies. Of 154 about foreign texts: the prompts in thirds.
_PROMPTS, _REPLY = (1, 1, 15, 19, 21, 24, 28, 29, 41, 49, 49, 62, 114, 138, 143, 157), 38
_FOREIGN_PROMPTS, _FOREIGN_REPLY = (21, 26, 53), 34
# Tokens of a prompt that are read before anything is drawn, for each conversation of a pool: system prompts,
# answered questions in front, foreign texts.
_READ = 23
# Few and many texts that are drawn side by side while a step is timed, between which its time is taken to
# grow evenly; the length of their prompts, and the tokens of each that are timed after the first.
_FEW, _MANY, _BEGUN, _STEPS = 4, 64, 8, 3
# Stand-ins that are scored while it is timed.
_SCORED = 16


@dataclass(frozen=True)
class ReplayCost:
    """What replay costs beside the steps of training, or the pool that a gate is made of.

    Attributes:
        conversations: replayed in each step; 0: only the gate needs the pool.
        pool: different ones.
        pool_is_kept: it stands in the user's cache, and is not drawn.
        pool_seconds: to draw it; 0 where it is kept.
        drift_seconds: of one measurement for `retain.budget`; 0 without.
        memory_bytes: of the kept probabilities while training; 0 where none is replayed.
    """

    conversations: int
    pool: int
    pool_is_kept: bool
    pool_seconds: float
    drift_seconds: float
    memory_bytes: int


def stand_in_stream(
    config: TaskConfig, learned: "Stream", context: "Context", device: "torch.device"
) -> "Stream":
    """The stream of a run that replays, made of stand-ins; any other stays as it is.

    Args:
        config: of the run.
        learned: documents or samples, of more than one part in an update.
        context: of the model.
        device: where steps are made.
    """
    if not config.retain.conversations:
        return learned
    return mix_replay(config, stand_ins(config, context), learned, context, device)


def stand_ins(config: TaskConfig, context: "Context") -> "list[Conversation]":
    """Conversations as long as those of a pool, with targets; the kinds in turn, then the user's file."""
    import torch

    from demask.generation.conversations import TOP_K, Conversation
    from demask.generation.self_chats import OPENINGS, REPLY_TOKENS

    words = context.encode(" ".join(OPENINGS))
    given = read_retained(config, Silent()).samples
    kinds = [(prompt, _REPLY) for prompt in _PROMPTS]
    if config.objective.shows_text:
        kinds += [(prompt, _FOREIGN_REPLY) for prompt in _FOREIGN_PROMPTS]
    replies = [
        len(sample.answer) + len(context.chat.end) if sample.answer else REPLY_TOKENS for sample in given
    ]
    longest = max(*replies, *(reply for _, reply in kinds))
    ids, logp = torch.zeros(longest, TOP_K, dtype=torch.int32), torch.full((longest, TOP_K), -5.0)

    def stand_in(id: str, asked: tuple[int, ...], reply: int) -> Conversation:
        return Conversation(id, asked, _fill(words, reply), ids[:reply], logp[:reply], logp[:reply, 0])

    made = []
    for number in range(config.retain.pool):
        prompt, reply = kinds[number * 7 % len(kinds)]  # 7 divides no number of kinds
        made.append(stand_in(f"stand-in-{number:05d}", _ask(context, words, prompt), reply))
    for number, (sample, reply) in enumerate(zip(given, replies, strict=True)):
        asked = (*sample.prompt, *context.chat.assistant)
        made.append(stand_in(f"{FROM_FILE}-{number:05d}", asked, reply))
    return made


def _ask(context: "Context", words: Sequence[int], length: int) -> tuple[int, ...]:
    """A prompt of so many tokens; the shortest have no room for a template."""
    user, assistant, mark = context.chat.user, context.chat.assistant, context.encode("?")
    room = length - len(user) - len(assistant) - len(mark)
    if room < 1:
        return _fill(words, length)
    return (*user, *_fill(words, room), *mark, *assistant)


def _fill(words: Sequence[int], length: int) -> tuple[int, ...]:
    return tuple(words[place % len(words)] for place in range(length))


def measure_replay(
    config: TaskConfig, loaded: "LoadedModel", context: "Context", progress: Progress
) -> ReplayCost | None:
    """Time how fast a model draws and scores conversations; None of a run that needs none.

    Args:
        config: of the run.
        loaded: the base model, before it is trained.
        context: of the model.
        progress: told how far it is.
    """
    retain = config.retain
    if not (retain.conversations or retain.gate):
        return None
    talks = stand_ins(config, context)
    kept = is_kept(config, loaded, read_retained(config, Silent()))
    probed = retain.budget is not None
    progress.begin("Timing conversations", 2 * (not kept) + (probed or not kept))
    scoring = _time_scoring(loaded, talks[:_SCORED], progress) if probed or not kept else 0.0
    # Those of the file stand at the end.
    pool_seconds = 0.0 if kept else (retain.pool * _READ + _count(talks[retain.pool :])) * scoring
    if not kept and retain.pool:
        pool_seconds += _expect_drawing(config, partial(_time_step, loaded, context, progress))
    return ReplayCost(
        conversations=retain.conversations,
        pool=len(talks),
        pool_is_kept=kept,
        pool_seconds=pool_seconds,
        drift_seconds=_count(split_pool(config, talks)[1]) * scoring if probed else 0.0,
        memory_bytes=_target_bytes(talks) if retain.conversations else 0,
    )


def _count(talks: "Sequence[Conversation]") -> int:
    return sum(len(talk.prompt) + len(talk.reply) for talk in talks)


def _target_bytes(talks: "Sequence[Conversation]") -> int:
    """As training holds them: ids of eight bytes, log-probabilities of four."""
    from demask.generation.conversations import TOP_K

    return sum(len(talk.reply) for talk in talks) * (TOP_K * 12 + 4)


def _time_scoring(loaded: "LoadedModel", talks: "Sequence[Conversation]", progress: Progress) -> float:
    """Seconds for each token of a conversation."""
    from demask.evaluation.retention.drift import measure_divergence

    begun = time.monotonic()
    measure_divergence(loaded, talks)
    progress.advance()
    return (time.monotonic() - begun) / _count(talks)


def _expect_drawing(config: TaskConfig, time_step: Callable[[int], float]) -> float:
    """Seconds to draw a pool, prompts aside, from the time that a step takes with few and with many texts."""
    few, many = time_step(_FEW), time_step(_MANY)
    each = max(0.0, many - few) / (_MANY - _FEW)
    rows = expect_pool_rows(config)
    return len(rows) * max(0.0, few - _FEW * each) + sum(rows) * each


def _time_step(loaded: "LoadedModel", context: "Context", progress: Progress, texts: int) -> float:
    """Seconds in which each of so many texts gets a token."""
    from demask.generation.drawing import Script, Wanted, draw_scripts
    from demask.generation.self_chats import OPENINGS

    words = context.encode(" ".join(OPENINGS))
    prompts = [_fill(words[number % len(words) :], _BEGUN) for number in range(texts)]

    def script(prompt: tuple[int, ...], tokens: int) -> Script:
        yield Wanted(prompt, tokens, targets=True)

    def draw(tokens: int) -> float:
        begun = time.monotonic()
        draw_scripts(loaded, [script(prompt, tokens) for prompt in prompts], seed=0, rows=texts)
        return time.monotonic() - begun

    first = draw(1)
    seconds = draw(1 + _STEPS) - first
    progress.advance()
    return max(seconds, 0.0) / _STEPS
