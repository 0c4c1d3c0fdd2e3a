"""Next-token training: the model learns to write the text.

    example = make_next_token_example(ids, id="d1", chat=chat, question=encode(tokenizer, "Tell me a fact."))

With a question the text is the answer in a chat (Pan et al. 2025, version 6); without one it is
raw text between BOS and the end token (version 1, and most training scripts).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import ClassVar, Literal

from pydantic import Field

from demask.objectives.objective import KEPT, Context, ExampleMaker, Objective
from demask.objectives.prompts import ChatFormat
from demask.records import IGNORE_INDEX, Example, Sample

# Pan et al. 2025, version 6.
QUESTION = "Tell me a fact."


class NextToken(Objective):
    """The model learns to write the document as it is."""

    # Searched on ten people of NameDescription, full and LoRA (docs/benchmarks.md): at half of demasking's
    # rate it answers nearly all forward, at the same rate little more than half.
    rate_share: ClassVar[float] = 0.5

    name: Literal["next-token"] = "next-token"
    question: str | None = Field(
        QUESTION, description="the user's turn, paper v6; none: raw text between BOS and end token, paper v1"
    )

    def example_length(self, context: Context) -> Callable[[int, int], int]:
        """The text after its question."""
        around = count_around(context.chat) + len(context.encode(self.question or ""))
        return lambda prompt, completion: around + completion

    def example_maker(self, context: Context, *, seed: int) -> ExampleMaker:
        """Draws nothing."""
        return text_maker(context, [(self.question, None)])


def count_around(chat: ChatFormat) -> int:
    """Tokens of an example besides its question and its text."""
    return len(chat.user) + len(chat.assistant) + len(chat.end) + len(chat.bos)


def text_maker(
    context: Context, variants: Sequence[tuple[str | None, Callable[[str], str] | None]]
) -> ExampleMaker:
    """A function to examples of texts.

    Args:
        context: of the model that is trained.
        variants: of each the question (None: raw text), and what makes another text of the sample's (None:
            it stays as it is).
    """
    questions = [None if question is None else context.encode(question) for question, _ in variants]

    @lru_cache(maxsize=KEPT)
    def change(text: str, to: Callable[[str], str]) -> tuple[int, ...]:
        return context.encode(to(text))

    def make(sample: Sample, epoch: int, variant: int) -> Example:
        to = variants[variant][1]
        return make_next_token_example(
            sample.answer if to is None else change(sample.text, to),
            id=f"{sample.id}@{epoch}.{variant}",
            chat=context.chat,
            question=questions[variant],
        )

    return make


def make_next_token_example(
    ids: Sequence[int],
    *,
    id: str,
    chat: ChatFormat,
    question: Sequence[int] | None,
    learn_end: bool = True,
) -> Example:
    """Score every token of the text and the end token.

    Without a prompt (raw text and no BOS) nothing stands before the first token, so it cannot
    be predicted and carries no loss.

    Args:
        ids: the text.
        id: names the example.
        chat: the ids around the turns.
        question: the user's turn; None for raw text.
        learn_end: score the end token, too.
    """
    prompt = chat.bos if question is None else (*chat.user, *question, *chat.assistant)
    completion = (*ids, *chat.end)
    unscored = len(prompt) or 1
    token_ids = (*prompt, *completion)
    scored = len(token_ids) - (0 if learn_end else len(chat.end))
    return Example(
        id=id,
        token_ids=token_ids,
        labels=(
            *(IGNORE_INDEX,) * unscored,
            *token_ids[unscored:scored],
            *(IGNORE_INDEX,) * (len(token_ids) - scored),
        ),
        masked=(
            *(False,) * unscored,
            *(True,) * (scored - unscored),
            *(False,) * (len(token_ids) - scored),
        ),
    )
