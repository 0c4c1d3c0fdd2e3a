"""How a prompt and a completion are written in a model's own chat format.

    chat = load_chat_format(tokenizer)          # also runs the self-test
    prompt = (*chat.user, *masked_ids, *instruction_ids, *chat.assistant)
    completion = (*opening_ids, *document_ids, *chat.end)

The format is cut into token ids once, at the places where the two turns stand, so that a
document keeps exactly the same ids in the prompt and in the completion.

A base model without a template gets `PLAIN_TEMPLATE`, which is saved with its tokenizer, so
that a server asks its questions in the words it was trained on.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from demask.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Ours: the shortest pair of turns that a base model continues sensibly. Line breaks stand before the
# words of both, since a space would join with a word into one token, in questions but not in training.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first %}{{ bos_token or '' }}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ 'Assistant:\\n' + message['content'] + eos_token + '\\n' }}"
    "{% else %}{{ 'User:\\n' + message['content'] + '\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:\\n' }}{% endif %}"
)

# What a template raises that cannot be filled in: Jinja's errors, and Python's where it computes.
TEMPLATE_ERRORS = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
# Texts that are tokenised together: enough for all cores, few enough that their ids take no memory.
_AT_ONCE = 1000
# Stand in for the two turns while the template is cut; letters only, as templates strip and escape.
USER_MARK, ASSISTANT_MARK = "DEMASKUSERTURN", "DEMASKASSISTANTTURN"


@dataclass(frozen=True)
class ChatFormat:
    """The token ids around the two turns.

    Attributes:
        user: everything before the user's words.
        assistant: everything between the user's and the assistant's words.
        end: ends the assistant's turn; learned, and stops decoding.
        bos: what raw text begins with, empty when the model has none.
    """

    user: tuple[int, ...]
    assistant: tuple[int, ...]
    end: tuple[int, ...]
    bos: tuple[int, ...]


def encode(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[int, ...]:
    """Token ids of plain text: no BOS or EOS is added, and `<|eos|>` in a text is only letters."""
    return tuple(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def count_tokens(tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str]) -> list[int]:
    """Tokens of each text, as `encode` gives them; many at once, which fast tokenizers do in parallel."""
    counts: list[int] = []
    stream = iter(texts)
    while part := list(islice(stream, _AT_ONCE)):
        counts += map(len, encode_all(tokenizer, part))
    return counts


def encode_all(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """Token ids of plain texts as `encode` gives them; many at once, which fast tokenizers do in parallel."""
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(
        list(texts),
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        verbose=False,  # texts that are too long are judged by us
    )["input_ids"]
    return ids


def is_byte_level(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether a text of n bytes (UTF-8) has at most n tokens: every token stands for bytes as they are."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.normalizer is not None or backend.pre_tokenizer is None:
        return False
    pre = json.loads(backend.to_str())["pre_tokenizer"]
    steps = pre["pretokenizers"] if pre["type"] == "Sequence" else [pre]
    # The steps before it cut the text; a space put in front would be a byte more.
    return steps[-1]["type"] == "ByteLevel" and not any(step.get("add_prefix_space") for step in steps)


def render_question(tokenizer: "PreTrainedTokenizerBase", question: str) -> str:
    """The prompt as text, up to the first token that the model must say."""
    return _render(tokenizer, [{"role": "user", "content": question}], ask=True)


def encode_question(tokenizer: "PreTrainedTokenizerBase", question: str) -> tuple[int, ...]:
    """The prompt as token ids, cut as in training: only the template's own special tokens are special."""
    before, between = render_question(tokenizer, USER_MARK).split(USER_MARK)
    return (*template_ids(tokenizer, before), *encode(tokenizer, question), *template_ids(tokenizer, between))


def load_chat_format(tokenizer: "PreTrainedTokenizerBase") -> ChatFormat:
    """Cut the tokenizer's template into the ids around the two turns, and test it.

    Raises:
        ModelError: the prompt is not a prefix of prompt and completion, begins with two BOS
            tokens, cannot be written, or the turn ends with no special token, so that decoding would
            not stop.
    """
    prompt = render_question(tokenizer, USER_MARK)
    turns = [{"role": "user", "content": USER_MARK}, {"role": "assistant", "content": ASSISTANT_MARK}]
    whole = _render(tokenizer, turns, ask=False)
    if prompt.count(USER_MARK) != 1 or whole.count(ASSISTANT_MARK) != 1:
        raise ModelError("chat template: drops or repeats a turn; expected user and assistant once each")
    before, between = prompt.split(USER_MARK)
    head, tail = whole.split(ASSISTANT_MARK)
    if head.rstrip() != prompt.rstrip() and not prompt.startswith(head):
        raise ModelError(
            "chat template: the prompt is not a prefix of prompt and completion "
            f"({prompt[-40:]!r} against {head[-40:]!r}); set another template in the tokenizer"
        )
    bos = () if tokenizer.bos_token_id is None else (int(tokenizer.bos_token_id),)
    chat = ChatFormat(
        user=template_ids(tokenizer, before),
        assistant=template_ids(tokenizer, between),
        end=_end_of_turn(tokenizer, tail),
        bos=bos,
    )
    if bos and chat.user[:2] == bos * 2:
        raise ModelError("chat template: begins with two BOS tokens, expected one")
    return chat


def render_turns(
    tokenizer: "PreTrainedTokenizerBase",
    turns: list[dict[str, str]],
    *,
    ask: bool,
    tools: list[Any] | None = None,
) -> str:
    """Turns as the template writes them; to `ask` adds what stands before an answer.

    Args:
        tokenizer: has the template.
        turns: with `role` and `content`.
        ask: whether the assistant is to answer.
        tools: that it may call, as JSON schemas.

    Raises:
        TemplateError: the template cannot write them.
    """
    # enable_thinking: hybrid models (Qwen3) then answer at once, in training and in questions.
    text = tokenizer.apply_chat_template(
        turns, tools=tools, tokenize=False, add_generation_prompt=ask, enable_thinking=False
    )
    return str(text)


def _render(tokenizer: "PreTrainedTokenizerBase", turns: list[dict[str, str]], *, ask: bool) -> str:
    try:
        return render_turns(tokenizer, turns, ask=ask)
    except TEMPLATE_ERRORS as error:
        raise ModelError(
            f"chat template: cannot write one user and one assistant turn ({error}); "
            "set another template in the tokenizer"
        ) from error


def template_ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[int, ...]:
    """Token ids of what a template writes around texts: its special tokens are special."""
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()


def _end_of_turn(tokenizer: "PreTrainedTokenizerBase", tail: str) -> tuple[int, ...]:
    """The ids after the assistant's words up to the first special token; what follows belongs to no turn."""
    ids = template_ids(tokenizer, tail)
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    for place, token in enumerate(ids):
        if token in special:
            return ids[: place + 1]
    raise ModelError(
        f"chat template: the assistant's turn ends with {tail!r}, expected a special token such as "
        f"{tokenizer.eos_token!r}; without one the model never learns to stop"
    )
