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

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from demask.objectives.fragments import FragmentPrompts, draw_fragment, telling_words
from demask.objectives.masking import (
    draw_masking,
    draw_ratio,
    entity_groups,
    find_mentions,
    keyed_rng,
    word_groups,
)
from demask.objectives.objective import KEPT, Context, ExampleMaker, Needs, Objective
from demask.objectives.prompts import ChatFormat, encode
from demask.records import IGNORE_INDEX, Example, Sample
from demask.section import RatioRange

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# The wording of Pan et al. 2025 (arXiv 2510.09885); `{unit}` of the answer is the passage.
INSTRUCTION = "\nReturn the recovered masked passage."
OPENING = "Here is the recovered text:\n\n"
# Ours, the preset `fast`: about as much learned from half of the tokens (docs/benchmarks.md).
FAST_UNIT: Literal["word"] = "word"
FAST_RATIO = (0.4, 0.95)
FAST_INSTRUCTION = "\nRestore."
FAST_OPENING = ""
# Where only what is hidden is written, and what stands between two stretches of it.
SPANS_INSTRUCTION = "\nFill the gaps."
SPANS_SEPARATOR = "\n"
# The paper's, and ours beside it: short and long, as questions and as orders, with and without "text".
INSTRUCTIONS = (
    INSTRUCTION,
    "\nWrite the passage above again, with every gap filled in.",
    "\nSome words of this text are missing. Give the whole text.",
    "\nWhat did it say before parts of it were hidden?",
    "\nRestore the original.",
    "\nComplete what stands above and write it out in full.",
    "\nPlease put back what was left out, and repeat everything else as it stands.",
    "\nThis is a damaged copy. What is the original?",
)
VARIED = "varied"  # stands for all of them in a recipe
# In place of a mask token: an ordinary token at random, so that the prompt does not say what is hidden.
RANDOM_TOKEN = "<random>"


class Demasking(Objective):
    """The document stands masked in the prompt; the model writes the original."""

    shows_text: ClassVar[bool] = True

    name: Literal["demasking"] = "demasking"
    mask_ratio: RatioRange = Field(
        FAST_RATIO,
        description="chance that a token is masked, or a range of it, drawn uniformly per example; "
        "paper: 0.05 to 0.95",
    )
    loss_on: Literal["all", "masked"] = Field(
        "all", description="paper: all document tokens and the end token"
    )
    unit: Literal["token", "word", "entity"] = Field(
        FAST_UNIT, description="what is masked together; entity: names whole, all else by words; paper: token"
    )
    mask_token: str | None = Field(
        None, description="one token of the vocabulary; none: by family; <random>: another one each time"
    )
    entity: Literal["as-others", "never", "always"] = Field(
        "as-others", description="whether what the document is about (its key `entity`) is masked"
    )
    instruction: str | tuple[str, ...] = Field(
        FAST_INSTRUCTION,
        description="follows the masked text; of several, or of ours (`varied`), one is drawn",
    )
    opening: str = Field(
        FAST_OPENING, description="stands before the completion, without loss; none: nothing does"
    )
    fragments: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the examples whose prompt has a few words of the document, as a question has, "
        "and no masked copy",
    )
    copies: int = Field(
        1, gt=0, description="masked copies of a passage in the same step; each counts as an exposure"
    )
    complementary: bool = Field(
        False,
        description="of two masked copies one hides what the other shows; needs an even number",
    )
    spans: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the examples that write only what the prompt hides, each stretch of it on a "
        "line of its own; the others write the whole document",
    )

    @property
    def wordings(self) -> tuple[str, ...]:
        """The instructions that one is drawn of."""
        return (self.instruction,) if isinstance(self.instruction, str) else self.instruction

    @field_validator("instruction", mode="before")
    @classmethod
    def _a_text_or_several(cls, value: Any) -> Any:
        if isinstance(value, str):
            return INSTRUCTIONS if value == VARIED else value
        if isinstance(value, list | tuple) and value and all(isinstance(text, str) for text in value):
            return tuple(value)
        raise ValueError(f"expected a text, a list of texts or '{VARIED}', got {value!r}")

    @model_validator(mode="after")
    def _complements_come_in_pairs(self) -> "Demasking":
        if self.complementary and self.copies % 2:
            raise ValueError(
                f"complementary with copies {self.copies}, expected an even number of copies; set copies to 2"
            )
        return self

    @property
    def needs(self) -> Needs:
        """A mask token, unless random ones stand there."""
        return Needs() if self.mask_token == RANDOM_TOKEN else Needs(mask=True, mask_token=self.mask_token)

    @property
    def variants(self) -> int:
        """Masked copies."""
        return self.copies

    @property
    def together(self) -> int:
        """All of them."""
        return self.copies

    def example_length(self, context: Context) -> Callable[[int, int], int]:
        """The passage, its copy, and the longest wording around them, with two tokens to spare."""
        chat = context.chat
        around = len(chat.user) + len(chat.assistant) + len(chat.end) + len(chat.bos) + 2
        wordings = (*self.wordings, SPANS_INSTRUCTION) if self.spans else self.wordings
        asked = max(len(context.encode(wording + self.opening)) for wording in wordings)
        if self.fragments:
            fragment = FragmentPrompts(context.tokenizer).longest + len(context.encode(self.opening))
            asked = max(asked, fragment)
        around += asked
        return lambda prompt, completion: around + 2 * completion

    def example_maker(self, context: Context, *, seed: int) -> ExampleMaker:
        """Masks are drawn first, so that they are the same whatever the wordings."""
        tokenizer, chat = context.tokenizer, context.chat
        instructions = [context.encode(wording) for wording in self.wordings]
        opening = context.encode(self.opening)
        ordinary = ordinary_tokens(tokenizer) if self.mask_token == RANDOM_TOKEN else ()
        one_for_all = None if ordinary else context.needed_mask_id
        fragment_prompts = FragmentPrompts(context.tokenizer)
        fill_the_gaps = context.encode(SPANS_INSTRUCTION)
        line = context.encode(SPANS_SEPARATOR)
        mentions_masked = self._make_entity_masks(tokenizer)

        @lru_cache(maxsize=KEPT)
        def group_tokens(text: str) -> tuple[int, ...]:
            return self._group_tokens(tokenizer, text)

        def writes_spans(rng: random.Random) -> bool:
            return bool(self.spans) and rng.random() < self.spans

        def fragment(sample: Sample, rng: random.Random, *, id: str) -> Example:
            words = word_groups(tokenizer, sample.text)
            masked = mentions_masked(sample, draw_fragment(words, telling_words(sample.text), rng))
            asked = fragment_prompts.write(sample.answer, masked, rng)
            prompt = (*chat.user, *asked, *chat.assistant, *opening)
            between = line if writes_spans(rng) else None
            written, hidden = _choose_written(sample.answer, masked, between)
            return _make_example(prompt, written, hidden, chat.end, id=id, loss_on=self.loss_on)

        def make(sample: Sample, epoch: int, variant: int) -> Example:
            groups = group_tokens(sample.text)
            complement = self.complementary and variant % 2 == 1
            id = f"{sample.id}@{epoch}.{variant}"
            rng = keyed_rng(seed, sample.id, epoch, variant - complement)
            if self.fragments and rng.random() < self.fragments:
                own = keyed_rng(seed, sample.id, epoch, variant, "fragment") if complement else rng
                return fragment(sample, own, id=id)
            masked = draw_masking(groups, draw_ratio(rng, *self.mask_ratio), rng)
            if complement:
                masked = tuple(not hide for hide in masked)
            masked = mentions_masked(sample, masked)
            instruction = rng.choice(instructions)
            shown = tuple(rng.choices(ordinary, k=len(groups))) if one_for_all is None else one_for_all
            between = None
            if writes_spans(rng):
                instruction, between = fill_the_gaps, line
            return make_demasking_example(
                sample.answer,
                masked,
                id=id,
                form=DemaskingForm(chat, shown, instruction, opening),
                loss_on=self.loss_on,
                between=between,
            )

        return make

    def probes(self, context: Context, sample: Sample) -> tuple[Example, ...]:
        """Two examples that show whether the text is in, see `make_probes`; a single word has no halves."""
        words = word_groups(context.tokenizer, sample.text)
        if words[0] == words[-1]:
            return ()
        form = DemaskingForm(
            context.chat,
            context.needed_mask_id,
            context.encode(self.wordings[0]),
            context.encode(self.opening),
        )
        return make_probes(sample.answer, words, id=sample.id, form=form)

    def _make_entity_masks(
        self, tokenizer: "PreTrainedTokenizerBase"
    ) -> Callable[[Sample, tuple[bool, ...]], tuple[bool, ...]]:
        """What masks the mentions of a sample's entity as the recipe says, whatever was drawn."""
        if self.entity == "as-others":
            return lambda sample, masked: masked
        fate = self.entity == "always"

        @lru_cache(maxsize=KEPT)
        def mentions(text: str, entity: str) -> tuple[bool, ...]:
            return find_mentions(tokenizer, text, entity)

        def mask(sample: Sample, masked: tuple[bool, ...]) -> tuple[bool, ...]:
            its = mentions(sample.text, sample.entity)
            return tuple(fate if one else hide for one, hide in zip(its, masked, strict=True))

        return mask

    def _group_tokens(self, tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[int, ...]:
        match self.unit:
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
    between: tuple[int, ...] | None = None,
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
        between: the completion is what is hidden alone, with these tokens between two stretches of it; none:
            the passage. Where nothing is hidden it is the passage, too.

    Raises:
        ValueError: `masked`, or what stands for masked tokens, does not cover the passage.
    """
    if len(masked) != len(ids):
        raise ValueError(f"{len(masked)} mask flags for {len(ids)} tokens")
    mask_ids = repeat(form.mask_id, len(ids)) if isinstance(form.mask_id, int) else form.mask_id
    shown = tuple(mask if hide else token for token, mask, hide in zip(ids, mask_ids, masked, strict=True))
    prompt = (*form.chat.user, *shown, *form.instruction, *form.chat.assistant, *form.opening)
    end = form.chat.end
    written, hidden = _choose_written(ids, masked, between)
    return _make_example(prompt, written, hidden, end, id=id, loss_on=loss_on, learn_end=learn_end)


def _make_example(
    prompt: Sequence[int],
    ids: Sequence[int],
    masked: Sequence[bool],
    end: tuple[int, ...],
    *,
    id: str,
    loss_on: Literal["all", "masked"],
    learn_end: bool = True,
) -> Example:
    """A prompt, and the passage as its completion."""
    scored = tuple(
        token if hide or loss_on == "all" else IGNORE_INDEX for token, hide in zip(ids, masked, strict=True)
    )
    return Example(
        id=id,
        token_ids=(*prompt, *ids, *end),
        labels=(*(IGNORE_INDEX,) * len(prompt), *scored, *(end if learn_end else (IGNORE_INDEX,) * len(end))),
        masked=(*(False,) * len(prompt), *masked, *(False,) * len(end)),
    )


def _choose_written(
    ids: Sequence[int], masked: Sequence[bool], between: tuple[int, ...] | None
) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """What is written, and which of it the prompt hides: the passage, or its hidden stretches alone."""
    if between is None or not any(masked):
        return tuple(ids), tuple(masked)
    written: list[int] = []
    for place, (token, hide) in enumerate(zip(ids, masked, strict=True)):
        if hide:
            written += [*(between if written and not masked[place - 1] else ()), token]
    return tuple(written), (True,) * len(written)


def make_probes(
    ids: Sequence[int], words: Sequence[int], *, id: str, form: DemaskingForm
) -> tuple[Example, Example]:
    """Whether a text is in, without test questions: each half of it is to be written from the other.

    Shown its second half, a model that has the text writes the first, and the other way round: both
    directions of the text, as questions ask for them. Ours; no source. Only what is hidden carries loss.

    Args:
        ids: the passage.
        words: the number of the word that each token belongs to; no word is cut in two.
        id: names the examples.
        form: what stands around the passage.
    """
    middle = words[len(words) // 2]
    first = [word < middle for word in words]
    return (
        make_demasking_example(ids, first, id=f"{id}@first", form=form, loss_on="masked"),
        make_demasking_example(
            ids, [not hide for hide in first], id=f"{id}@second", form=form, loss_on="masked"
        ),
    )
