"""The main clause of a sentence in parts, as spaCy's dependency parse gives them (labels of ClearNLP).

    clause = find_clause(sentence)               # None where it has no plain shape
    write(clause.subject.tokens), clause.verb, [part.role for part in clause.parts]

Side remarks (between commas or in brackets) and trailing clauses are left out.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from spacy.tokens import Span, Token

_FINITE = frozenset({"VBD", "VBZ", "VBP"})
_SUBJECTS = ("nsubj", "nsubjpass")
_KEPT = frozenset("dobj attr oprd prep agent npadvmod acomp dative xcomp".split())
_SKIPPED = frozenset("punct cc conj prt".split())
# Behind a comma these are remarks; of a condition nothing may be left out.
_REMARKS = frozenset("advcl advmod relcl acl appos prep nmod npadvmod".split())
_BREAKING = frozenset("ccomp csubj csubjpass expl dep parataxis intj neg".split())
_CONDITIONS = frozenset("if unless whether because".split())
_COMMAS = (",", "-", "–", "—")


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
    return Clause(_make_part(subjects[0]), auxiliaries, verb, verbs, tuple(map(_make_part, fronts)), parts)


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
