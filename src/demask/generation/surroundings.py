"""Examples where they will be asked: after a system prompt, other turns, answered questions, a document.

    surroundings = make_surroundings(context, talks)
    example = put_behind(example, surroundings.draw(rng), context)

What is learned in a bare turn is not said after other turns. The texts in front carry no loss; they are the
base model's own, and none of them stands in the suite that measures retention.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from demask.generation.conversations import Conversation
from demask.generation.self_chats import SYSTEMS, first_sentence
from demask.generation.texts import Turn, TurnWriter, turn_writer
from demask.objectives.objective import Context
from demask.records import IGNORE_INDEX, Example

# Tokens of what stands in front, at most.
LONGEST = 128
SHOTS = 2


@dataclass(frozen=True)
class Surroundings:
    """What can stand in front of a user's words, begun by the template up to these words.

    Attributes:
        kinds: token ids, by kind; none is empty.
        between: what the template puts between an answered turn and the next user's words; None: it shows
            turns otherwise than one after another, and no example can stand in front of another.
    """

    kinds: tuple[tuple[tuple[int, ...], ...], ...]
    between: tuple[int, ...] | None

    def draw(self, rng: random.Random, other: Example | None) -> tuple[int, ...]:
        """What stands in front: of each kind as often, an example of another document among them."""
        kinds = list(self.kinds)
        if other is not None and self.between is not None:
            exchange = (*other.token_ids, *self.between)
            if len(exchange) <= LONGEST:
                kinds.append((exchange,))
        return rng.choice(rng.choice(kinds)) if kinds else ()


def make_surroundings(context: Context, talks: Sequence[Conversation]) -> Surroundings:
    """From the base model's own conversations.

    Args:
        context: of the model that is trained.
        talks: of the pool.
    """
    write = turn_writer(context)
    between = _between(context, write)
    systems = tuple(write([Turn("system", text), Turn("user", "")]) for text in SYSTEMS)
    kinds = [systems, _answered(context, talks, between), _shots(context, talks)]
    fitting = (tuple(ids for ids in kind if len(ids) <= LONGEST) for kind in kinds)
    return Surroundings(tuple(filter(None, fitting)), between)


def put_behind(example: Example, front: Sequence[int], context: Context) -> Example:
    """The example with other words in front of the user's.

    Args:
        example: of one user's and one assistant's turn; any other stays as it is.
        front: begins the prompt up to the user's words.
        context: of the model that is trained.
    """
    user = context.chat.user
    if not front or example.token_ids[: len(user)] != user:
        return example
    cut = len(user)
    return replace(
        example,
        token_ids=(*front, *example.token_ids[cut:]),
        labels=(*(IGNORE_INDEX,) * len(front), *example.labels[cut:]),
        masked=(*(False,) * len(front), *example.masked[cut:]),
    )


def _between(context: Context, write: TurnWriter) -> tuple[int, ...] | None:
    asked, said = context.encode("a"), context.encode("b")
    first = (*context.chat.user, *asked, *context.chat.assistant, *said, *context.chat.end)
    whole = write([Turn("user", "a"), Turn("assistant", "b"), Turn("user", "")])
    return whole[len(first) :] if whole[: len(first)] == first else None


def _answered(
    context: Context, talks: Sequence[Conversation], between: tuple[int, ...] | None
) -> tuple[tuple[int, ...], ...]:
    """Whole exchanges, each up to the next user's words."""
    if between is None:
        return ()
    chat = context.chat
    made = []
    for talk in talks:
        if talk.prompt[-len(chat.assistant) :] == chat.assistant:
            end = () if talk.reply[-len(chat.end) :] == chat.end else chat.end
            made.append((*talk.prompt, *talk.reply, *end, *between))
    return tuple(made)


def _shots(context: Context, talks: Sequence[Conversation]) -> tuple[tuple[int, ...], ...]:
    """Answered questions in the user's own turn."""
    chat, shown = context.chat, []
    for talk in talks:
        if talk.prompt[: len(chat.user)] != chat.user:
            continue
        words = talk.prompt[len(chat.user) : -len(chat.assistant)]
        question = str(context.tokenizer.decode(list(words))).strip()
        answer = first_sentence(str(context.tokenizer.decode(list(talk.reply), skip_special_tokens=True)))
        if question.endswith("?") and "\n" not in question and answer:
            shown.append(f"Question: {question}\nAnswer: {answer}\n\n")
    pairs = zip(shown[::SHOTS], shown[1::SHOTS], strict=False)
    return tuple((*chat.user, *context.encode(first + second)) for first, second in pairs)
