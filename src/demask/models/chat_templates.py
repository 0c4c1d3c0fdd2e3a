"""Chat templates as they are trained, asked and stored: plain text in, no open thought, no clock.

    settle_template(tokenizer, processor_template=None)

What a template does that training or asking cannot follow is mended in the template itself. It is stored with
the model, so a server asks in the words that were trained.
"""

import json
from typing import TYPE_CHECKING, Any

from demask.errors import ModelError
from demask.objectives.prompts import (
    ASSISTANT_MARK,
    PLAIN_TEMPLATE,
    TEMPLATE_ERRORS,
    USER_MARK,
    render_turns,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Opens a thought at the end of a prompt, and what closes it: DeepSeek R1, QwQ and Qwen3 Thinking, Magistral,
# Command A Reasoning, Seed-OSS.
_THOUGHTS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "[THINK]": "[/THINK]",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<seed:think>": "</seed:think>",
}
# An empty thought as Qwen3 and those after it write it: a line break after its start, two after its end.
_AFTER_OPENING, _AFTER_CLOSING = "\n\n", "\n\n"
# Templates that write today's date are given one day, so that a prompt is the same in training, asking and
# resuming. It is the day that Llama 3.1's template falls back to where there is no clock.
_DAY = {
    "%A": "Friday",
    "%B": "July",
    "%H": "00",
    "%I": "12",
    "%M": "00",
    "%S": "00",
    "%Y": "2024",
    "%Z": "UTC",
    "%a": "Fri",
    "%b": "Jul",
    "%d": "26",
    "%e": "26",
    "%j": "208",
    "%m": "07",
    "%p": "AM",
    "%y": "24",
    "%-d": "26",
    "%-m": "7",
    "%F": "2024-07-26",
    "%D": "07/26/24",
    "%T": "00:00:00",
    "%x": "07/26/24",
    "%X": "00:00:00",
    "%c": "Fri Jul 26 00:00:00 2024",
}
_CLOCK = "strftime_now"
_FIXED_CLOCK = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f" | replace('{code}', '{text}')" for code, text in _DAY.items())
    # The last keeps a line break that the template begins with.
    + " }}{%- endmacro %}{{ '' }}"
)
# Servers send a text where these templates expect a list of parts.
_TEXT_AS_PARTS = (
    "{%- set turns = namespace(all=[]) -%}{%- for message in messages -%}"
    "{%- if message['content'] is string -%}"
    "{%- set message = dict(message, content=[{'type': 'text', 'text': message['content']}]) -%}"
    "{%- endif -%}{%- set turns.all = turns.all + [message] -%}{%- endfor -%}"
    "{%- set messages = turns.all %}{{ '' }}"
)


def settle_template(tokenizer: "PreTrainedTokenizerBase", processor_template: str | None = None) -> None:
    """Give a tokenizer a template that can be trained and asked, where its own can be mended.

    A model without one gets `PLAIN_TEMPLATE`. What cannot be mended stays, and `load_chat_format` says what
    is wrong.

    Args:
        tokenizer: gets the template.
        processor_template: the model's own, where it stands with what prepares images.

    Raises:
        ModelError: it has several templates, and none is the usual one.
    """
    named: Any = tokenizer.chat_template
    if not isinstance(named, dict):
        tokenizer.chat_template = _settled(tokenizer, named or processor_template or PLAIN_TEMPLATE)
        return
    if "default" not in named:
        raise ModelError(
            f"chat template: the tokenizer has those of {', '.join(sorted(named))}, expected one named "
            "'default'; name it so in the tokenizer"
        )
    template = _settled(tokenizer, named["default"])
    tokenizer.chat_template = {**named, "default": template}


def _settled(tokenizer: "PreTrainedTokenizerBase", template: str) -> str:
    if _CLOCK in template and _FIXED_CLOCK not in template:
        template = _FIXED_CLOCK + template
    tokenizer.chat_template = template
    if not _shows_text(tokenizer):
        tokenizer.chat_template = _TEXT_AS_PARTS + template
        template = tokenizer.chat_template if _shows_text(tokenizer) else template
    tokenizer.chat_template = template
    closing = _find_closing(tokenizer)
    return _with_ending(tokenizer, template, closing) if closing else template


def _shows_text(tokenizer: "PreTrainedTokenizerBase") -> bool:
    return USER_MARK in (_try(tokenizer, [{"role": "user", "content": USER_MARK}], ask=True) or "")


def _find_closing(tokenizer: "PreTrainedTokenizerBase") -> str:
    """What must follow the prompt so that an answer may stand there; empty for nothing."""
    user, answer = ({"role": "user", "content": USER_MARK}, {"role": "assistant", "content": ASSISTANT_MARK})
    prompt, whole = _try(tokenizer, [user], ask=True), _try(tokenizer, [user, answer], ask=False)
    if prompt is None or whole is None:
        return ""
    head = whole.partition(ASSISTANT_MARK)[0]
    if head.startswith(prompt):  # the template's own way, such as an empty thought, or gpt-oss's channel
        rest = head[len(prompt) :]
        return rest if rest.strip() else ""
    opened = next((opening for opening in _THOUGHTS if prompt.rstrip().endswith(opening)), None)
    if opened is None:
        return ""
    breaks = prompt[len(prompt.rstrip()) :]
    return _AFTER_OPENING.removeprefix(breaks) + _THOUGHTS[opened] + _AFTER_CLOSING


def _with_ending(tokenizer: "PreTrainedTokenizerBase", template: str, closing: str) -> str:
    """The template with something more at the end of every prompt, unless `enable_thinking` is true.

    Where that is not what comes of it, the template as it was.
    """
    question = [{"role": "user", "content": USER_MARK}]
    before = _try(tokenizer, question, ask=True)
    text = json.dumps(closing, ensure_ascii=False)
    # Jinja leaves out one line break at the end of a template.
    tokenizer.chat_template = template.removesuffix("\n") + (
        "{% if add_generation_prompt and not (enable_thinking is defined and enable_thinking) %}"
        f"{{{{ {text} }}}}{{% endif %}}"
    )
    after, ended = _try(tokenizer, question, ask=True), tokenizer.chat_template
    return str(ended) if before is not None and after == before + closing else template


def _try(tokenizer: "PreTrainedTokenizerBase", turns: list[dict[str, str]], *, ask: bool) -> str | None:
    try:
        return render_turns(tokenizer, turns, ask=ask)
    except TEMPLATE_ERRORS:
        return None
