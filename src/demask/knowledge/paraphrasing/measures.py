"""How a set of paraphrases came out: what is kept of answers and order, and how different the wordings are.

summary = summarise_paraphrases(made, rejects, passages=passages, pairs=pairs)
for name, value in summary.rows(): ...
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from demask.knowledge.paraphrasing.checks import compare_directions, find_answered, measure_order
from demask.knowledge.paraphrasing.names import WORD
from demask.knowledge.paraphrasing.paraphrases import Reject, find_passage_id
from demask.records import Paraphrase, Passage, QAPair


@dataclass(frozen=True)
class Summary:
    """What came of a set of paraphrases, for people and for the report.

    Attributes:
        made: paraphrases kept.
        documents: with at least one of them.
        rejected: how many were set aside.
        set_aside: rejects by reason, the most frequent first; a reject with two reasons counts in both.
        answers_kept: share of the answers of a passage that still stand in its paraphrase, over all
            paraphrases; None without QA pairs.
        order_agreement: share of the QA pairs whose direction is as the order demands, or, without any,
            of the paraphrases whose rank correlation with the passage has the right sign; None when neither
            can be told.
        distinct_2: different word pairs among all word pairs of the texts of a passage, in (0, 1], averaged
            over passages (Li et al. 2016, arXiv 1510.03055); None where no passage has two texts.
    """

    made: int
    documents: int
    rejected: int
    set_aside: Mapping[str, int]
    answers_kept: float | None
    order_agreement: float | None
    distinct_2: float | None

    def as_json(self) -> dict[str, object]:
        """Plain values under the names of the fields."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of every line of a table."""
        shares = {
            "answers kept": self.answers_kept,
            "order as asked for": self.order_agreement,
            "distinct word pairs": self.distinct_2,
        }
        return [
            ("paraphrases", str(self.made)),
            ("documents", str(self.documents)),
            ("set aside", str(self.rejected)),
            *((f"  {reason}", str(number)) for reason, number in self.set_aside.items()),
            *((name, "-" if share is None else f"{share:.1%}") for name, share in shares.items()),
        ]


def summarise_paraphrases(
    paraphrases: Sequence[Paraphrase],
    rejects: Sequence[Reject],
    *,
    passages: Iterable[Passage],
    pairs: Sequence[QAPair] = (),
) -> Summary:
    """Count and measure; of those of unknown passages (see `find_passage_id`) only number and diversity.

    Args:
        paraphrases: those that were kept.
        rejects: those that were set aside.
        passages: which were reworded.
        pairs: of their documents.
    """
    texts = {passage.id: passage.text for passage in passages}
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    answers: Counter[bool] = Counter()
    orders: Counter[bool] = Counter()
    for paraphrase in paraphrases:
        passage_id = find_passage_id(paraphrase)
        groups[passage_id, paraphrase.order].append(paraphrase.text)
        if passage_id in texts:
            asked = [pair for pair in pairs if pair.document_id == paraphrase.document_id]
            there = find_answered(texts[passage_id], asked)
            kept = len(find_answered(paraphrase.text, there))
            answers.update({True: kept, False: len(there) - kept})
            orders.update(_orders_right(texts[passage_id], paraphrase, asked))
    reasons = Counter(
        what for reject in rejects for what in {reason.partition(":")[0]: None for reason in reject.reasons}
    )
    several = [_distinct_pairs(group) for group in groups.values() if len(group) > 1]
    return Summary(
        made=len(paraphrases),
        documents=len({paraphrase.document_id for paraphrase in paraphrases}),
        rejected=len(rejects),
        set_aside=dict(reasons.most_common()),
        answers_kept=_share(answers),
        order_agreement=_share(orders),
        distinct_2=sum(several) / len(several) if several else None,
    )


def _distinct_pairs(texts: Sequence[str]) -> float:
    found = [pair for text in texts for pair in pairwise(WORD.findall(text.casefold()))]
    return len(set(found)) / len(found) if found else 0.0


def _orders_right(passage_text: str, paraphrase: Paraphrase, pairs: Sequence[QAPair]) -> Counter[bool]:
    wanted = paraphrase.order == "same-order"
    kept = compare_directions(passage_text, paraphrase.text, pairs)
    if kept:
        return Counter(keeps == wanted for keeps in kept)
    correlation = measure_order(passage_text, paraphrase.text)
    return Counter() if correlation is None else Counter([(correlation > 0) == wanted])


def _share(counts: Counter[bool]) -> float | None:
    return counts[True] / counts.total() if counts.total() else None
