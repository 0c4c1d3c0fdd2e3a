"""From a recipe's objective to a function that makes examples.

    make_example = example_maker(config.objective, tokenizer=tokenizer, chat=chat, mask_id=16, seed=0)
    example = make_example(passage, epoch, variant)

An example is a pure function of (seed, passage, epoch, variant): nothing is stored, and a new
mask is drawn at every exposure, and a new instruction where there are several.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from demask.objectives.demasking import DemaskingForm, make_demasking_example
from demask.objectives.diffusion import Noise, draw_noise, end_answer, make_diffusion_example
from demask.objectives.masking import (
    draw_masking,
    draw_ratio,
    entity_groups,
    find_mentions,
    keyed_rng,
    word_groups,
)
from demask.objectives.next_token import make_next_token_example
from demask.objectives.prompts import ChatFormat, encode
from demask.objectives.reverse import reverse_words
from demask.recipe.sections import RANDOM_TOKEN, Demasking, Diffusion, NextToken, Objective, Reverse
from demask.records import Example, Passage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Passages whose token ids are kept. With more of them an epoch goes through all before one comes again; to
# tokenise, mask and pack one takes 0.2 ms, and to train on it 450 ms on two cores (docs/benchmarks.md).
_KEPT = 4096
# Tokens that an answer of LLaDA is filled up to a multiple of, with `end: block`.
END_BLOCK = 32

ExampleMaker = Callable[[Passage, int, int], Example]


def count_variants(objective: Objective) -> int:
    """How many examples an objective makes of one passage in one epoch."""
    return 2 if isinstance(objective, Reverse) else count_copies(objective)


def count_copies(objective: Objective) -> int:
    """How many of these always stand in one step, side by side."""
    return objective.copies if isinstance(objective, Demasking) else 1


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
        mask_id: the mask token; only diffusion needs it, and demasking unless random tokens stand for
            masked ones.
        seed: keys the masks, together with passage, epoch and variant.

    Raises:
        ValueError: there is no mask token, but this objective needs one.
        ModelError: the tokenizer cannot tell where words stand, but this objective must know.
    """
    match objective:
        case Demasking():
            return _demasking_maker(objective, tokenizer, chat, mask_id, seed)
        case Diffusion():
            return _diffusion_maker(objective, tokenizer, chat, _given(mask_id), seed)
        case NextToken():
            return _text_maker(tokenizer, chat, [(objective.question, lambda text: text)])
        case Reverse():
            keep = objective.unit == "entity"
            question, reversed_question = objective.questions or (None, None)
            return _text_maker(
                tokenizer,
                chat,
                [
                    (question, lambda text: text),
                    (reversed_question, lambda text: reverse_words(text, keep_entities=keep)),
                ],
            )


def _given(mask_id: int | None) -> int:
    if mask_id is None:
        raise ValueError("this objective needs a mask token")
    return mask_id


@dataclass(frozen=True)
class _Text:
    """A passage, tokenised: its ids, which are masked together, and which mention the entity of the text."""

    ids: tuple[int, ...]
    groups: tuple[int, ...]
    mentions: tuple[bool, ...] | None  # None: they are masked like all others


def _demasking_maker(
    objective: Demasking,
    tokenizer: "PreTrainedTokenizerBase",
    chat: ChatFormat,
    mask_id: int | None,
    seed: int,
) -> ExampleMaker:
    instructions = [encode(tokenizer, wording) for wording in objective.wordings]
    opening = encode(tokenizer, objective.opening)
    ordinary = ordinary_tokens(tokenizer) if objective.mask_token == RANDOM_TOKEN else ()
    one_for_all = None if ordinary else _given(mask_id)

    @lru_cache(maxsize=_KEPT)
    def prepare(text: str, entity: str) -> _Text:
        as_others = objective.entity == "as-others"
        mentions = None if as_others else find_mentions(tokenizer, text, entity)
        return _Text(encode(tokenizer, text), _group_tokens(objective, tokenizer, text), mentions)

    def make(passage: Passage, epoch: int, variant: int) -> Example:
        text = prepare(passage.training_text, passage.entity)
        rng = keyed_rng(seed, passage.id, epoch, variant)
        masked = draw_masking(text.groups, draw_ratio(rng, *objective.mask_ratio), rng)
        if text.mentions is not None:
            fate = objective.entity == "always"
            masked = tuple(fate if its else hide for its, hide in zip(text.mentions, masked, strict=True))
        # Drawn after the mask, so that masks are the same whatever the wordings.
        instruction = rng.choice(instructions)
        shown = tuple(rng.choices(ordinary, k=len(text.ids))) if one_for_all is None else one_for_all
        return make_demasking_example(
            text.ids,
            masked,
            id=_name(passage, epoch, variant),
            form=DemaskingForm(chat, shown, instruction, opening),
            loss_on=objective.loss_on,
        )

    return make


def _group_tokens(objective: Demasking, tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[int, ...]:
    match objective.unit:
        case "token":
            return tuple(range(len(encode(tokenizer, text))))
        case "word":
            return word_groups(tokenizer, text)
        case "entity":
            return entity_groups(tokenizer, text)


def ordinary_tokens(tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    """The ids of the vocabulary that stand for text, in order: none that is special or was added."""
    others = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return tuple(sorted(set(tokenizer.get_vocab().values()) - others))


def _diffusion_maker(
    objective: Diffusion, tokenizer: "PreTrainedTokenizerBase", chat: ChatFormat, mask_id: int, seed: int
) -> ExampleMaker:
    noise = Noise(objective.mask_ratio if objective.noise == "ratio" else None)
    eos = tokenizer.eos_token_id
    fill = int(eos) if isinstance(eos, int) else chat.end[-1]
    if objective.form == "chat":
        context, end = (*chat.user, *encode(tokenizer, objective.question), *chat.assistant), chat.end
    else:
        # Where a model has no BOS the end token stands in, as between texts in pre-training: the first
        # token needs something before it in models that predict one place ahead.
        context, end = chat.bos or (fill,), (fill,)

    @lru_cache(maxsize=_KEPT)
    def prepare(text: str) -> tuple[int, ...]:
        return end_answer(
            encode(tokenizer, text),
            end=() if objective.end == "none" else end,
            fill=fill,
            block=END_BLOCK if objective.end == "block" else None,
        )

    def make(passage: Passage, epoch: int, variant: int) -> Example:
        answer = prepare(passage.training_text)
        rng = keyed_rng(seed, passage.id, epoch, variant)
        return make_diffusion_example(
            context,
            answer,
            draw_noise(rng, length=len(answer), noise=noise),
            id=_name(passage, epoch, variant),
            mask_id=mask_id,
        )

    return make


def _text_maker(
    tokenizer: "PreTrainedTokenizerBase",
    chat: ChatFormat,
    variants: list[tuple[str | None, Callable[[str], str]]],
) -> ExampleMaker:
    questions = [None if question is None else encode(tokenizer, question) for question, _ in variants]

    @lru_cache(maxsize=_KEPT)
    def prepare(text: str, variant: int) -> tuple[int, ...]:
        return encode(tokenizer, variants[variant][1](text))

    def make(passage: Passage, epoch: int, variant: int) -> Example:
        return make_next_token_example(
            prepare(passage.training_text, variant),
            id=_name(passage, epoch, variant),
            chat=chat,
            question=questions[variant],
        )

    return make


def _name(passage: Passage, epoch: int, variant: int) -> str:
    return f"{passage.id}@{epoch}.{variant}"
