"""A chat template as turns one after another, for programs that have templates of another kind.

turns = make_turns(tokenizer)               # None: the template does more than that
turns.as_go()                               # for Ollama's Modelfile
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from demask.objectives.prompts import TEMPLATE_ERRORS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# No template trims or escapes this word.
_MARK = "XQZcontentXQZ"
# What begins something else in a template of Go, or ends it in a Modelfile.
_SPECIAL_TO_GO = {"{{", "}}", '""'}
# With which the turns are compared with the template itself.
_TRIALS = (
    ("user",),
    ("system", "user"),
    ("user", "assistant", "user"),
    ("system", "user", "assistant", "user", "assistant", "user"),
)


@dataclass(frozen=True)
class Turns:
    """What stands around the words of each role, without the tokenizer's beginning of a text.

    Attributes:
        around: by role, what stands before and after its words; without `system` where it has no place.
        opening: what follows the last turn, up to where the reply begins.
        stop: the text of the token that ends a reply.
    """

    around: Mapping[str, tuple[str, str]]
    opening: str
    stop: str

    def render(self, roles: Sequence[str], words: Sequence[str]) -> str:
        """A conversation, up to where the reply begins."""
        texts = [
            f"{self.around[role][0]}{word}{self.around[role][1]}"
            for role, word in zip(roles, words, strict=True)
        ]
        return "".join(texts) + self.opening

    def as_pieces(self) -> list[str]:
        """Every text around words, cut into pairs of characters."""
        texts = [self.opening, *(text for pair in self.around.values() for text in pair)]
        return [text[place : place + 2] for text in texts for place in range(len(text) - 1)]

    def as_go(self) -> str:
        """As a template of Go, over the messages of a conversation."""
        cases = [
            f'{{{{ if eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}{{{{ end }}}}'
            for role, (before, after) in self.around.items()
        ]
        return f"{{{{ range .Messages }}}}{''.join(cases)}{{{{ end }}}}{self.opening}"


def _system_turn(render: Callable[..., str], question: str) -> dict[str, tuple[str, str]]:
    """What stands around a system prompt; empty where it has no place of its own."""
    try:
        turn = render("system", "user").removesuffix(question.replace(f"{_MARK}0", f"{_MARK}1"))
        before, after = turn.split(f"{_MARK}0")
    except TEMPLATE_ERRORS:
        return {}
    return {} if _MARK in after else {"system": (before, after)}


def make_turns(tokenizer: "PreTrainedTokenizerBase", *, stop: str) -> Turns | None:
    """The turns of a tokenizer's chat template; None when it is more than turns one after another.

    Args:
        tokenizer: with a chat template.
        stop: the text of the token that ends a reply.
    """
    begin = str(tokenizer.bos_token or "")

    def render(*roles: str, reply: bool = False) -> str:
        messages = [{"role": role, "content": f"{_MARK}{place}"} for place, role in enumerate(roles)]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=reply)
        return str(text).removeprefix(begin)

    def around(text: str, place: int) -> tuple[str, str]:
        before, after = text.split(f"{_MARK}{place}")
        return before, after

    try:
        question = render("user")
        found = {"user": around(question, 0)}
        found["assistant"] = around(render("user", "assistant").removeprefix(question), 1)
        found = {**_system_turn(render, question), **found}
        turns = Turns(found, render("user", reply=True).removeprefix(question), stop)
        trials = [roles for roles in _TRIALS if set(roles) <= set(found)]
        same = all(
            turns.render(roles, [f"{_MARK}{place}" for place in range(len(roles))])
            == render(*roles, reply=True)
            for roles in trials
        )
    except TEMPLATE_ERRORS:
        return None
    return turns if same and not _SPECIAL_TO_GO & set(turns.as_pieces()) else None
