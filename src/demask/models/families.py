"""What differs between model families and cannot be read from their files.

mask_id = choose_mask_id(tokenizer, wanted=None)
"""

from typing import TYPE_CHECKING

from demask.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Tried in this order; the first that is one token of the vocabulary stands for a masked token.
MASK_TOKENS = (
    "<|reserved_special_token_5|>",  # Llama 3, id 128013: Pan et al. 2025
    "<empty_output>",  # SmolLM2: a special token without a use in text
    "<unused5>",  # Gemma
    "[control_8]",  # Mistral
    "[]",  # Qwen: Pan et al. 2025; an ordinary token, found in code only
)


def choose_mask_id(
    tokenizer: "PreTrainedTokenizerBase", wanted: str | None = None, *, rows: int | None = None
) -> int:
    """The id of the token that stands for a masked token in prompts.

    Args:
        tokenizer: of the model that is trained.
        wanted: the user's choice; None picks by family, the tokenizer's own mask token first.
        rows: of the embedding, one of which it must have; None: rows may be added.

    Raises:
        ModelError: the choice is not one token of the vocabulary, or no choice fits.
    """
    if wanted is not None:
        found = _single_token(tokenizer, wanted)
        if found is None or not _has_row(found, rows):
            raise ModelError(
                f"objective.mask_token: {wanted!r} is not one token of this model's vocabulary; "
                "choose another, for example a special token of its tokenizer"
            )
        return found
    own = getattr(tokenizer, "mask_token_id", None)
    if isinstance(own, int) and _has_row(own, rows):
        return own
    for token in MASK_TOKENS:
        found = _single_token(tokenizer, token)
        if found is not None and _has_row(found, rows):
            return found
    raise ModelError(
        "this tokenizer has no usable mask token (neither its own nor one of "
        f"{', '.join(MASK_TOKENS)}); name one of its tokens in objective.mask_token"
    )


def _has_row(token_id: int, rows: int | None) -> bool:
    return rows is None or token_id < rows


def _single_token(tokenizer: "PreTrainedTokenizerBase", text: str) -> int | None:
    vocabulary = tokenizer.get_vocab()
    if text in vocabulary:
        return int(vocabulary[text])
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return int(ids[0]) if len(ids) == 1 and ids[0] != tokenizer.unk_token_id else None
