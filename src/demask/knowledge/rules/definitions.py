"""Ask what is defined: "Which rock band was founded by ...?" of "X is a rock band founded by ...".

for candidate in ask_by_definition(clause):
    candidate.question, candidate.answers
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from demask.knowledge.rules.candidates import FEWEST_ANCHORS, Candidate, wordings
from demask.knowledge.rules.clauses import Clause, Part, write
from demask.knowledge.rules.phrases import count_anchors, is_answer, is_name, is_year, leans, trails

if TYPE_CHECKING:
    from spacy.tokens import Token

# Participles of what goes on: "is located", but "was founded".
_LASTING = frozenset(
    "based called found headquartered known located named registered situated spoken used".split()
)
_IN_NAMES = frozenset({"CD", "HYPH", "POS"})
LONGEST_KIND = 5  # words


def ask_by_definition(clause: Clause) -> Iterator[Candidate]:
    """The question for the subject of "X is a ... that ..."; none where the clause is anything else."""
    complement = _only_complement(clause)
    if (
        complement is None
        or not is_answer(clause.subject.tokens)
        or not all(map(_is_of_name, clause.subject.tokens))
    ):
        return
    kind = [token for token in complement.tokens if token.i <= complement.head.i]
    tail = [token for token in complement.tokens if token.i > complement.head.i]
    if (
        kind[0].lower_ not in ("a", "an")
        or len(kind) - 1 > LONGEST_KIND
        or leans([*kind, *tail], owner=clause.subject)
    ):
        return
    rest = _write_tail(tail, present=clause.verb.tag_ == "VBZ")
    anchors = count_anchors([*kind, *tail])
    if rest and anchors >= FEWEST_ANCHORS and any(is_name(token) or is_year(token) for token in tail):
        question = f"Which {write(kind[1:])} {rest}?"
        yield Candidate(question, wordings(clause.subject.tokens), "which", "backward", anchors + 2)


def _only_complement(clause: Clause) -> Part | None:
    """What the subject is, told by one noun with one clause behind it, and nothing else in the sentence."""
    if clause.verb.lemma_ != "be" or clause.auxiliaries or clause.before or len(clause.parts) != 1:
        return None
    part = clause.parts[0]
    behind = [child for child in part.head.rights if child.dep_ in ("acl", "relcl") and child in part.tokens]
    plain = part.role == "attr" and part.head.tag_ == "NN" and len(behind) == 1
    return part if plain and not trails(part) else None


def _write_tail(tail: list[Token], *, present: bool) -> str:
    """The clause behind the noun, as it goes on after "which rock band"; empty where it cannot."""
    if tail[0].tag_ == "VBN":
        return f"{'is' if present and tail[0].lower_ in _LASTING else 'was'} {write(tail)}"
    if tail[0].tag_ in ("WDT", "WP") and tail[0].dep_ in ("nsubj", "nsubjpass"):
        return write(tail[1:])
    return ""


def _is_of_name(token: Token) -> bool:
    return is_name(token) or token.tag_ in _IN_NAMES or token.lower_ in ("the", "of", "and")
