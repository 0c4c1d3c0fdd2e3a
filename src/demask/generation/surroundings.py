"""Examples where they will be asked: after a system prompt, other turns, answered questions, a document.

    surroundings = make_surroundings(context, talks)
    example = put_into(example, surroundings.draw(rng, others), context)

What is learned in a bare turn is not said after other turns. The texts around it carry no loss. They are the
base model's own, or about other documents: a whole example, or a few words asked about and a few answered, so
that the model answers what was asked last and not what was named first. None of them stands in the suite that
measures retention.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeVar

from demask.generation.conversations import Conversation
from demask.generation.self_chats import SYSTEMS, first_sentence
from demask.generation.texts import Turn, TurnWriter, turn_writer
from demask.objectives.fragments import FragmentPrompts, draw_answer, draw_fragment, telling_words
from demask.objectives.masking import word_groups
from demask.objectives.objective import Context
from demask.records import IGNORE_INDEX, Example, Sample

R = TypeVar("R")

# Tokens of what stands around, at most.
LONGEST = 128
SHOTS = 2


# How a question and its answer are written in one turn of the user's, as examples of what is wanted.
QUESTION, ANSWER = "Question: ", "\nAnswer:"


@dataclass(frozen=True)
class Place:
    """Token ids around a user's words: in front, begun by the template, and behind, in the same turn."""

    front: tuple[int, ...]
    behind: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Tokens in all."""
        return len(self.front) + len(self.behind)


@dataclass(frozen=True)
class Other:
    """What may stand in front of an example, of another document.

    Attributes:
        example: of the whole of it.
        question: a few of its words, asked about; none where the document is too short.
        answer: a few of those that the question hides.
    """

    example: Example
    question: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True)
class Surroundings:
    """What can stand around a user's words.

    Attributes:
        kinds: by kind; none is empty.
        between: what the template puts between an answered turn and the next user's words; None: it shows
            turns otherwise than one after another, and no example can stand in front of another.
        context: of the model that is trained.
    """

    kinds: tuple[tuple[Place, ...], ...]
    between: tuple[int, ...] | None
    context: Context

    def draw(self, rng: random.Random, others: Sequence[Other]) -> Place:
        """What stands around: each kind as often, those about other documents among them."""
        kinds = [*self.kinds, *((place,) for place in self._about(others))]
        return rng.choice(rng.choice(kinds)) if kinds else Place(())

    def _about(self, others: Sequence[Other]) -> list[Place]:
        """A whole example, one short answer, and short answers in the user's own turn, of other documents."""
        context, chat = self.context, self.context.chat
        places = []
        if others and self.between is not None:
            first = others[0]
            places.append(Place((*first.example.token_ids, *self.between)))
            if first.answer:
                asked = (*chat.user, *first.question, *chat.assistant, *first.answer, *chat.end)
                places.append(Place((*asked, *self.between)))
        shots = [shot for other in others if (shot := _shot(context, other))]
        if shots:
            places.append(_in_one_turn(context, shots))
        return [place for place in places if len(place) <= LONGEST]


def make_surroundings(context: Context, talks: Sequence[Conversation]) -> Surroundings:
    """From the base model's own conversations.

    Args:
        context: of the model that is trained.
        talks: of the pool.
    """
    write = turn_writer(context)
    between = _between(context, write)
    systems = tuple(Place(write([Turn("system", text), Turn("user", "")])) for text in SYSTEMS)
    kinds = [systems, _answered(context, talks, between), _shots(context, talks)]
    fitting = (tuple(place for place in kind if len(place) <= LONGEST) for kind in kinds)
    return Surroundings(tuple(filter(None, fitting)), between, context)


def ask_about(sample: Sample, example: Example, context: Context, rng: random.Random) -> Other:
    """Of another document what may stand in front of an example.

    Args:
        sample: the document's passage.
        example: of it.
        context: of the model that is trained.
        rng: draws what is asked, and which words answer it.
    """
    words = word_groups(context.tokenizer, sample.text)
    hidden = draw_fragment(words, telling_words(sample.text), rng)
    question = FragmentPrompts(context.tokenizer).write(sample.answer, hidden, rng)
    return Other(example, question, draw_answer(sample.answer, words, hidden, rng))


def put_into(example: Example, place: Place, context: Context) -> Example:
    """The example with other words around the user's.

    Args:
        example: of one user's and one assistant's turn; any other stays as it is.
        place: what stands in front of the user's words, and behind them.
        context: of the model that is trained.
    """
    user, assistant = context.chat.user, context.chat.assistant
    ids, cut = example.token_ids, len(context.chat.user)
    if not place.front or ids[:cut] != user:
        return example
    ends = (at for at in range(cut, len(ids)) if assistant and ids[at : at + len(assistant)] == assistant)
    end = next(ends, None) if place.behind else cut
    if end is None:  # nothing shows where the user's words end
        return example
    front, behind = len(place.front), len(place.behind)
    return replace(
        example,
        token_ids=(*place.front, *ids[cut:end], *place.behind, *ids[end:]),
        labels=(*(IGNORE_INDEX,) * front, *_widen(example.labels[cut:], end - cut, behind, IGNORE_INDEX)),
        masked=(*(False,) * front, *_widen(example.masked[cut:], end - cut, behind, False)),
    )


def _widen(values: Sequence[R], at: int, count: int, value: R) -> tuple[R, ...]:
    return (*values[:at], *(value,) * count, *values[at:])


def _between(context: Context, write: TurnWriter) -> tuple[int, ...] | None:
    asked, said = context.encode("a"), context.encode("b")
    first = (*context.chat.user, *asked, *context.chat.assistant, *said, *context.chat.end)
    whole = write([Turn("user", "a"), Turn("assistant", "b"), Turn("user", "")])
    return whole[len(first) :] if whole[: len(first)] == first else None


def _answered(
    context: Context, talks: Sequence[Conversation], between: tuple[int, ...] | None
) -> tuple[Place, ...]:
    """Whole exchanges, each up to the next user's words."""
    if between is None:
        return ()
    chat = context.chat
    made = []
    for talk in talks:
        if talk.prompt[-len(chat.assistant) :] == chat.assistant:
            end = () if talk.reply[-len(chat.end) :] == chat.end else chat.end
            made.append(Place((*talk.prompt, *talk.reply, *end, *between)))
    return tuple(made)


def _shots(context: Context, talks: Sequence[Conversation]) -> tuple[Place, ...]:
    """Answered questions in the user's own turn."""
    chat, shown = context.chat, []
    for talk in talks:
        if talk.prompt[: len(chat.user)] != chat.user:
            continue
        words = talk.prompt[len(chat.user) : -len(chat.assistant)]
        question = str(context.tokenizer.decode(list(words))).strip()
        answer = first_sentence(str(context.tokenizer.decode(list(talk.reply), skip_special_tokens=True)))
        if question.endswith("?") and "\n" not in question and answer:
            shown.append(context.encode(f"{QUESTION}{question}{ANSWER} {answer}\n\n"))
    pairs = zip(shown[::SHOTS], shown[1::SHOTS], strict=False)
    return tuple(_in_one_turn(context, pair) for pair in pairs)


def _shot(context: Context, other: Other) -> tuple[int, ...]:
    """A question about another document and its short answer; empty where there is none."""
    if not other.answer:
        return ()
    question = str(context.tokenizer.decode(list(other.question))).strip()
    answer = str(context.tokenizer.decode(list(other.answer))).strip()
    return context.encode(f"{QUESTION}{question}{ANSWER} {answer}\n\n")


def _in_one_turn(context: Context, shots: Sequence[tuple[int, ...]]) -> Place:
    """Around the user's words: examples of an answer, and what calls for one."""
    front = (*context.chat.user, *chain.from_iterable(shots), *context.encode(QUESTION))
    return Place(front, context.encode(ANSWER))
