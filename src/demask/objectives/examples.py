"""From a recipe's objective to a function that makes examples.

    make_example = example_maker(config.objective, tokenizer=tokenizer, chat=chat, mask_id=16, seed=0)
    example = make_example(passage, epoch, variant)

An example is a pure function of (seed, passage, epoch, variant): nothing is stored, and a new
mask is drawn at every exposure.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from demask.config import Demasking, NextToken, Objective, Reverse
from demask.objectives.demasking import DemaskingForm, make_demasking_example
from demask.objectives.masking import draw_masking, draw_ratio, keyed_rng, word_groups
from demask.objectives.next_token import make_next_token_example
from demask.objectives.prompts import ChatFormat, encode
from demask.objectives.reverse import reverse_words
from demask.records import Example, Passage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Passages whose token ids are kept. With more of them an epoch goes through all before one comes again; to
# tokenise, mask and pack one takes 0.2 ms, and to train on it 450 ms on two cores (docs/benchmarks.md).
_KEPT = 4096

ExampleMaker = Callable[[Passage, int, int], Example]


def count_variants(objective: Objective) -> int:
    """How many examples an objective makes of one passage in one epoch."""
    return 2 if isinstance(objective, Reverse) else 1


def example_maker(
    objective: Objective,
    *,
    tokenizer: "PreTrainedTokenizerBase",
    chat: ChatFormat,
    mask_id: int | None,
    seed: int,
) -> ExampleMaker:
    """A function from (passage, epoch, variant) to an example.

    Args:
        objective: which one, with its options.
        tokenizer: of the model that is trained.
        chat: its chat format.
        mask_id: the mask token; only demasking needs it.
        seed: keys the masks, together with passage, epoch and variant.
    """
    match objective:
        case Demasking():
            if mask_id is None:
                raise ValueError("demasking needs a mask token")
            return _demasking_maker(objective, tokenizer, chat, mask_id, seed)
        case NextToken():
            return _text_maker(tokenizer, chat, objective, [(objective.question, lambda text: text)])
        case Reverse():
            keep = objective.unit == "entity"
            return _text_maker(
                tokenizer,
                chat,
                objective,
                [
                    (objective.question, lambda text: text),
                    (objective.reversed_question, lambda text: reverse_words(text, keep_entities=keep)),
                ],
            )


def _demasking_maker(
    objective: Demasking, tokenizer: "PreTrainedTokenizerBase", chat: ChatFormat, mask_id: int, seed: int
) -> ExampleMaker:
    form = DemaskingForm(
        chat, mask_id, encode(tokenizer, objective.instruction), encode(tokenizer, objective.opening)
    )

    @lru_cache(maxsize=_KEPT)
    def prepare(text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        ids = encode(tokenizer, text)
        return ids, word_groups(tokenizer, text) if objective.unit == "word" else tuple(range(len(ids)))

    def make(passage: Passage, epoch: int, variant: int) -> Example:
        ids, groups = prepare(passage.text)
        rng = keyed_rng(seed, passage.id, epoch, variant)
        return make_demasking_example(
            ids,
            draw_masking(groups, draw_ratio(rng, *objective.mask_ratio), rng),
            id=_name(passage, epoch, variant),
            form=form,
            loss_on=objective.loss_on,
        )

    return make


def _text_maker(
    tokenizer: "PreTrainedTokenizerBase",
    chat: ChatFormat,
    objective: NextToken | Reverse,
    variants: list[tuple[str, Callable[[str], str]]],
) -> ExampleMaker:
    questions = [
        encode(tokenizer, question) if objective.form == "chat" else None for question, _ in variants
    ]

    @lru_cache(maxsize=_KEPT)
    def prepare(text: str, variant: int) -> tuple[int, ...]:
        return encode(tokenizer, variants[variant][1](text))

    def make(passage: Passage, epoch: int, variant: int) -> Example:
        return make_next_token_example(
            prepare(passage.text, variant),
            id=_name(passage, epoch, variant),
            chat=chat,
            question=questions[variant],
        )

    return make


def _name(passage: Passage, epoch: int, variant: int) -> str:
    return f"{passage.id}@{epoch}.{variant}"
