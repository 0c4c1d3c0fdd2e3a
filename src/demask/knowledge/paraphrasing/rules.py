"""Paraphrases without a language model: sentences moved and framed, words exchanged, clauses turned.

    rejects: list[Reject] = []
    wanted = {"count": 5, "order": "reversed", "seed": 0, "parse": load_english()}
    for paraphrase in make_paraphrases_by_rules(passages, **wanted, on_rejected=rejects.append): ...

Same-order texts keep the sentences in their order and change words, framing and the place of dates. Reversed
ones tell the last sentence first and turn sentences by their grammar. A sentence that leans on the one before
it ("He died in 1980.") stays behind that one. What rules can do is little: for many passages there are fewer
different texts than asked for, and for many a single sentence there is no reversed one; both are reported.
Reversing the sentences alone leaves the order within each, which is what most questions ask about: with QA
pairs at hand such texts are refused.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from demask.documents.sentences import find_sentences
from demask.knowledge.paraphrasing.checks import check_paraphrase
from demask.knowledge.paraphrasing.grammar import move_dates, turn_sentences
from demask.knowledge.paraphrasing.paraphrases import Reject, make_id
from demask.knowledge.paraphrasing.wording import (
    frame_sentence,
    frame_text,
    is_linked,
    place_date,
    split_dateline,
    swap_words,
)
from demask.records import Order, Paraphrase, Passage, QAPair

if TYPE_CHECKING:
    from spacy.tokens import Doc

MADE_BY = "rules"
# Draws in a row that bring nothing new, before the rules are said to have no more.
_MISSES = 20


# Headings and rows of tables cannot be joined with sentences, and name no fact that those do not.
_NO_SENTENCES = ("#", "|")


class _Sentence(NamedTuple):
    wordings: tuple[str, ...]  # in the order of the sentence, itself first
    turned: tuple[str, ...]  # the other way round


def make_paraphrases_by_rules(
    passages: Iterable[Passage],
    *,
    count: int,
    order: Order,
    seed: int,
    pairs: Sequence[QAPair] = (),
    parse: "Callable[[str], Doc] | None" = None,
    on_rejected: Callable[[Reject], None] | None = None,
) -> Iterator[Paraphrase]:
    """Reword every passage up to `count` times; only texts that differ and pass `check_paraphrase` are given.

    Args:
        seed: chooses among the wordings, together with the id of the passage.
        pairs: of the documents; texts that lose their answers or contradict the order are not given.
        parse: from `english.load_english`; None: sentences are not turned, dates not moved.
        on_rejected: is told, per passage, when there are fewer texts than asked for.

    Raises:
        ValueError: `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"count is {count}, expected at least 1")
    pairs_of: dict[str, list[QAPair]] = {}
    for pair in pairs:
        pairs_of.setdefault(pair.document_id, []).append(pair)
    for passage in passages:
        texts = _reword(
            passage, parse, pairs_of.get(passage.document_id, ()), count=count, order=order, seed=seed
        )
        for number, text in enumerate(texts, start=1):
            yield Paraphrase(make_id(passage, order, number), passage.document_id, text, order, MADE_BY)
        if len(texts) < count and on_rejected:
            reason = f"rules exhausted: {len(texts)} different {order} texts, asked for {count}"
            on_rejected(Reject(passage.document_id, passage.id, "", (reason,)))


def _reword(
    passage: Passage,
    parse: "Callable[[str], Doc] | None",
    pairs: Sequence[QAPair],
    *,
    count: int,
    order: Order,
    seed: int,
) -> list[str]:
    units = _find_units(passage.text, parse)
    if not units:
        return []
    if order == "reversed" and len(units) == 1 and not any(sentence.turned for sentence in units[0]):
        return []
    rng = random.Random(f"{seed} {passage.id} {order}")
    texts: list[str] = []
    misses = 0
    while len(texts) < count and misses < _MISSES:
        text = _draw_text(units, order, rng)
        reasons = check_paraphrase(
            passage.text, text, pairs=pairs, order=order, context=passage.heading, earlier=texts
        )
        if reasons:
            misses += 1
        else:
            texts.append(text)
            misses = 0
    return texts


def _find_units(text: str, parse: "Callable[[str], Doc] | None") -> list[list[_Sentence]]:
    """The sentences, those that lean on the one before together with it."""
    units: list[list[_Sentence]] = []
    for start, end in find_sentences(text):
        if text.startswith(_NO_SENTENCES, start):
            continue
        dated = split_dateline(" ".join(text[start:end].split()))
        parsed = parse(dated.text) if parse else None
        wordings = [dated.text, *(move_dates(parsed) if parsed else ())]
        turned = turn_sentences(parsed) if parsed else []
        sentence = _Sentence(
            tuple(wording for text in wordings for wording in place_date(dated.date, text, last=False)),
            tuple(wording for text in turned for wording in place_date(dated.date, text, last=True)),
        )
        if units and is_linked(dated.text):
            units[-1].append(sentence)
        else:
            units.append([sentence])
    return units


def _draw_text(units: Sequence[Sequence[_Sentence]], order: Order, rng: random.Random) -> str:
    told = units if order == "same-order" else units[::-1]
    drawn = [swap_words(_draw_sentence(sentence, order, rng), rng) for unit in told for sentence in unit]
    first, *others = drawn
    return frame_text(" ".join([first, *(frame_sentence(sentence, rng) for sentence in others)]), rng)


def _draw_sentence(sentence: _Sentence, order: Order, rng: random.Random) -> str:
    return rng.choice(sentence.turned if order == "reversed" and sentence.turned else sentence.wordings)
