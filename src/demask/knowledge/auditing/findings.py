"""What can be wrong with a QA pair, and how bad it is.

finding = Finding("q7", "leak", 'q7: the question names its own answer "Mara Voss"')
finding.severity  # "flag"
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "answer-missing",
    "leak",
    "guessable",
    "unanswerable",
    "ambiguous",
    "wrong-direction",
    "duplicate",
    "direction-unclear",
    "answer-long",
]
Severity = Literal["flag", "note"]

# A pair is flagged when its score would say something else than whether the fact was learned. In the order
# in which findings are told.
SEVERITIES: Mapping[Kind, Severity] = {
    "answer-missing": "flag",  # the documents do not teach it
    "leak": "flag",  # it can be answered by reading the question
    "guessable": "flag",  # it is answered before anything was learned
    "unanswerable": "flag",  # not even with the document at hand: the question, not the memory, is at fault
    "ambiguous": "flag",  # a right answer may be counted as wrong
    "wrong-direction": "flag",  # it moves the reversal gap the wrong way
    "duplicate": "flag",  # one fact would count twice
    "direction-unclear": "note",  # the label may well be right: cues stand on both sides, or are reworded
    "answer-long": "note",  # hard to match word for word, but not wrong
}
_QUOTED_CHARACTERS = 60  # as in error messages


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one QA pair.

    Attributes:
        pair_id: the QA pair.
        kind: what is wrong.
        explanation: a sentence for people, which starts with the pair's id.
        other_id: the other QA pair that it is about, empty when there is none.
    """

    pair_id: str
    kind: Kind
    explanation: str
    other_id: str = ""

    @property
    def severity(self) -> Severity:
        """`flag`: the pair should not be scored; `note`: worth a look."""
        return SEVERITIES[self.kind]


def quote(text: str) -> str:
    """A text in quotation marks, on one line, cut when long."""
    line = " ".join(text.split())
    if len(line) > _QUOTED_CHARACTERS:
        line = f"{line[: _QUOTED_CHARACTERS - 3]}..."
    return f'"{line}"'
