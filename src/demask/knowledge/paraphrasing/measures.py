"""How different the paraphrases of a passage are, and how a whole set came out.

    diversity = measure_diversity([["first wording", "second wording"], ["of another passage", "..."]])
    summary = summarise_paraphrases(made, rejects, passages=passages, pairs=pairs)
    for name, value in summary.rows(): ...

Distinct-n is the share of different n-grams among all (Li et al. 2016, arXiv 1510.03055). Self-BLEU is the
BLEU of a text against the other texts as references (Zhu et al. 2018, arXiv 1802.01886), here by sacrebleu.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice

from demask.errors import RunError
from demask.knowledge.paraphrasing.checks import compare_directions, find_answered, measure_order
from demask.knowledge.paraphrasing.names import WORD
from demask.knowledge.paraphrasing.paraphrases import Reject, find_passage_id
from demask.records import Paraphrase, Passage, QAPair

# BLEU against all others grows with the square of their number.
_MOST_TEXTS = 30


@dataclass(frozen=True)
class Diversity:
    """Of the texts of a passage, averaged over passages; None where no passage has two texts.

    Attributes:
        distinct_1: different words among all words, in (0, 1].
        distinct_2: different word pairs among all word pairs, in (0, 1].
        self_bleu: in [0, 1]; 1 when all texts are the same.
    """

    distinct_1: float | None
    distinct_2: float | None
    self_bleu: float | None


@dataclass(frozen=True)
class Summary:
    """What came of a set of paraphrases, for people and for the report.

    Attributes:
        made: paraphrases kept.
        documents: with at least one of them.
        set_aside: rejects by reason, the most frequent first; a reject with two reasons counts in both.
        rejected: how many were set aside.
        answers_kept: share of the answers of a passage that still stand in its paraphrase, over all
            paraphrases; None without QA pairs.
        order_agreement: share of the QA pairs whose direction is as the order demands, or, without any,
            of the paraphrases whose rank correlation with the passage has the right sign; None when neither
            can be told.
        diversity: of the paraphrases of one passage.
    """

    made: int
    documents: int
    rejected: int
    set_aside: Mapping[str, int]
    answers_kept: float | None
    order_agreement: float | None
    diversity: Diversity

    def as_json(self) -> dict[str, object]:
        """Plain values under the names of the fields."""
        return asdict(self) | {"set_aside": dict(self.set_aside)}

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of every line of a table."""
        shares = {
            "answers kept": self.answers_kept,
            "order as asked for": self.order_agreement,
            "distinct words": self.diversity.distinct_1,
            "distinct word pairs": self.diversity.distinct_2,
        }
        return [
            ("paraphrases", str(self.made)),
            ("documents", str(self.documents)),
            ("set aside", str(self.rejected)),
            *((f"  {reason}", str(number)) for reason, number in self.set_aside.items()),
            *((name, "-" if share is None else f"{share:.1%}") for name, share in shares.items()),
            ("self-BLEU", "-" if self.diversity.self_bleu is None else f"{self.diversity.self_bleu:.2f}"),
        ]


def summarise_paraphrases(
    paraphrases: Sequence[Paraphrase],
    rejects: Sequence[Reject],
    *,
    passages: Iterable[Passage],
    pairs: Sequence[QAPair] = (),
    seed: int = 0,
) -> Summary:
    """Count and measure; of those of unknown passages (see `find_passage_id`) only number and diversity."""
    texts = {passage.id: passage.text for passage in passages}
    pairs_of: dict[str, list[QAPair]] = {}
    for pair in pairs:
        pairs_of.setdefault(pair.document_id, []).append(pair)
    groups: dict[str, list[str]] = {}
    answers: Counter[bool] = Counter()
    orders: Counter[bool] = Counter()
    for paraphrase in paraphrases:
        passage_id = find_passage_id(paraphrase)
        groups.setdefault(f"{passage_id} {paraphrase.order}", []).append(paraphrase.text)
        if passage_id in texts:
            asked = pairs_of.get(paraphrase.document_id, [])
            answers.update(_answers_kept(texts[passage_id], paraphrase.text, asked))
            orders.update(_orders_right(texts[passage_id], paraphrase, asked))
    reasons = Counter(
        what for reject in rejects for what in dict.fromkeys(_what(reason) for reason in reject.reasons)
    )
    return Summary(
        made=len(paraphrases),
        documents=len({paraphrase.document_id for paraphrase in paraphrases}),
        rejected=len(rejects),
        set_aside=dict(reasons.most_common()),
        answers_kept=_share(answers),
        order_agreement=_share(orders),
        diversity=measure_diversity(groups.values(), seed=seed),
    )


def measure_diversity(groups: Iterable[Sequence[str]], *, seed: int = 0) -> Diversity:
    """Mean over groups of texts, one group a passage; groups of one text have no diversity and are left out.

    Args:
        seed: draws the texts that stand for a group of more than 30 in self-BLEU.

    Raises:
        RunError: sacrebleu is not installed.
    """
    some = [texts for texts in groups if len(texts) > 1]
    return Diversity(
        distinct_1=_mean([_distinct(texts, 1) for texts in some]),
        distinct_2=_mean([_distinct(texts, 2) for texts in some]),
        self_bleu=_mean([_self_bleu(texts, random.Random(seed)) for texts in some]),
    )


def _distinct(texts: Sequence[str], n: int) -> float:
    grams = [
        gram
        for text in texts
        for words in [[word.casefold() for word in WORD.findall(text)]]
        for gram in zip(*(islice(words, start, None) for start in range(n)), strict=False)
    ]
    return len(set(grams)) / len(grams) if grams else 0.0


def _self_bleu(texts: Sequence[str], rng: random.Random) -> float:
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise RunError("self-BLEU: needs sacrebleu: pip install 'demask[questions]'") from error
    bleu = BLEU(effective_order=True)  # for texts of fewer than four words
    sample = list(texts) if len(texts) <= _MOST_TEXTS else rng.sample(list(texts), _MOST_TEXTS)
    scores = [
        bleu.sentence_score(text, sample[:place] + sample[place + 1 :]).score / 100
        for place, text in enumerate(sample)
    ]
    return min(1.0, sum(scores) / len(scores))


def _answers_kept(passage_text: str, text: str, pairs: Sequence[QAPair]) -> Counter[bool]:
    asked = find_answered(passage_text, pairs)
    return Counter(
        {True: len(find_answered(text, asked)), False: len(asked) - len(find_answered(text, asked))}
    )


def _orders_right(passage_text: str, paraphrase: Paraphrase, pairs: Sequence[QAPair]) -> Counter[bool]:
    wanted = paraphrase.order == "same-order"
    kept = compare_directions(passage_text, paraphrase.text, pairs)
    if kept:
        return Counter(keeps == wanted for keeps in kept)
    correlation = measure_order(passage_text, paraphrase.text)
    return Counter() if correlation is None else Counter([(correlation > 0) == wanted])


def _what(reason: str) -> str:
    return reason.partition(":")[0]


def _share(counts: Counter[bool]) -> float | None:
    return counts[True] / counts.total() if counts.total() else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
