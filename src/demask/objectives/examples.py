"""From a recipe's objective to a function that makes examples.

    make_example = example_maker(config.objective, tokenizer=tokenizer, chat=chat, mask_id=16, seed=0)
    example = make_example(passage, epoch, variant)

An example is a pure function of (seed, passage, epoch, variant): nothing is stored, and a new
mask is drawn at every exposure.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from demask.config import Demasking, Diffusion, NextToken, Objective, Reverse
from demask.objectives.demasking import DemaskingForm, make_demasking_example
from demask.objectives.diffusion import Noise, draw_noise, end_answer, make_diffusion_example
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
        mask_id: the mask token; only demasking and diffusion need it.
        seed: keys the masks, together with passage, epoch and variant.
    """
    match objective:
        case Demasking():
            return _demasking_maker(objective, tokenizer, chat, _given(mask_id), seed)
        case Diffusion():
            return _diffusion_maker(objective, tokenizer, chat, _given(mask_id), seed)
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


def _given(mask_id: int | None) -> int:
    if mask_id is None:
        raise ValueError("this objective needs a mask token")
    return mask_id


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
        ids, groups = prepare(passage.training_text)
        rng = keyed_rng(seed, passage.id, epoch, variant)
        return make_demasking_example(
            ids,
            draw_masking(groups, draw_ratio(rng, *objective.mask_ratio), rng),
            id=_name(passage, epoch, variant),
            form=form,
            loss_on=objective.loss_on,
        )

    return make


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
            block=objective.block_length if objective.end == "block" else None,
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
            prepare(passage.training_text, variant),
            id=_name(passage, epoch, variant),
            chat=chat,
            question=questions[variant],
        )

    return make


def _name(passage: Passage, epoch: int, variant: int) -> str:
    return f"{passage.id}@{epoch}.{variant}"
