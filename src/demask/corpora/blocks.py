"""Running text as blocks of equally many tokens, for continued pre-training.

    end = find_end_of_text(tokenizer)
    for placed in make_blocks(documents, tokenizer=tokenizer, end=end, length=512):
        placed.sample.answer  # the block's ids; its prompt is empty

Each text is followed by the end-of-text token; all are joined and cut. The last block may be shorter;
nothing is lost.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from demask.corpora.samples import Placed, gather
from demask.errors import ModelError
from demask.objectives.prompts import encode_all
from demask.records import Document, Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What model families put between texts in pre-training; the eos token of a chat model only ends a turn.
_ENDS = ("<|endoftext|>", "<|end_of_text|>", "<|end▁of▁sentence|>", "<eos>", "</s>")


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
