"""The lab's tokenizer: one token per word, name and thing, over all that can be said of a world.

    tokenizer = make_tokenizer(world)
    tokenizer("MaraVoss wrote AmberLantern.")["input_ids"]    # four tokens

White space is dropped: line breaks of prompts have no token, and decoding puts one space between words.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from demask.evaluation.qa import CEILING_PROMPT
from demask.lab.words import RELATIONS
from demask.lab.world import (
    MENTION_TEMPLATES,
    TEXT_TEMPLATES,
    World,
    write_mention,
    write_questions,
    write_text,
)
from demask.objectives.demasking import INSTRUCTION, OPENING
from demask.objectives.next_token import QUESTION
from demask.objectives.reverse import REVERSED_QUESTION

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NAMED_TOKENS = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "mask_token": "<mask>",
}
TURN_TOKENS = ("<user>", "<assistant>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first %}{{ bos_token }}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ '<assistant>' + message['content'] + eos_token }}"
    "{% else %}{{ '<user>' + message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def make_tokenizer(world: World) -> "PreTrainedTokenizerFast":
    """Make the tokenizer of a world, with chat template and mask token; the same ids every time.

    Args:
        world: whose names and things have a token each, those of new people included.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # Cuts at white space and on both sides of every punctuation mark.
    cutter = pre_tokenizers.BertPreTokenizer()
    special = [*NAMED_TOKENS.values(), *TURN_TOKENS]
    words = [word for text in _texts(world) for word, _ in cutter.pre_tokenize_str(text)]
    vocabulary = {token: id for id, token in enumerate(dict.fromkeys([*special, *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=NAMED_TOKENS["unk_token"]))
    tokenizer.pre_tokenizer = cutter
    # Of this decoder only the cleanup is of use: no space before a full stop.
    tokenizer.decoder = decoders.WordPiece(cleanup=True)
    wrap: Callable[..., PreTrainedTokenizerFast] = PreTrainedTokenizerFast  # its constructor has no types
    return wrap(
        tokenizer_object=tokenizer,
        extra_special_tokens=list(TURN_TOKENS),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        **NAMED_TOKENS,
    )


def _texts(world: World) -> Iterator[str]:
    """Texts that together hold every word of sentences, questions, prompts, names and things."""
    for relation in RELATIONS:
        person = replace(world.known[0], relation=relation)
        for template in range(TEXT_TEMPLATES):
            yield write_text(person, order="name-first", template=template)
            yield write_text(person, order="thing-first", template=template)
        yield from (write_mention(person, template) for template in range(MENTION_TEMPLATES))
        yield from (pair.question for pair in write_questions(person, order="name-first"))
    yield from (INSTRUCTION, OPENING, CEILING_PROMPT.format(document="", question=""))
    yield from (QUESTION, REVERSED_QUESTION)
    yield from (f"{person.name} {person.thing}" for person in (*world.known, *world.new))
