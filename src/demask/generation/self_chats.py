"""Conversations that a model writes all by itself, both sides; they can be replayed while it is trained.

    talks = draw_self_chats(base, size=256, seed=0, rows=128)          # each with its targets

The model draws the user's words, too, by going on where a user's turn has begun (as Magpie does, Xu et al.
2024, arXiv 2406.08464).
"""

import random
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from itertools import cycle, islice

from demask.generation.conversations import Conversation
from demask.generation.drawing import Drawn, Script, Wanted, draw_scripts
from demask.generation.texts import Turn, turn_encoder, turn_writer
from demask.models.load import LoadedModel
from demask.objectives.prompts import encode

# Where a reply goes is decided by its first tokens, so a pool of many short ones holds more than one of few
# long ones.
USER_TOKENS, OPENED_TOKENS, REPLY_TOKENS = 40, 18, 40
# Tokens of the embedded model's template between the words of two turns.
_BETWEEN = 6
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


def expect_lengths(size: int) -> tuple[list[int], list[int]]:
    """Tokens of the scripts of a pool, in their order, in two rounds; where no text ends early."""
    counts = count_kinds(size)
    opened = OPENED_TOKENS + _BETWEEN + REPLY_TOKENS
    chat = USER_TOKENS + _BETWEEN + REPLY_TOKENS
    first = [2 * chat + _BETWEEN if number < counts["second"] else chat for number in range(counts["chat"])]
    first += [chat] * counts["system"] + [opened] * counts["opened"]
    first += [OPENED_TOKENS] * counts["shots"] + [REPLY_TOKENS] * counts["text"]
    return first, [REPLY_TOKENS] * counts["shots"]


def count_drawn(size: int) -> int:
    """Tokens that may be drawn for a pool of so many, of which its texts need fewer."""
    counts = count_kinds(size)
    opened = (counts["opened"] + counts["shots"]) * (OPENED_TOKENS + REPLY_TOKENS)
    chats = counts["chat"] + counts["second"] + counts["system"]
    return opened + chats * (USER_TOKENS + REPLY_TOKENS) + counts["text"] * REPLY_TOKENS


def draw_self_chats(
    base: LoadedModel,
    *,
    size: int,
    seed: int,
    rows: int,
    on_drawn: Callable[[int], None] = lambda count: None,
) -> list[Conversation]:
    """A pool of conversations with targets; those of which the model said nothing are missing.

    Kinds, in shares: a sentence that begins with one of `OPENINGS`, conversations without and with a system
    prompt, of two turns, short questions after two that were answered, and text without any chat. Short
    questions matter: KL keeps the kind of prompt that is replayed, and it is short questions that documents
    leak into first. A conversation of two turns goes on from one of a single turn, and the answered
    questions are some of those that were opened, so that nothing is drawn twice.

    Args:
        base: not a masked-diffusion model.
        size: how many.
        seed: of the draws.
        rows: texts that are drawn side by side.
        on_drawn: told of tokens as they are drawn, at most `count_drawn` in all.
    """
    counts, writing, rng = count_kinds(size), _Writing(base), random.Random(f"self-chats {seed}")
    # What takes longest first, so that all end together.
    scripts = [writing.chat(number, second=number < counts["second"]) for number in range(counts["chat"])]
    systems = [Turn("system", rng.choice(SYSTEMS)) for _ in range(counts["system"])]
    scripts += [writing.chat(number, system) for number, system in enumerate(systems)]
    scripts += [writing.open(*place) for place in enumerate(islice(cycle(OPENINGS), counts["opened"]))]
    questions = islice(cycle(QUESTION_OPENINGS), counts["shots"])
    scripts += [writing.ask(*place) for place in enumerate(questions)]
    scripts += [writing.text(number) for number in range(counts["text"])]
    draw_scripts(base, scripts, seed=seed, rows=rows, on_drawn=on_drawn)
    writing.drop_equal()
    scripts = [writing.answer_after_shots(number) for number in sorted(writing.asked)]
    draw_scripts(base, scripts, seed=seed + 1, rows=rows, on_drawn=on_drawn)
    made = writing.made
    return _number([made[kind][number] for kind in SHARES for number in sorted(made[kind])], "self")


def draw_replies(
    base: LoadedModel,
    prompts: Sequence[tuple[int, ...]],
    *,
    name: str,
    seed: int,
    rows: int,
    tokens: int = REPLY_TOKENS,
    on_drawn: Callable[[int], None] = lambda count: None,
) -> list[Conversation]:
    """What a model says to prompts that fit into its context, with targets.

    Args:
        base: not a masked-diffusion model.
        prompts: token ids up to the replies.
        name: begins the ids of the conversations.
        seed: of the draws.
        rows: replies that are drawn side by side.
        tokens: of a reply, at most.
        on_drawn: told of tokens as they are drawn, `tokens` for each prompt.
    """
    found: dict[int, Conversation] = {}

    def reply(number: int, prompt: tuple[int, ...]) -> Script:
        drawn = yield Wanted(prompt, tokens, targets=True)
        found[number] = _as_conversation(prompt, drawn)

    draw_scripts(
        base, [reply(*place) for place in enumerate(prompts)], seed=seed, rows=rows, on_drawn=on_drawn
    )
    return _number([found[number] for number in sorted(found)], name)


def _number(talks: Sequence[Conversation], name: str) -> list[Conversation]:
    return [replace(talk, id=f"{name}-{number:05d}") for number, talk in enumerate(talks)]


def _as_conversation(prompt: tuple[int, ...], drawn: Drawn) -> Conversation:
    assert drawn.targets is not None
    return Conversation("", prompt, drawn.said.ids, *drawn.targets)


class _Writing:
    """Scripts of all kinds.

    Attributes:
        made: conversations by kind and number.
        asked: questions that stand behind others, by number.
    """

    def __init__(self, base: LoadedModel) -> None:
        self._base, self._write, self._ask = base, turn_writer(base), turn_encoder(base)
        self.made: dict[str, dict[int, Conversation]] = {kind: {} for kind in SHARES}
        self.asked: dict[int, Turn] = {}
        self._opened: dict[int, list[Turn]] = {}  # answered sentences

    def open(self, number: int, opening: str) -> Script:
        """A sentence that begins so, and what is said to it."""
        asked = yield from self._begin(opening)
        if asked is not None:
            self._opened[number] = yield from self._answer("opened", number, [asked])

    def chat(self, number: int, *first: Turn, second: bool = False) -> Script:
        """Words of a user after a system prompt or nothing, an answer, and perhaps both once more."""
        turns = yield from self._say(first)
        if turns is None:
            return
        turns = yield from self._answer("system" if first else "chat", number, turns)
        again = (yield from self._say(turns)) if second else None
        if again is not None:
            yield from self._answer("second", number, again)

    def text(self, number: int) -> Script:
        """Text without any chat."""
        before = self._base.chat.bos or self._base.chat.end[-1:]
        drawn = yield Wanted(before, REPLY_TOKENS, targets=True)
        self.made["text"][number] = _as_conversation(before, drawn)

    def ask(self, number: int, opening: str) -> Script:
        """A question that begins so; its answer comes later."""
        asked = yield from self._begin(opening)
        if asked is not None:
            self.asked[number] = asked

    def answer_after_shots(self, number: int) -> Script:
        """The answer to a question that stands behind two that were answered."""
        answered = [
            turns
            for _, turns in sorted(self._opened.items())
            if turns[0].content.startswith(QUESTION_OPENINGS)
        ]
        if len(answered) > 1:
            shown = [answered[(2 * number + place) % len(answered)] for place in range(2)]
            yield from self._answer("shots", number, [*shown[0], *shown[1], self.asked[number]])

    def drop_equal(self) -> None:
        """Keep the first of the opened sentences that are alike."""
        seen: set[str] = set()
        for number in sorted(self._opened):
            sentence = self._opened[number][0].content
            if sentence in seen:
                del self._opened[number], self.made["opened"][number]
            seen.add(sentence)

    def _begin(self, opening: str) -> "Generator[Wanted, Drawn, Turn | None]":
        """The user's sentence that begins so; None where it has but one word."""
        drawn = yield Wanted(self._write([Turn("user", opening)]), OPENED_TOKENS, USER_TEMPERATURE)
        # Decoded together, as only so it shows whether a word goes on.
        ids = [*encode(self._base.tokenizer, opening), *drawn.said.ids]
        sentence = first_sentence(str(self._base.tokenizer.decode(ids, skip_special_tokens=True)))
        return Turn("user", sentence) if len(sentence.split()) > 1 else None

    def _say(self, turns: Sequence[Turn]) -> "Generator[Wanted, Drawn, list[Turn] | None]":
        """One more turn of the user; None where nothing is said."""
        drawn = yield Wanted(self._write([*turns, Turn("user", "")]), USER_TOKENS, USER_TEMPERATURE)
        return [*turns, Turn("user", drawn.said.text)] if drawn.said.text else None

    def _answer(
        self, kind: str, number: int, turns: Sequence[Turn]
    ) -> "Generator[Wanted, Drawn, list[Turn]]":
        """The assistant's answer, which is kept as a conversation of this kind."""
        prompt = self._ask(turns)
        drawn = yield Wanted(prompt, REPLY_TOKENS, targets=True)
        self.made[kind][number] = _as_conversation(prompt, drawn)
        return [*turns, Turn("assistant", drawn.said.text or "...")]


def first_sentence(text: str) -> str:
    """Up to the first end of a sentence or of a line."""
    line = text.strip().partition("\n")[0].strip()
    end = re.search(r"[?!](?=\W|$)|\.(?=\s|$)", line)
    return line[: end.end()] if end else line
