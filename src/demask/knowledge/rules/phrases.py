"""Judge phrases: may one be an answer, does one lean on other sentences, what asks for it.

is_answer(part.tokens)              # short, in one piece, with a name or a year in it
leans(tokens, owner=None)           # "the company", "he", "these": what they mean is told elsewhere
find_question_word(part)            # "who", "which lathe" for "the Marlow lathe", "what"; None when in doubt
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from demask.knowledge.english import MONTHS
from demask.knowledge.rules.clauses import Part

if TYPE_CHECKING:
    from spacy.tokens import Token

LONGEST_ANSWER = 5  # words
ARTICLES = ("the", "a", "an")

# What these describe is in another sentence.
_LEANING = frozenset(
    """above again another accordingly afterwards already below consequently conversely each either else
    elsewhere eventually former further furthermore hence here however instead later latter likewise
    meanwhile moreover neither nevertheless next other others otherwise previous previously respectively
    same similar similarly so subsequent subsequently such then there thereafter therefore these this those
    thus too yet following now today currently recently one ones latest certain nearby""".split()
)
_NO_ANSWER = frozenset("PRON VERB AUX SCONJ ADV SYM X".split())
_PLURAL = frozenset({"NNS", "NNPS"})
_THINGS = frozenset("ORG FAC PRODUCT WORK_OF_ART EVENT LAW LOC".split())


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
    if any(token.pos_ in _NO_ANSWER or token.lower_ in _LEANING or token.is_quote for token in tokens):
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
    if token.lower_ in _LEANING:
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
