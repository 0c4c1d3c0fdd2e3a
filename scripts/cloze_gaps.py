"""Texts with a gap where a half was, and what may fill it, in the tokens of training.

cases = make_cases(cutter(loaded, config), read_facts(trained), read_facts(strangers))
cases[0].options[cases[0].fact]      # the request of the right answer
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from demask.benchmarks.sets import Benchmark
from demask.data.sequences import make_sample
from demask.generation.likelihood import Request
from demask.models.context import make_context
from demask.models.load import LoadedModel
from demask.objectives.prompts import encode
from demask.recipe.sections import RunConfig
from demask.records import IGNORE_INDEX, Passage

# The first told name first, and description first, of the 60 facts.
ORDERS = {"name first": 0, "description first": 30}

Gap = Literal["name", "description"]
GAPS: tuple[Gap, Gap] = ("name", "description")
OTHER: dict[Gap, Gap] = {"name": "description", "description": "name"}
# Whose other half stands in a text.
OWN, ANOTHER, STRANGER = "own", "another's", "a stranger's"


@dataclass(frozen=True)
class Fact:
    """A text and its two halves.

    Attributes:
        order: of its halves.
        frame: the text with `{name}` and `{description}` in place of the halves.
        halves: by their kind.
    """

    order: str
    frame: str
    halves: dict[Gap, str]


@dataclass(frozen=True)
class Case:
    """One gap and what may stand in it.

    Attributes:
        fact: number of the text; also of the right option, which is its own half.
        order: of the text.
        gap: which half is taken out.
        given: whose other half stands in the text.
        options: one request for each text's half.
    """

    fact: int
    order: str
    gap: Gap
    given: str
    options: tuple[Request, ...]


def read_facts(benchmark: Benchmark) -> list[Fact]:
    """Texts taken apart at the halves that their questions ask for.

    Raises:
        SystemExit: a text does not have each of its halves once.
    """
    facts = []
    for number, document in enumerate(benchmark.documents):
        order = list(ORDERS)[2 * number // len(benchmark.documents)]
        kinds = {p.kind: p.answers[0] for p in benchmark.pairs if p.document_id == document.id}
        halves: dict[Gap, str] = {"name": kinds["D2N"], "description": kinds["N2D"]}
        frame = document.text
        for gap, half in halves.items():
            if frame.count(half) != 1:
                raise SystemExit(f"{document.id}: {half!r} stands {frame.count(half)} times, expected once")
            frame = frame.replace(half, f"{{{gap}}}")
        facts.append(Fact(order, frame, halves))
    return facts


class Cut(NamedTuple):
    """The ids of a text as it is trained, and where each token of the text begins and ends in it."""

    opening: tuple[int, ...]
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    ending: tuple[int, ...]


def cutter(loaded: LoadedModel, config: RunConfig) -> Callable[[str], Cut]:
    """A function that tokenises as training does, with all that stands around a text there."""
    make = config.objective.example_maker(make_context(loaded, config.objective), seed=config.seed)
    tokenizer: Any = loaded.tokenizer

    def cut(text: str) -> Cut:
        example = make(make_sample(Passage("cloze", "cloze", text), tokenizer), 0, 0)
        whole = tuple(
            token if label == IGNORE_INDEX else label
            for token, label in zip(example.token_ids, example.labels, strict=True)
        )
        ids = encode(tokenizer, text)
        found = tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        starts = range(len(whole) - len(ids) + 1)
        start = next(start for start in starts if whole[start : start + len(ids)] == ids)
        spans = tuple((int(begin), int(end)) for begin, end in found["offset_mapping"])
        return Cut(whole[:start], ids, spans, whole[start + len(ids) :])

    return cut


def make_options(
    cut: Callable[[str], Cut], fact: Fact, gap: Gap, given: str, halves: Sequence[str]
) -> tuple[Request, ...]:
    """The text with each half in its gap, cut where no token of any of these texts is torn.

    A gap takes in the space before it, and signs behind it that some half joins with into one token, such
    as `.".`; so what stands around it has the same ids whatever fills it.

    Raises:
        SystemExit: the ids around the gap depend on what stands in it.
    """
    head, tail = fact.frame.replace(f"{{{OTHER[gap]}}}", given).split(f"{{{gap}}}")
    texts = [head + half + tail for half in halves]
    cuts = list(map(cut, texts))
    left = next(n for n in range(len(head), -1, -1) if all(is_whole(one, n) for one in cuts))
    right = next(
        n
        for n in range(len(tail), -1, -1)
        if all(is_whole(one, len(text) - n) for one, text in zip(cuts, texts, strict=True))
    )
    options, around = [], set()
    for one, text in zip(cuts, texts, strict=True):
        first = sum(end <= left for _, end in one.spans)
        last = sum(end <= len(text) - right for _, end in one.spans)
        before, answer, after = one.ids[:first], one.ids[first:last], one.ids[last:]
        around.add((before, after))
        options.append(Request((*one.opening, *before), answer, (*after, *one.ending)))
    if len(around) > 1:
        raise SystemExit(f"{texts[0]!r}: its tokens around the {gap} depend on it, expected the same ones")
    return tuple(options)


def is_whole(cut: Cut, place: int) -> bool:
    """Whether no token reaches over this place of the text."""
    return not any(begin < place < end for begin, end in cut.spans)


def make_cases(cut: Callable[[str], Cut], facts: Sequence[Fact], strangers: Sequence[Fact]) -> list[Case]:
    """All gaps, with their own other half, and with that of each other person and stranger of their order."""
    cases = []
    for gap in GAPS:
        halves = [fact.halves[gap] for fact in facts]
        for number, fact in enumerate(facts):
            givers = [(OWN if one is fact else ANOTHER, one) for one in facts]
            givers += [(STRANGER, one) for one in strangers]
            cases += [
                Case(
                    number,
                    fact.order,
                    gap,
                    given,
                    make_options(cut, fact, gap, one.halves[OTHER[gap]], halves),
                )
                for given, one in givers
                if one.order == fact.order
            ]
    return cases
