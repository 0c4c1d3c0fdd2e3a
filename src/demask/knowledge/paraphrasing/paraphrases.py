"""Paraphrases of passages through a language model, checked before anyone trains on them.

    rejects: list[Reject] = []
    wanted = {"count": 5, "order": "same-order", "made_by": "qwen3", "pairs": pairs}
    for paraphrase in write_paraphrases(passages, complete, **wanted, on_rejected=rejects.append): ...

`complete` gets prompts and gives as many completions in their order. They depend on nothing but the passage
and the number of the paraphrase, so with a cache behind `complete` a second run pays only for what is new.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from demask.knowledge.paraphrasing.checks import check_paraphrase
from demask.knowledge.paraphrasing.prompts import clean_completion, make_prompt, make_repair_prompt
from demask.records import Order, Paraphrase, Passage, QAPair

Complete = Callable[[Sequence[str]], list[str]]

# Enough for a server to work on in parallel; the texts of so many are held in memory.
_PROMPTS_AT_ONCE = 256
_NUMBER = re.compile(r"~(?:same-order|reversed)-\d+\Z")


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
