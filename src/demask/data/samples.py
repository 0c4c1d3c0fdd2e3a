"""Conversations and running text as samples: what stands before an answer, and the answer, as token ids.

    cut = template_cutter(tokenizer, chat)
    for placed in make_samples(conversations, turns="last", tokenizer=tokenizer, cut=cut):
        placed.sample.prompt, placed.sample.answer, placed.source
    for placed in make_blocks(documents, tokenizer=tokenizer, end=find_end_of_text(tokenizer), length=512):
        placed.sample.answer  # the block's ids; its prompt is empty

The chat template is rendered once for each sequence of roles and tools, with a word in place of each turn,
and cut at these words; so a sample's prompt has the ids that the model sees when it is asked. Texts of turns
are put in as they are: a template that rewrites them (drops the reasoning of earlier answers) is not followed
in that. Special tokens that stand in a text are only letters.

Of running text each document is followed by the end-of-text token; all are joined and cut into blocks of
equally many tokens. The last block may be shorter; nothing is lost.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from demask.data.conversations import Conversation, Role
from demask.errors import DataError, ModelError
from demask.objectives.prompts import (
    TEMPLATE_ERRORS,
    ChatFormat,
    encode_all,
    render_turns,
    template_ids,
)
from demask.records import Document, Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Turns = Literal["last", "all"]
R = TypeVar("R")
# Records, and characters, that are tokenised together: enough for all cores, few enough that their ids take
# no memory.
_AT_ONCE = 1000
_CHARACTERS = 4_000_000
# Sequences of roles whose pieces are kept; more than people have turns.
_KEPT = 4096
# Left-out samples whose places are kept, for the report.
_SHOWN = 10
# What model families put between texts in pre-training; the eos token of a chat model only ends a turn.
_ENDS = ("<|endoftext|>", "<|end_of_text|>", "<|end▁of▁sentence|>", "<eos>", "</s>")


class Placed(NamedTuple):
    """A sample and where it stands, as `file line 12`."""

    sample: Sample
    source: str


class Piece(NamedTuple):
    """What a template writes before a turn, and which turn follows."""

    ids: tuple[int, ...]
    turn: int


Cutter = Callable[[tuple[Role, ...], str], tuple[Piece, ...]]


@dataclass(frozen=True)
class Limit:
    """What is too long to be trained on, and what becomes of it.

    Attributes:
        fits: whether so many tokens of prompt and of answer are short enough.
        name: says the limit in an error, as `at most 512 tokens`. Samples on disk are known by it, so it must
            differ where `fits` does.
        too_long: an error, or left out and counted.
    """

    fits: Callable[[int, int], bool]
    name: str
    too_long: Literal["error", "leave-out"] = "error"


@dataclass
class LeftOut:
    """Samples that were too long: how many, and the first of their places with their tokens."""

    count: int = 0
    first: tuple[str, ...] = ()

    def add(self, place: str) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first = (*self.first, place)


def template_cutter(tokenizer: "PreTrainedTokenizerBase", chat: ChatFormat) -> Cutter:
    """A function from the roles of a prompt, of which the last is a user's, and its tools to the pieces.

    It raises DataError, without a place, when the template cannot write these turns or tools, and ModelError
    when what follows the last turn is not `chat.assistant`.
    """

    @lru_cache(maxsize=_KEPT)
    def cut(roles: tuple[Role, ...], tools: str) -> tuple[Piece, ...]:
        # Letters only, as templates strip and escape; of equal length, so that none begins another.
        words = [f"DEMASKTURN{_letters(number)}END" for number in range(len(roles))]
        turns = [{"role": role, "content": word} for role, word in zip(roles, words, strict=True)]
        text = _render(tokenizer, turns, tools)
        for role, word in zip(roles, words, strict=True):
            if text.count(word) != 1:
                raise DataError(
                    f"the chat template drops or repeats the {role}'s turn in {_list(roles)}; "
                    "mend the turns, or set another template in the tokenizer"
                )
        order = sorted(range(len(roles)), key=lambda turn: text.index(words[turn]))
        if order[-1] != len(roles) - 1:
            raise DataError(f"the chat template does not write the user's turn last in {_list(roles)}")
        pieces = []
        for turn in order:
            before, _, text = text.partition(words[turn])
            pieces.append(Piece(template_ids(tokenizer, before), turn))
        if template_ids(tokenizer, text) != chat.assistant:
            raise ModelError(
                f"chat template: writes {text!r} after the last turn of {_list(roles)}, which is not what it "
                "writes after a single question; set another template in the tokenizer"
            )
        return tuple(pieces)

    return cut


def _letters(number: int) -> str:
    """A number in four letters, A to P."""
    return "".join(chr(ord("A") + (number >> shift) % 16) for shift in (12, 8, 4, 0))


def _render(tokenizer: "PreTrainedTokenizerBase", turns: list[dict[str, str]], tools: str) -> str:
    try:
        text = render_turns(tokenizer, turns, ask=True, tools=json.loads(tools) if tools else None)
        toolless = render_turns(tokenizer, turns, ask=True) if tools else ""
    except TEMPLATE_ERRORS as error:
        raise DataError(
            f"the chat template cannot write the turns {_list([turn['role'] for turn in turns])} ({error}); "
            "mend the turns, or set another template in the tokenizer"
        ) from error
    if tools and text == toolless:
        raise DataError(
            "the chat template writes no tools; leave them out with columns.ignore=[tools], or set "
            "another template in the tokenizer"
        )
    return text


def _list(roles: Sequence[str]) -> str:
    return ", ".join(roles) if len(roles) <= 8 else f"{', '.join(roles[:7])} and {len(roles) - 7} more"


def gather(records: Iterable[R], size: Callable[[R], int]) -> Iterator[list[R]]:
    """Records in parts that are tokenised together; `size` gives the characters of one."""
    part: list[R] = []
    characters = 0
    for record in records:
        part.append(record)
        characters += size(record)
        if len(part) == _AT_ONCE or characters >= _CHARACTERS:
            yield part
            part, characters = [], 0
    if part:
        yield part


def find_answers(conversation: Conversation, turns: Turns) -> list[int]:
    """The turns of the assistant that become samples; those that are marked as not to be learned do not."""
    turned = enumerate(conversation.turns)
    answers = [place for place, turn in turned if turn.role == "assistant" and turn.learn]
    return answers if turns == "all" else answers[-1:]


def pass_over(
    conversations: Iterator[Conversation], turns: Turns, count: int
) -> tuple[int, Iterator[Conversation]]:
    """Read the conversations that have at most `count` samples together: how many these are, and the rest."""
    passed = 0
    for conversation in conversations:
        answers = len(find_answers(conversation, turns))
        if passed + answers > count:
            return passed, chain([conversation], conversations)
        passed += answers
    return passed, iter(())


def make_samples(
    conversations: Iterable[Conversation],
    *,
    turns: Turns,
    tokenizer: "PreTrainedTokenizerBase",
    cut: Cutter,
) -> Iterator[Placed]:
    """The samples of some conversations, in order.

    Args:
        conversations: read as they are needed.
        turns: `last` gives one sample of each, the last turn of the assistant that may be learned with all
            before it; `all` one for each such turn with what stands before it. What follows the last is not
            used.
        tokenizer: of the model that is trained.
        cut: of `template_cutter`.

    Raises:
        DataError: the template cannot write a conversation, with file and line.
        ModelError: the template writes a turn after several otherwise than after one.
    """
    for part in gather(conversations, lambda one: sum(len(turn.text) for turn in one.turns)):
        answers = [find_answers(conversation, turns) for conversation in part]
        used = [one.turns[: its[-1] + 1] for one, its in zip(part, answers, strict=True)]
        ids = iter(encode_all(tokenizer, [turn.text for turns in used for turn in turns]))
        for conversation, places in zip(part, answers, strict=True):
            texts = list(islice(ids, places[-1] + 1))
            for place in places:
                prompt = _write_prompt(conversation, texts[:place], cut)
                name = conversation.id if turns == "last" else f"{conversation.id}#{place + 1}"
                yield Placed(Sample(name, prompt, tuple(texts[place])), conversation.source)


def _write_prompt(conversation: Conversation, texts: Sequence[Sequence[int]], cut: Cutter) -> tuple[int, ...]:
    """The ids before the end of the last user's words."""
    try:
        roles = tuple(turn.role for turn in conversation.turns[: len(texts)])
        pieces = cut(roles, conversation.tools)
    except DataError as error:
        raise DataError(f"{conversation.source}: {error}") from error
    prompt: list[int] = []
    for piece in pieces:
        prompt += piece.ids
        prompt += texts[piece.turn]
    return tuple(prompt)


def keep_fitting(samples: Iterable[Placed], limit: Limit, left_out: LeftOut) -> Iterator[Placed]:
    """The samples that are not too long; the others are counted in `left_out`.

    Raises:
        DataError: one is too long and that is an error.
    """
    for placed in samples:
        prompt, answer = len(placed.sample.prompt), len(placed.sample.answer)
        if limit.fits(prompt, answer):
            yield placed
            continue
        tokens = f"{placed.source}: {prompt} tokens of prompt and {answer} of answer"
        if limit.too_long == "error":
            raise DataError(
                f"{tokens}, expected {limit.name}; shorten it, raise max_tokens, or set too_long to "
                "'leave-out'"
            )
        left_out.add(tokens)


def find_end_of_text(tokenizer: "PreTrainedTokenizerBase") -> int:
    """The token that stood between texts in pre-training, or the end-of-sequence token.

    Raises:
        ModelError: the tokenizer has neither.
    """
    special = {str(token): number for number, token in tokenizer.added_tokens_decoder.items()}
    known = next((special[name] for name in _ENDS if name in special), tokenizer.eos_token_id)
    if not isinstance(known, int):
        raise ModelError(
            f"tokenizer: no token ends a text, expected eos or one of {', '.join(_ENDS)}; set eos_token"
        )
    return known


def make_blocks(
    documents: Iterable[Document], *, tokenizer: "PreTrainedTokenizerBase", end: int, length: int
) -> Iterator[Placed]:
    """Blocks of `length` ids, in the order of the documents; each is placed where its first token stands.

    Args:
        documents: read as they are needed.
        tokenizer: of the model that is trained.
        end: the token after each text.
        length: tokens of a block, at least 1.
    """
    held: list[int] = []
    number, begins = 1, ""
    for part in gather(documents, lambda document: len(document.text)):
        encoded = encode_all(tokenizer, [document.text for document in part])
        for document, ids in zip(part, encoded, strict=True):
            begins = begins if held else document.source
            held += ids
            held.append(end)
            whole = len(held) // length * length
            for start in range(0, whole, length):
                yield _make_block(number, held[start : start + length], begins)
                number, begins = number + 1, document.source
            del held[:whole]
    if held:
        yield _make_block(number, held, begins)


def _make_block(number: int, ids: list[int], source: str) -> Placed:
    return Placed(Sample(f"block-{number}", (), tuple(ids)), source)
