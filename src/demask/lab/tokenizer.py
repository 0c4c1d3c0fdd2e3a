"""The lab's tokenizer: one token per word, over every word that the lab can say.

    tokenizer = make_tokenizer()
    tokenizer("Mara Voss wrote Amber Lantern.")["input_ids"]    # six tokens

It is made from the word lists and not from a world, so that worlds of all seeds share it. White space
is dropped: line breaks of prompts have no token, and decoding puts one space between words.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from demask.config import INSTRUCTION, OPENING, NextToken, Reverse
from demask.evaluation.qa import CEILING_PROMPT
from demask.lab.words import ADJECTIVES, CITIES, FIRST_NAMES, INSTRUMENTS, LAST_NAMES, NOUNS, RELATIONS
from demask.lab.world import (
    PORTRAIT_TEMPLATES,
    TEXT_TEMPLATES,
    Person,
    write_portrait,
    write_portrait_questions,
    write_questions,
    write_text,
)

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


def make_tokenizer() -> "PreTrainedTokenizerFast":
    """Make the tokenizer, with chat template and mask token; the same ids every time."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # Cuts at white space and on both sides of every punctuation mark.
    cutter = pre_tokenizers.BertPreTokenizer()
    special = [*NAMED_TOKENS.values(), *TURN_TOKENS]
    words = [word for text in _texts() for word, _ in cutter.pre_tokenize_str(text)]
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


def _texts() -> Iterator[str]:
    """Texts that together hold every word of lists, sentences, questions and prompts."""
    yield from (*FIRST_NAMES, *LAST_NAMES, *ADJECTIVES, *NOUNS, *CITIES, *INSTRUMENTS)
    for relation in RELATIONS:
        title = f"{ADJECTIVES[0]} {NOUNS[0]}"
        person = Person("", FIRST_NAMES[0], LAST_NAMES[0], relation, title, CITIES[0], INSTRUMENTS[0])
        for template in range(TEXT_TEMPLATES):
            yield write_text(person, order="name-first", template=template)
            yield write_text(person, order="thing-first", template=template)
        yield from (write_portrait(person, template) for template in range(PORTRAIT_TEMPLATES))
        yield from (pair.question for pair in write_questions(person, order="name-first"))
        yield from (pair.question for pair in write_portrait_questions(person, known=[person]))
    yield from (INSTRUCTION, OPENING, CEILING_PROMPT.format(document="", question=""))
    yield from (NextToken().question, Reverse().question, Reverse().reversed_question)
