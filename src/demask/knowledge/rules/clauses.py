"""The parts of a main clause, as a dependency parse gives them.

    for clause in find_clauses(sentence):
        write(clause.subject), clause.verbs, [part.role for part in clause.parts]

A clause is a finite main verb with its subject, what stands before the subject, and what follows the verb.
Side remarks (between commas or in brackets) and trailing clauses are cut; what has no plain shape gives none.
Labels are those of the ClearNLP scheme that spaCy's English models use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from demask.knowledge.rules.words import LOOSE_ADVERBS

if TYPE_CHECKING:
    from spacy.tokens import Span, Token

# Stands for the words that a cloze question leaves out.
GAP = "____"

_FINITE = frozenset({"VBD", "VBZ", "VBP", "MD"})
_KEPT = frozenset(
    {"dobj", "attr", "oprd", "prep", "agent", "npadvmod", "acomp", "advmod", "dative", "xcomp", "advcl"}
)
_SKIPPED = frozenset({"aux", "prt", "cc", "punct", "conj"})
_CUT = frozenset({"advcl", "relcl", "acl", "appos", "nsubj", "prep"})  # behind a comma
_BREAKING = frozenset({"ccomp", "csubj", "csubjpass", "expl", "dep", "parataxis", "intj", "neg"})
_CONDITIONS = frozenset({"if", "unless", "whether", "because"})


@dataclass(frozen=True)
class Part:
    """A phrase that hangs on the verb, without its side remarks."""

    role: str  # dependency label
    head: Token
    tokens: tuple[Token, ...]


@dataclass(frozen=True)
class Clause:
    """A main clause; `verbs` run from the first auxiliary to the verb, with the adverbs between."""

    subject: Part
    auxiliaries: tuple[Token, ...]
    verbs: tuple[Token, ...]  # without auxiliaries; adverbs, verb, and "to open" of "plans to open"
    verb: Token  # the finite one, or its participle
    last_verb: Token  # whose object is asked for: "open" of "plans to open"
    before: tuple[Part, ...]
    parts: tuple[Part, ...]


def find_clauses(sentence: Span) -> list[Clause]:
    """The main clauses of a sentence that have a plain shape, verbs joined by "and" one each."""
    root = sentence.root
    verbs = [root, *(child for child in root.conjuncts if child.head.pos_ in ("VERB", "AUX"))]
    clauses = (_make_clause(verb, root) for verb in verbs if verb.pos_ in ("VERB", "AUX"))
    return [clause for clause in clauses if clause is not None]


def _make_clause(verb: Token, root: Token) -> Clause | None:
    children = list(verb.children)
    subject = _find_subject(verb) or (_find_subject(root) if verb.head == root else None)
    auxiliaries = tuple(child for child in children if child.dep_ in ("aux", "auxpass") and child.i < verb.i)
    finite = auxiliaries[0] if auxiliaries else verb
    if subject is None or finite.tag_ not in _FINITE or any(child.dep_ in _BREAKING for child in children):
        return None
    if any(a.i < subject.i for a in auxiliaries) or subject.i > verb.i:
        return None
    if auxiliaries and finite.lower_ == "had":
        return None  # the past of a past: what came later is told elsewhere
    chain = _find_chain(verb)
    if chain is None:
        return None
    last = chain[-1]
    parts = _find_parts([*verb.rights, *([] if last == verb else last.rights)], verb, last)
    if parts is None:
        return None
    shared = _find_subject(verb) is None
    before = () if shared else _find_fronts(verb, subject)
    if before is None:
        return None
    start = (auxiliaries[0].i if auxiliaries else verb.i) if shared else subject_end(subject, verb)
    inner = verb.doc[start : last.i + 1]
    particles = [child for child in last.rights if child.dep_ == "prt"]
    if any(token.pos_ == "PUNCT" and token.text != "-" for token in inner):
        return None
    verbs = [t for t in inner if t not in auxiliaries and t.lower_ not in LOOSE_ADVERBS] + particles
    return Clause(
        _make_part(subject),
        auxiliaries,
        tuple(verbs),
        verb,
        last,
        before,
        tuple(p for p in parts if p.tokens),
    )


def find_subject(root: Token) -> Part | None:
    """The subject of a finite verb, of a clause of any shape."""
    subject = _find_subject(root)
    finite = any(token.tag_ in _FINITE for token in (root, *root.lefts))
    return _make_part(subject) if subject is not None and finite else None


def subject_end(subject: Token, verb: Token) -> int:
    """Where the words of the verb begin: behind the subject and a comma that closes its side remark."""
    end = max(token.i for token in subject.subtree if token.i < verb.i) + 1
    while end < verb.i and verb.doc[end].text in (",", ")"):
        end += 1
    return end


def _find_subject(verb: Token) -> Token | None:
    found = [child for child in verb.lefts if child.dep_ in ("nsubj", "nsubjpass")]
    return found[0] if len(found) == 1 else None


def _find_chain(verb: Token) -> list[Token] | None:
    """The verb, and the infinitive that follows it directly; None where that is not plain."""
    infinitives = [child for child in verb.rights if child.dep_ == "xcomp"]
    if not infinitives:
        return [verb]
    inner = infinitives[0]
    between = verb.doc[verb.i + 1 : inner.i]
    if len(infinitives) > 1 or inner.tag_ != "VB":
        return None
    if not all(token.dep_ in ("aux", "advmod", "prt", "acomp") for token in between):
        return [verb]
    broken = any(child.dep_ in _BREAKING | {"xcomp", "auxpass"} for child in inner.children)
    return None if broken else [verb, inner]


def _find_parts(children: Sequence[Token], verb: Token, last: Token) -> list[Part] | None:
    """What follows the verb, up to where another clause starts; None where cutting would hurt."""
    parts = []
    for child in sorted(children, key=lambda token: token.i):
        skipped = child.dep_ in _SKIPPED or child == last or child.lower_ in LOOSE_ADVERBS
        if skipped or (child.dep_ == "advmod" and child.i < last.i):
            continue
        if child.dep_ in _CUT and child.i > last.i and _follows_comma(child):
            if {token.lower_ for token in child.lefts} & _CONDITIONS:
                return None
            continue
        if child.dep_ not in _KEPT or (child.dep_ == "advcl" and child.i < last.i):
            return None
        parts.append(_make_part(child))
    return parts


def _find_fronts(verb: Token, subject: Token) -> tuple[Part, ...] | None:
    fronts = []
    for child in verb.lefts:
        if child.i > subject.i or child.dep_ in ("punct", "aux", "auxpass", "cc"):
            continue
        if child == subject or child.lower_ in LOOSE_ADVERBS:
            continue
        if child.dep_ != "prep" and not (child.dep_ == "npadvmod" and child.ent_type_ == "DATE"):
            return None
        fronts.append(_make_part(child))
    return tuple(fronts)


def _follows_comma(token: Token) -> bool:
    first = min(inner.i for inner in token.subtree)
    return first > 0 and token.doc[first - 1].text in (",", "-", "–", "—", "(")


def _make_part(head: Token) -> Part:
    kept = {token.i: token for token in _keep(head)}
    whole = [kept[i] for i in sorted(kept) if kept[i].text != "," or {i - 1, i + 1} <= kept.keys()]
    while whole and whole[-1].text == ",":
        del whole[-1]
    return Part(head.dep_, head, tuple(whole))


def _keep(head: Token) -> Iterator[Token]:
    """The words of a phrase, without what is a side remark in it."""
    yield head
    for child in head.children:
        if child.dep_ == "punct" and child.text in ("(", ")", "–", "—"):
            continue
        if _is_side_remark(child):
            continue
        yield from _keep(child)


def _is_side_remark(child: Token) -> bool:
    """A phrase between commas or in brackets, unless it is a name: "in Turin, Italy", "his son, Tolui,"."""
    if child.i < child.head.i:
        return False
    if child.dep_ == "appos" and child.nbor(-1).text == "(":
        return True
    if child.dep_ not in ("appos", "relcl", "acl", "prep", "advcl", "nmod") or not _follows_comma(child):
        return False
    first, last = min(token.i for token in child.subtree), max(token.i for token in child.subtree)
    name = all(token.pos_ == "PROPN" for token in child.doc[first : last + 1])
    place = child.ent_type_ == "GPE" and child.head.ent_type_ == "GPE"
    return not (child.dep_ == "appos" and name and (place or child.head.pos_ == "NOUN"))


def write(tokens: Sequence[Token], *, gap: Sequence[Token] = (), keep_case: bool = False) -> str:
    """The words as text: no comma left hanging, the first word of a sentence in small letters.

    Args:
        tokens: in the order of the text.
        gap: words of it that `____` stands for.
        keep_case: leave the first word of a sentence as it is.
    """
    places = {token.i for token in tokens}
    text = ""
    for token in tokens:
        if token.text in (",", "–", "—") and not {token.i - 1, token.i + 1} <= places:
            continue
        if token in gap[1:]:
            continue
        apart = token.i - 1 not in places or (token.i and token.nbor(-1).whitespace_)
        text += " " if apart else ""
        text += GAP if token in gap else token.text if keep_case else _in_small_letters(token)
    return re.sub(r"\s+([,.;)])", r"\1", re.sub(r"\s+", " ", text)).strip(" ,;-–—")


def _in_small_letters(token: Token) -> str:
    if not token.is_sent_start:
        return token.text
    named = token.tag_ in ("NNP", "NNPS") or token.ent_type_ in ("PERSON", "GPE", "ORG", "NORP", "PRODUCT")
    keeps = (named and token.lower_ != "the") or (len(token.text) > 1 and not token.text[1:].islower())
    return token.text if keeps else token.text[:1].lower() + token.text[1:]
