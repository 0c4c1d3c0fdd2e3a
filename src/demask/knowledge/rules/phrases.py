"""Judge phrases: may one be an answer, does one lean on other sentences, what kind of thing does it name.

find_kind(part, verb, active=True)  # "who", "which country", "which museum", "what"; None when in doubt
is_answer(part.tokens)              # short, and more than "the company"
leans(tokens, owner=None)           # "the company", "he", "these": what they mean is told elsewhere
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from demask.knowledge.rules.clauses import Part, write
from demask.knowledge.rules.words import (
    COUNTRIES,
    LEANING_WORDS,
    MONTHS,
    NAME_KINDS,
    ONE_OF_A_KIND,
    PEOPLE,
    PERSON_VERBS,
    QUANTIFIERS,
    THING_VERBS,
    TITLES,
    VAGUE_NOUNS,
)

if TYPE_CHECKING:
    from spacy.tokens import Token

LONGEST_ANSWER = 5  # words

_GENERIC = NAME_KINDS | TITLES | PEOPLE
_NO_ANSWER = frozenset({"PRP$", "WDT", "WP", "EX", "UH", "SYM", "LS"})
_MARKS = frozenset('"“”()[]\N{LEFT SINGLE QUOTATION MARK}')
_PLURAL = frozenset({"NNS", "NNPS"})


def is_name(token: Token) -> bool:
    """A proper noun written as one."""
    return token.pos_ == "PROPN" and (token.text[:1].isupper() or any(map(str.isdigit, token.text)))


def is_year(token: Token) -> bool:
    """A number of four digits that can be a year."""
    return token.shape_ == "dddd" and token.text.isascii() and 1000 <= int(token.text) <= 2199


def is_answer(tokens: Sequence[Token]) -> bool:
    """Whether a phrase is short, in one piece, and specific enough to be the answer."""
    words = [token for token in tokens if not token.is_punct and token.tag_ != "POS"]
    if not 1 <= len(words) <= LONGEST_ANSWER or tokens[-1].i - tokens[0].i + 1 != len(tokens):
        return False
    if any(t.pos_ in ("PRON", "VERB", "AUX", "SCONJ", "ADV") or t.tag_ in _NO_ANSWER for t in words):
        return False
    if any(token.lower_ in LEANING_WORDS | QUANTIFIERS or token.text in _MARKS for token in tokens):
        return False
    names = [token for token in words if is_name(token)]
    if names:
        return not _is_bare_title(words, names)
    definite = words[0].lower_ in ("the", "no")
    if any(token.pos_ == "NUM" for token in words):
        return not definite
    content = [token for token in words if token.pos_ in ("NOUN", "ADJ")]
    return len(content) >= 2 and not definite and words[-1].lemma_.lower() not in VAGUE_NOUNS


def _is_bare_title(words: Sequence[Token], names: Sequence[Token]) -> bool:
    """As "the Museum", "the King": a name that only says what kind of thing is meant."""
    return len(words) <= 2 and all(token.lower_ in _GENERIC for token in names)


def leans(tokens: Sequence[Token], *, owner: Part | None) -> bool:
    """Whether a stretch of a sentence means something only together with other sentences.

    Args:
        tokens: what a question would say.
        owner: whom "its", "his" or "their" may refer to: the clause's subject, which is named or asked for.
    """
    inside = {token.i for token in tokens}
    return any(_leans(token, inside, owner) for token in tokens)


def _leans(token: Token, inside: Collection[int], owner: Part | None) -> bool:
    if is_name(token):
        return False
    if token.tag_ == "PRP":
        return not token.lower_.endswith(("self", "selves")) and not _is_owner_alone(token, owner)
    if token.tag_ == "PRP$":
        return owner is None or not _can_own(token.lower_, owner)
    if token.lower_ in LEANING_WORDS:
        joined = token.i + 1 < len(token.doc) and token.nbor().text == "-"  # "same-sex"
        return token.pos_ != "SCONJ" and token.tag_ != "VBG" and not joined
    if token.lower_ in ("which", "that", "who", "whose", "where", "when"):
        return token.tag_ in ("WDT", "WP", "WP$", "WRB", "DT") and not _is_relative(token, inside)
    return token.lower_ == "the" and _is_unresolved(token.head, inside)


def _is_owner_alone(pronoun: Token, owner: Part | None) -> bool:
    """As "he" behind the only person, the subject, or "they" of "WWE announced that they ..."."""
    if owner is None or pronoun.i < owner.head.i:
        return False
    if pronoun.lower_ in ("it", "they"):
        said = pronoun.head
        return (
            pronoun.dep_ == "nsubj"
            and said.dep_ == "ccomp"
            and said.head == owner.head.head
            and said.lemma_ != "be"
        )
    persons = [entity for entity in pronoun.sent.ents if entity.label_ == "PERSON"]
    return pronoun.lower_ in ("he", "she") and len(persons) == 1 and owner.head in persons[0]


def _is_relative(token: Token, inside: Collection[int]) -> bool:
    """Within a relative clause whose noun is there, too."""
    for above in (token, *token.ancestors):
        if above.dep_ == "relcl":
            return above.head.i in inside
    return False


def _can_own(pronoun: str, owner: Part) -> bool:
    plural = owner.head.tag_ in _PLURAL or any(token.dep_ == "conj" for token in owner.tokens)
    if pronoun == "their":
        return plural
    return pronoun in ("its", "his", "her") and not plural


def _is_unresolved(noun: Token, inside: Collection[int]) -> bool:
    """Whether "the" before this noun points to another sentence."""
    phrase = [token for token in noun.subtree if token.i in inside]
    names = [token for token in phrase if is_name(token)]
    if is_name(noun):
        return _is_bare_title([noun], names)
    if noun.pos_ not in ("NOUN", "PROPN"):  # "the first to", "the Chinese"
        return noun.tag_ in ("JJ", "CD") and not names
    if names or any(character.isdigit() for token in phrase for character in token.text):
        return False
    if noun.lemma_.lower() in ONE_OF_A_KIND:
        return False
    return not any(child.i in inside and _pins(child) for child in noun.rights)


def _pins(child: Token) -> bool:
    """As "the generation of electricity", "the route that he took": the phrase itself says which."""
    if child.dep_ in ("relcl", "acl"):
        return True
    objects = [inner for inner in child.children if inner.dep_ in ("pobj", "pcomp")]
    return child.dep_ == "prep" and bool(objects)


def trails(part: Part) -> bool:
    """Whether a phrase has a comma before more than a name, or a verb in front of the clause."""
    for token in part.tokens:
        if token.text in (",", ";", "–", "—"):
            following = token.nbor()
            listed = following.dep_ in ("amod", "advmod", "conj", "compound", "nmod") or is_name(following)
            if following.i <= part.tokens[-1].i and not (listed or following.pos_ == "NUM"):
                return True
        if token.lower_ == "than":
            return True
    return part.head.i < part.head.head.i and any(token.pos_ == "VERB" for token in part.tokens)


def count_anchors(tokens: Sequence[Token]) -> float:
    """How well a question is tied to its fact: names and years count 1, other content words 1/4."""
    total = 0.0
    for token in {token.lower_: token for token in tokens}.values():
        named = (
            is_name(token) and len(token.text) > 1 and token.text not in MONTHS and token.lower_ not in TITLES
        )
        if named or is_year(token):
            total += 1.0
        elif token.pos_ == "NUM" or token.ent_type_ == "NORP":
            total += 0.5
        elif token.pos_ in ("NOUN", "ADJ", "VERB", "PROPN") and not token.is_stop and len(token.text) > 3:
            total += 0.25
    return total


def find_apposed_name(part: Part) -> Part | None:
    """As "New Glenn" of "its launch vehicle, New Glenn,"; None where a part has no name beside it."""
    for child in part.head.rights:
        untitled = is_name(part.head) and part.head.lower_ not in TITLES
        if child.dep_ != "appos" or not is_name(child) or child.nbor(-1).text == "(" or untitled:
            continue
        start = min([child.i, *(token.i for token in child.lefts if token.dep_ == "compound")])
        tokens = tuple(child.doc[start : child.i + 1])
        closed = child.i + 1 == len(child.doc) or child.nbor().text in (",", ".")
        if all(map(is_name, tokens)) and start > 0 and child.doc[start - 1].text == "," and closed:
            return Part(part.role, child, tokens)
    return None


def find_kind(part: Part, verb: Token, *, active: bool) -> str | None:
    """The question word for a phrase, with the kind of thing where that is certain; None when in doubt.

    Args:
        part: what is asked for.
        verb: what it does, or what is done to it.
        active: whether it does it.
    """
    text = write(part.tokens)
    bare = text[4:] if text.lower().startswith("the ") else text
    if bare in COUNTRIES:
        return "which country"
    names = [token for token in part.tokens if is_name(token)]
    if not names:
        return _common_kind(part)
    if any(token.dep_ == "conj" for token in part.tokens):
        return "who" if all(t.ent_type_ == "PERSON" for t in names) and len(names) >= 4 else None
    last = _kind_word(part)
    described = _described_kind(part.head)
    if described or last in NAME_KINDS:
        return described or f"which {last}"
    if not is_name(part.head):
        return _compound_kind(part.head)
    return _name_kind(part, names, verb, active)


def _name_kind(part: Part, names: Sequence[Token], verb: Token, active: bool) -> str | None:
    """By titles, by the verb and by what the entity recogniser says, which is not enough alone."""
    head, article = part.head, part.tokens[0].lower_ in ("the", "a", "an")
    if article:
        if head.ent_type_ == "NORP" and head.tag_ in _PLURAL:
            return "who"
        if head.ent_type_ in ("PERSON", "NORP", "") or head.lower_ in TITLES | PEOPLE or head.tag_ == "NNPS":
            return None
        return "which organisation" if head.ent_type_ == "ORG" and active else "what"
    titled = any(token.lower_.rstrip(".") in TITLES | PEOPLE for token in part.tokens[:-1])
    if len(names) != len([token for token in part.tokens if not token.is_punct]):
        return "who" if titled and len(name_alone(part)) >= 2 and head == part.tokens[-1] else None
    human = head.ent_type_ == "PERSON" or verb.lemma_ in PERSON_VERBS or titled
    if human and (len(names) >= 2) and (active or verb.lemma_ not in THING_VERBS or titled):
        return "who"
    if head.ent_type_ == "ORG" and len(names) == 1 and head.text.isupper() and len(head.text) >= 2:
        return "which organisation"
    return "which organisation" if head.text in ("Inc.", "Corp.", "Ltd.", "Inc", "Ltd") else None


def name_alone(part: Part) -> tuple[Token, ...]:
    """As "Winston Peters" of "Foreign Minister Winston Peters": the names at the end, without titles."""
    kept: list[Token] = []
    for token in reversed(part.tokens):
        if token.lower_.rstrip(".") in TITLES | PEOPLE:
            return tuple(kept)
        if not is_name(token):
            return ()
        kept.insert(0, token)
    return tuple(kept)


def _common_kind(part: Part) -> str | None:
    noun = part.head.lemma_.lower()
    return "who" if noun in PEOPLE else "what"


def _compound_kind(head: Token) -> str | None:
    """As "which rocket" of "the Ariane 6 rocket"."""
    named = any(child.dep_ in ("compound", "nmod") and is_name(child) for child in head.lefts)
    if not named or head.pos_ != "NOUN" or head.lemma_.lower() in VAGUE_NOUNS or head.text[:1].isupper():
        return None
    return "who" if head.lemma_.lower() in PEOPLE else f"which {head.text}"


def _described_kind(head: Token) -> str | None:
    """As "which non-periodic comet" where the text says ", a non-periodic comet," behind the name."""
    for child in head.rights:
        article = [token for token in child.lefts if token.lower_ in ("a", "an")]
        if child.dep_ != "appos" or child.pos_ != "NOUN" or not article:
            continue
        tokens = child.doc[article[0].i + 1 : child.i + 1]
        if child.lemma_.lower() in PEOPLE:
            return "who"
        if child.lemma_.lower() not in VAGUE_NOUNS and len(tokens) <= 6:
            return f"which {write(list(tokens))}"
    return None


def _kind_word(part: Part) -> str:
    """The word that says what kind of name it is: "museum" of "the National Museum of Ethnology"."""
    words = [""]
    for token in part.tokens:
        if token.dep_ == "prep" or token.text in (",", "("):
            break
        words.append(token.lower_)
    return words[-1]
