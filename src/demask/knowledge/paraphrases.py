"""Paraphrases of passages through a language model, checked before anyone trains on them.

    rejects: list[Reject] = []
    wanted = {"count": 5, "order": "same-order", "made_by": "qwen3", "pairs": pairs}
    for paraphrase in write_paraphrases(passages, complete, **wanted, on_rejected=rejects.append): ...
    for name, value in summarise_paraphrases(made, rejects).rows(): ...

`complete` gets prompts and gives as many completions in their order. They depend on nothing but the passage
and the number of the paraphrase, so with a cache behind `complete` a second run pays only for what is new.
What the checks see to (answers, numbers, names, order) needs no measure: a text that fails is set aside.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from typing import NamedTuple

from demask.knowledge.paraphrase_checks import WORD, check_paraphrase
from demask.records import Order, Paraphrase, Passage, QAPair

Complete = Callable[[Sequence[str]], list[str]]
# Enough for a server to work on in parallel; the texts of so many are held in memory.
_PROMPTS_AT_ONCE = 256
_NUMBER = re.compile(r"~(?:same-order|reversed)-\d+\Z")
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


class Reject(NamedTuple):
    """A text that is not to be trained on, or, when it is empty, one that could not be made."""

    document_id: str
    passage_id: str
    text: str
    reasons: tuple[str, ...]  # `what: detail`


class _Attempt(NamedTuple):
    passage: Passage
    number: int
    text: str
    reasons: list[str]


def find_passage_id(paraphrase: Paraphrase) -> str:
    """The id of the passage it was made of; its document's id when it was not made here."""
    passage_id = _NUMBER.sub("", paraphrase.id)
    return paraphrase.document_id if passage_id == paraphrase.id else passage_id


def write_paraphrases(
    passages: Iterable[Passage],
    complete: Complete,
    *,
    count: int,
    order: Order,
    made_by: str,
    pairs: Sequence[QAPair] = (),
    on_rejected: Callable[[Reject], None] | None = None,
) -> Iterator[Paraphrase]:
    """Have every passage reworded `count` times; passages are read a few at a time.

    A text that fails its checks is asked for once more, with the reasons; the second failure is final.

    Args:
        passages: with unique ids.
        complete: as many completions as prompts, in their order.
        order: of the facts in the paraphrases, as against the passage.
        made_by: the name of the model.
        pairs: of the documents. Their answers must stand in the paraphrases; no first prompt shows them, only
            the repair names an answer that was lost.
        on_rejected: is told of every text that is set aside.

    Raises:
        ValueError: `count` is not positive, or `complete` gave another number of completions than asked for.
    """
    if count < 1:
        raise ValueError(f"count is {count}, expected at least 1")
    pairs_of: dict[str, list[QAPair]] = {}
    for pair in pairs:
        pairs_of.setdefault(pair.document_id, []).append(pair)
    coming = iter(passages)
    while some := list(islice(coming, max(1, _PROMPTS_AT_ONCE // count))):
        for passage, number, text, reasons in _attempt(some, complete, pairs_of, count=count, order=order):
            if not reasons:
                yield Paraphrase(f"{passage.id}~{order}-{number}", passage.document_id, text, order, made_by)
            elif on_rejected:
                on_rejected(Reject(passage.document_id, passage.id, text, tuple(reasons)))


def _attempt(
    passages: Sequence[Passage],
    complete: Complete,
    pairs_of: dict[str, list[QAPair]],
    *,
    count: int,
    order: Order,
) -> list[_Attempt]:
    """All paraphrases of some passages, those that failed with what was wrong the second time."""
    wanted = [(passage, number) for passage in passages for number in range(1, count + 1)]
    kept: dict[str, list[str]] = {passage.id: [] for passage in passages}

    def judge(passage: Passage, number: int, completion: str) -> _Attempt:
        text = clean_completion(completion)
        reasons = check_paraphrase(
            passage.text,
            text,
            pairs=pairs_of.get(passage.document_id, ()),
            order=order,
            context=passage.heading,
            earlier=kept[passage.id],
        )
        if not reasons:
            kept[passage.id].append(text)
        return _Attempt(passage, number, text, reasons)

    prompts = [make_prompt(passage, number, count=count, order=order) for passage, number in wanted]
    attempts = [judge(*asked, text) for asked, text in zip(wanted, _complete(complete, prompts), strict=True)]
    failed = [place for place, attempt in enumerate(attempts) if attempt.reasons]
    repairs = [
        make_repair_prompt(prompts[place], attempts[place].text, attempts[place].reasons) for place in failed
    ]
    for place, text in zip(failed, _complete(complete, repairs), strict=True):
        attempts[place] = judge(*wanted[place], text)
    return attempts


def _complete(complete: Complete, prompts: Sequence[str]) -> list[str]:
    if not prompts:
        return []
    texts = complete(prompts)
    if len(texts) != len(prompts):
        raise ValueError(f"{len(texts)} completions came for {len(prompts)} prompts, expected one each")
    return texts


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


@dataclass(frozen=True)
class Summary:
    """What came of a set of paraphrases, for people and for the report.

    Attributes:
        made: paraphrases kept.
        documents: with at least one of them.
        rejected: how many were set aside.
        set_aside: rejects by reason, the most frequent first; a reject with two reasons counts in both.
        distinct_2: different word pairs among all word pairs of the texts of a passage, in (0, 1], averaged
            over passages (Li et al. 2016, arXiv 1510.03055); None where no passage has two texts.
    """

    made: int
    documents: int
    rejected: int
    set_aside: Mapping[str, int]
    distinct_2: float | None

    def as_json(self) -> dict[str, object]:
        """Plain values under the names of the fields."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of every line of a table."""
        return [
            ("paraphrases", str(self.made)),
            ("documents", str(self.documents)),
            ("set aside", str(self.rejected)),
            *((f"  {reason}", str(number)) for reason, number in self.set_aside.items()),
            ("distinct word pairs", "-" if self.distinct_2 is None else f"{self.distinct_2:.1%}"),
        ]


def summarise_paraphrases(paraphrases: Sequence[Paraphrase], rejects: Sequence[Reject]) -> Summary:
    """Count what was kept and what was set aside, and compare the texts of each passage and order."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for paraphrase in paraphrases:
        groups[find_passage_id(paraphrase), paraphrase.order].append(paraphrase.text)
    several = [_distinct_pairs(texts) for texts in groups.values() if len(texts) > 1]
    reasons = Counter(
        what for reject in rejects for what in {reason.partition(":")[0] for reason in reject.reasons}
    )
    return Summary(
        made=len(paraphrases),
        documents=len({paraphrase.document_id for paraphrase in paraphrases}),
        rejected=len(rejects),
        set_aside=dict(sorted(reasons.items(), key=lambda reason: (-reason[1], reason[0]))),
        distinct_2=sum(several) / len(several) if several else None,
    )


def _distinct_pairs(texts: Sequence[str]) -> float:
    found = [pair for text in texts for pair in pairwise(WORD.findall(text.casefold()))]
    return len(set(found)) / len(found) if found else 0.0
