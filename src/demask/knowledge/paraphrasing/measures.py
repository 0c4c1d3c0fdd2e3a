"""How a set of paraphrases came out, and how different the wordings are.

for name, value in summarise_paraphrases(made, rejects).rows(): ...

What the checks see to (answers, numbers, names, order) needs no measure: a text that fails is set aside.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from demask.knowledge.paraphrasing.names import WORD
from demask.knowledge.paraphrasing.paraphrases import Reject, find_passage_id
from demask.records import Paraphrase


@dataclass(frozen=True)
class Summary:
    """What came of a set of paraphrases, for people and for the report.

    Attributes:
        made: paraphrases kept.
        documents: with at least one of them.
        rejected: how many were set aside.
        set_aside: rejects by reason, the most frequent first; a reject with two reasons counts in both.
        distinct_2: different word pairs among all word pairs of the texts of a passage, in (0, 1], averaged
            over passages (Li et al. 2016, arXiv 1510.03055); None where no passage has two texts.
    """

    made: int
    documents: int
    rejected: int
    set_aside: Mapping[str, int]
    distinct_2: float | None

    def as_json(self) -> dict[str, object]:
        """Plain values under the names of the fields."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of every line of a table."""
        return [
            ("paraphrases", str(self.made)),
            ("documents", str(self.documents)),
            ("set aside", str(self.rejected)),
            *((f"  {reason}", str(number)) for reason, number in self.set_aside.items()),
            ("distinct word pairs", "-" if self.distinct_2 is None else f"{self.distinct_2:.1%}"),
        ]


def summarise_paraphrases(paraphrases: Sequence[Paraphrase], rejects: Sequence[Reject]) -> Summary:
    """Count what was kept and what was set aside, and compare the texts of each passage and order."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for paraphrase in paraphrases:
        groups[find_passage_id(paraphrase), paraphrase.order].append(paraphrase.text)
    several = [_distinct_pairs(texts) for texts in groups.values() if len(texts) > 1]
    reasons = Counter(
        what for reject in rejects for what in {reason.partition(":")[0] for reason in reject.reasons}
    )
    return Summary(
        made=len(paraphrases),
        documents=len({paraphrase.document_id for paraphrase in paraphrases}),
        rejected=len(rejects),
        set_aside=dict(sorted(reasons.items(), key=lambda reason: (-reason[1], reason[0]))),
        distinct_2=sum(several) / len(several) if several else None,
    )


def _distinct_pairs(texts: Sequence[str]) -> float:
    found = [pair for text in texts for pair in pairwise(WORD.findall(text.casefold()))]
    return len(set(found)) / len(found) if found else 0.0
