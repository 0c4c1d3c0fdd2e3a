"""From a sample (a prompt and its answer) to an example, masked or plain.

    make_example = sample_maker(config.objective, tokenizer=tokenizer, chat=chat, mask_id=16, seed=0)
    example = make_example(sample, epoch, 0)

    user:       How many apples are 2 and 3?            <- shown as it is
                2 + ## = ##
                Return the recovered masked answer.
    assistant:  2 + 3 = 5<end of turn>                  <- the masked tokens carry loss, and the end

Source: masked supervised fine-tuning of Pan et al. 2025 (arXiv 2510.09885). The line break between question
and masked answer is ours. An example is a pure function of (seed, sample, epoch).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from demask.objectives.demasking import DemaskingForm, make_demasking_example
from demask.objectives.masking import draw_masking, draw_ratio, keyed_rng
from demask.objectives.next_token import make_next_token_example
from demask.objectives.prompts import ChatFormat, encode
from demask.recipe.fine_tuning import Cpt, MaskedCpt, Sft, SftObjective
from demask.records import Example, Sample

if TYPE_CHECKING:
    import random

    from transformers import PreTrainedTokenizerBase

SampleExampleMaker = Callable[[Sample, int, int], Example]
# Between a question and the masked copy of its answer.
SEPARATOR = "\n"


def sample_maker(
    objective: SftObjective,
    *,
    tokenizer: "PreTrainedTokenizerBase",
    chat: ChatFormat,
    mask_id: int | None,
    seed: int,
) -> SampleExampleMaker:
    """A function from (sample, epoch, variant) to an example.

    Args:
        objective: which one, with its options.
        tokenizer: of the model that is trained.
        chat: its chat format.
        mask_id: the mask token; the objectives that mask need it.
        seed: keys the masks, together with sample and epoch.

    Raises:
        ValueError: there is no mask token, but this objective needs one.
    """
    if isinstance(objective, Sft | Cpt):
        return lambda sample, epoch, variant: _plain(objective, sample, epoch, chat)
    if mask_id is None:
        raise ValueError("this objective needs a mask token")
    hidden, instruction = mask_id, encode(tokenizer, objective.instruction)
    separator = encode(tokenizer, SEPARATOR)

    def make(sample: Sample, epoch: int, variant: int) -> Example:
        if keyed_rng(seed, "form", sample.id, epoch).random() >= objective.share:
            return _plain(objective, sample, epoch, chat)
        before = (*sample.prompt, *separator) if sample.prompt else chat.user
        return make_demasking_example(
            sample.answer,
            draw_answer_mask(
                len(sample.answer), objective.mask_ratio, keyed_rng(seed, sample.id, epoch, variant)
            ),
            id=f"{sample.id}@{epoch}",
            form=DemaskingForm(replace(chat, user=before), hidden, instruction, opening=()),
            loss_on=objective.loss_on,
            learn_end=objective.learn_end,
        )

    return make


def count_example(
    objective: SftObjective, *, tokenizer: "PreTrainedTokenizerBase", chat: ChatFormat
) -> Callable[[int, int], int]:
    """A function from the tokens of a prompt and of its answer to those of the longest example of them."""
    if isinstance(objective, Cpt):
        return lambda prompt, answer: len(chat.bos) + answer
    around = len(chat.assistant) + len(chat.end)
    if isinstance(objective, Sft):
        return lambda prompt, answer: prompt + answer + around
    around += len(encode(tokenizer, objective.instruction))
    separator = len(encode(tokenizer, SEPARATOR))
    return lambda prompt, answer: (prompt + separator if prompt else len(chat.user)) + 2 * answer + around


def draw_answer_mask(length: int, ratio: tuple[float, float], rng: "random.Random") -> tuple[bool, ...]:
    """Mask each token with a chance drawn from a range; at least one, as a mere copy would teach nothing."""
    masked = draw_masking(range(length), draw_ratio(rng, *ratio), rng)
    if any(masked):
        return masked
    chosen = rng.randrange(length)
    return tuple(place == chosen for place in range(length))


def _plain(objective: SftObjective, sample: Sample, epoch: int, chat: ChatFormat) -> Example:
    """Next-token learning of the answer, or of a block of running text."""
    text = isinstance(objective, Cpt | MaskedCpt)
    # A block is cut anywhere: no turn ends with it.
    return make_next_token_example(
        sample.answer,
        id=f"{sample.id}@{epoch}",
        chat=replace(chat, end=()) if text else replace(chat, user=sample.prompt),
        question=None if text else (),
        learn_end=not isinstance(objective, Cpt) and objective.learn_end,
    )
