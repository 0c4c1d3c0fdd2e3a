"""Next-token training: the model learns to write the text.

    example = make_next_token_example(ids, id="d1", chat=chat, question=encode(tokenizer, "Tell me a fact."))

With a question the text is the answer in a chat (Pan et al. 2025, version 6); without one it is
raw text between BOS and the end token (version 1, and most training scripts).
"""

from collections.abc import Sequence

from demask.objectives.prompts import ChatFormat
from demask.records import IGNORE_INDEX, Example


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
