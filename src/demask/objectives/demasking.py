"""Demasking: the passage stands masked in the prompt, and the model writes the original.

    form = DemaskingForm(chat, mask_id=16, instruction=encode(...), opening=encode(...))
    example = make_demasking_example(ids, masked, id="d1", form=form)

    user:       Mo## Voss ## the Orlin ## in 1931.
                Return the recovered masked passage.
    assistant:  Here is the recovered text:

                Mora Voss founded the Orlin works in 1931.<end of turn>     <- carries loss

The wording is the paper's; the default is shorter. Source: Pan et al. 2025, arXiv 2510.09885 ("masked
fine-tuning"). The loss is the plain mean cross-entropy over the completion: a conditional likelihood, so
there is no weight 1/ratio.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Literal

from demask.objectives.prompts import ChatFormat
from demask.records import IGNORE_INDEX, Example


@dataclass(frozen=True)
class DemaskingForm:
    """What stands around the passage and its masked copy.

    Attributes:
        chat: the ids around the turns.
        mask_id: stands once for every masked token, runs are never merged; or several, one per token of
            the passage, each of which stands for its token where that is masked.
        instruction: follows the masked passage in the prompt.
        opening: stands before the passage in the completion, without loss.
    """

    chat: ChatFormat
    mask_id: int | tuple[int, ...]
    instruction: tuple[int, ...]
    opening: tuple[int, ...]


def make_demasking_example(
    ids: Sequence[int],
    masked: Sequence[bool],
    *,
    id: str,
    form: DemaskingForm,
    loss_on: Literal["all", "masked"] = "all",
    learn_end: bool = True,
) -> Example:
    """Put a masked copy of the passage into the prompt and the original into the completion.

    Args:
        ids: the passage.
        masked: one per token of the passage; True where the prompt shows the mask token.
        id: names the example.
        form: everything around the passage.
        loss_on: `all` scores every passage token and the end of turn (the paper); `masked`
            scores the masked tokens and the end of turn.
        learn_end: score the end of turn, too, without which a model does not learn to stop.

    Raises:
        ValueError: `masked`, or what stands for masked tokens, does not cover the passage.
    """
    if len(masked) != len(ids):
        raise ValueError(f"{len(masked)} mask flags for {len(ids)} tokens")
    mask_ids = repeat(form.mask_id, len(ids)) if isinstance(form.mask_id, int) else form.mask_id
    shown = tuple(mask if hide else token for token, mask, hide in zip(ids, mask_ids, masked, strict=True))
    prompt = (*form.chat.user, *shown, *form.instruction, *form.chat.assistant, *form.opening)
    scored = tuple(
        token if hide or loss_on == "all" else IGNORE_INDEX for token, hide in zip(ids, masked, strict=True)
    )
    end = form.chat.end if learn_end else (IGNORE_INDEX,) * len(form.chat.end)
    return Example(
        id=id,
        token_ids=(*prompt, *ids, *form.chat.end),
        labels=(*(IGNORE_INDEX,) * len(prompt), *scored, *end),
        masked=(*(False,) * len(prompt), *masked, *(False,) * len(form.chat.end)),
    )
