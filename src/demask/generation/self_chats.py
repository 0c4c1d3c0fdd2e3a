"""Conversations that a model writes all by itself, both sides, so that training can replay them.

    talks = draw_self_chats(base, size=256, seed=0, batch_size=40)

The model draws the user's words, too, by going on where a user's turn has begun (as Magpie does, Xu et al.
2024, arXiv 2406.08464). Kinds, in shares: conversations without and with a system prompt, of two turns, text
without any chat, short questions, and short questions after two that were answered. Short questions matter:
in trials KL kept the kind of prompt that was replayed, and no other.
"""

import random
from collections.abc import Callable, Sequence
from itertools import count

from demask.generation.autoregressive import Sampling, generate_texts
from demask.generation.conversations import Conversation
from demask.generation.texts import Generated
from demask.generation.turns import Turn, turn_encoder, turn_writer
from demask.models.load import LoadedModel

USER_TOKENS, QUESTION_TOKENS, REPLY_TOKENS = 64, 32, 96
# Eighths of the pool.
SHARES = {"chat": 2, "system": 1, "second": 1, "text": 1, "question": 2, "shots": 1}
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
TOPICS = (
    *("animals", "rivers", "cooking", "music", "planets", "sports", "painting", "weather", "history"),
    *("trees", "numbers", "cities", "languages", "books", "medicine", "films", "oceans", "money"),
    *("insects", "machines", "mountains", "colours", "gardens", "law", "light", "birds", "bread"),
    *("computers", "electricity", "fashion", "geometry", "health", "islands", "jewels", "kings"),
    *("lakes", "maps", "nutrition", "opera", "plants", "queens", "railways", "ships", "theatre"),
    *("universities", "volcanoes", "water", "writers", "youth", "zoos", "bridges", "chemistry"),
    *("dance", "earthquakes", "families", "grammar", "holidays", "ice", "journalism", "kitchens"),
    *("letters", "metals", "night", "physics", "roads", "stars", "travel", "wood"),
)
ASK = "Write one short question about {topic}. Write the question only."


def count_kinds(size: int) -> dict[str, int]:
    """How many conversations of each kind a pool of so many has."""
    eighths = sum(SHARES.values())
    counts = {kind: size * share // eighths for kind, share in SHARES.items()}
    return counts | {"chat": counts["chat"] + size - sum(counts.values())}


def draw_self_chats(
    base: LoadedModel,
    *,
    size: int,
    seed: int,
    batch_size: int,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Conversation]:
    """A pool of conversations, without targets; those of which the model said nothing are missing.

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
    chats = draw.user_turns([alone] * counts["chat"] + systems)
    firsts = draw.user_turns([alone] * counts["second"])
    chats += draw.user_turns(draw.answers(firsts))
    questions = draw.questions([rng.choice(TOPICS) for _ in range(counts["question"] + 3 * counts["shots"])])
    chats += questions[: counts["question"]]
    answered = draw.answers(questions[counts["question"] :])
    for place in range(0, len(answered) - 2, 3):  # two with their answers, and one that is asked
        chats.append([*answered[place], *answered[place + 1], answered[place + 2][0]])
    before_text = base.chat.bos or base.chat.end[-1:]
    prompts = [*map(draw.ask, chats), *[before_text] * counts["text"]]
    replies = draw.texts(prompts, REPLY_TOKENS, on_done)
    return [
        Conversation(f"self-{number:05d}", prompt, reply.ids)
        for number, (prompt, reply) in enumerate(zip(prompts, replies, strict=True))
        if reply.ids
    ]


class _Drawing:
    """Draws from a model's own probabilities; each draw has a seed of its own."""

    def __init__(self, base: LoadedModel, seed: int, batch_size: int) -> None:
        self._base, self._batch_size = base, batch_size
        self._seeds = count(1000 * seed)
        self._write, self.ask = turn_writer(base), turn_encoder(base)

    def texts(
        self,
        prompts: Sequence[tuple[int, ...]],
        tokens: int,
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
            sampling=Sampling(1.0, next(self._seeds)),
            on_done=on_done,
        )

    def user_turns(self, chats: Sequence[Sequence[Turn]]) -> list[list[Turn]]:
        """Chats with one more turn of the user; those in which nothing is said are missing."""
        said = self.texts([self._write([*chat, Turn("user", "")]) for chat in chats], USER_TOKENS)
        return [[*chat, Turn("user", one.text)] for chat, one in zip(chats, said, strict=True) if one.text]

    def answers(self, chats: Sequence[Sequence[Turn]]) -> list[list[Turn]]:
        """Chats with the assistant's answer."""
        said = self.texts([self.ask(chat) for chat in chats], REPLY_TOKENS)
        return [[*chat, Turn("assistant", one.text or "...")] for chat, one in zip(chats, said, strict=True)]

    def questions(self, topics: Sequence[str]) -> list[list[Turn]]:
        """A short question about each topic; replies without one are missing."""
        asked = [self.ask([Turn("user", ASK.format(topic=topic))]) for topic in topics]
        found = [read_question(reply.text) for reply in self.texts(asked, QUESTION_TOKENS)]
        return [[Turn("user", question)] for question in found if question]


def read_question(text: str) -> str:
    """The first question of a reply; empty without one."""
    line = next((line.strip() for line in text.splitlines() if "?" in line), "")
    return line[: line.index("?") + 1].strip(' "*-') if line else ""
