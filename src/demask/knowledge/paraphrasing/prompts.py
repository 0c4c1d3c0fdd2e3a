"""What a language model is asked when it is to reword a passage, and how its answer is read.

prompt = make_prompt(passage, 3, count=10, order="reversed")
text = clean_completion(complete([prompt])[0])
"""

import re
from collections.abc import Sequence

from demask.records import Order, Passage

STYLES = (
    "plain and factual prose",
    "a news report",
    "an entry of an encyclopaedia",
    "a letter to a friend, without salutation and signature",
    "a page of a school book",
    "the reply of an expert who was asked about it",
    "short sentences with one fact each",
    "a few long sentences that join the facts",
    "a chronicle that a historian writes",
    "the text beside an exhibit in a museum",
    "a briefing for a busy reader",
    "a spoken report, as on the radio",
)

_ORDERS: dict[Order, str] = {
    "same-order": "Keep the order of the facts: name first what the text names first, in every sentence too.",
    "reversed": (
        "Turn the order of the facts round. Begin with what the text says last, end with what it says first. "
        "Within a sentence, too, name first what the text names last: of 'A made B' make 'B was made by A', "
        "of 'A is the B of C' make 'The B of C is A'."
    ),
}

_RULES = (
    "Keep every fact, name, number and date as it is. Add nothing that the text does not say, leave nothing "
    "out. Choose other words and other sentences wherever the facts allow it."
)
_ONLY = "Answer with the new text only: no title, no list, no remarks."

_THOUGHT = re.compile(r"\A.*?</think>", re.DOTALL)
_FENCE = re.compile(r"\A```[\w-]*[ \t]*\n(.*?)\n?```\Z", re.DOTALL)
_OPENING = re.compile(
    r"\A(?:(?:sure|certainly|of course|okay|absolutely)\b[^\n:.!]{0,40}[.!,:]\s*)?"
    r"(?:(?:here(?:'s|’s| is| are)|below is|this is)\b[^\n:]{0,120}:\s*|"
    r"(?:sure|certainly|of course|okay|absolutely)[.!]\s*\n)",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"\A[*#_ ]*(?:the )?(?:paraphrased?|reworded|rewritten|rewording|revised|new)?[ \t]*"
    r"(?:paraphrase|rewording|text|version|passage|answer)?(?:[ \t]+\d+)?[*_ ]*:[*_]*\s+",
    re.IGNORECASE,
)
_REMARK = re.compile(r"\n\s*[(*_]*(?:note|remark|explanation)s?\b[^\n]*:.*\Z", re.IGNORECASE | re.DOTALL)
_QUOTES = {'"': '"', "“": "”", "«": "»", "'": "'"}


def make_prompt(passage: Passage, number: int, *, count: int, order: Order) -> str:
    """The prompt for one of `count` paraphrases; `number`, from 1, decides its style."""
    heading = f"Heading (background, need not be repeated): {passage.heading.strip()}\n\n"
    return (
        f"Write the text below anew, as {STYLES[(number - 1) % len(STYLES)]}. {_RULES} {_ORDERS[order]} "
        f"This is version {number} of {count}; it must not read like the others. {_ONLY}\n\n"
        f"{heading if passage.heading.strip() else ''}Text:\n{passage.text}\n"
    )


def make_repair_prompt(prompt: str, text: str, reasons: Sequence[str]) -> str:
    """The prompt that asks once more, after a text that failed."""
    faults = "\n".join(f"- {reason}" for reason in reasons)
    return (
        f"{prompt}\nThis version was not accepted:\n{text or '(nothing)'}\n\n"
        f"What is wrong with it:\n{faults}\n\nWrite it again without these faults. {_ONLY}\n"
    )


def clean_completion(completion: str) -> str:
    """The text alone: without thoughts, code fence, "Here is ...:", label, quotes around it, closing note."""
    text = _THOUGHT.sub("", completion).strip()
    text = _OPENING.sub("", text, count=1).strip()
    fenced = _FENCE.match(text)
    text = fenced[1].strip() if fenced else text
    text = _REMARK.sub("", _LABEL.sub("", text, count=1)).strip()
    closing, inside = _QUOTES.get(text[:1], ""), text[1:-1]
    quoted = closing and len(text) > 1 and text.endswith(closing)
    return inside.strip() if quoted and text[0] not in inside and closing not in inside else text
