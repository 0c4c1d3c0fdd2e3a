"""How many questions a run will ask, before it starts: those that are given, and those that it will make.

expected = expect_questions(config, knowledge, progress)
expected.count, expected.bound, expected.how
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from demask.errors import RunError
from demask.knowledge.audit import audit_pairs, split_flagged
from demask.progress import Progress
from demask.recipe.sections import RunConfig
from demask.records import Document, QAPair
from demask.stages.documents import Knowledge
from demask.stages.questions import (
    FACTS,
    RULES,
    LocalModel,
    cut_for_making,
    draw_pairs,
    find_writer,
    make_pairs,
    with_headings,
)

# Of more documents than this some are looked at, evenly over all.
_LOOKED_AT = 300


@dataclass(frozen=True)
class ExpectedQuestions:
    """What will be asked about what is new.

    Attributes:
        count: None: not known.
        bound: what the count is; `about` where only some of many documents were looked at, `at most` where a
            language model will make them, which is paid for and not asked now.
        how: where they come from; or why nobody knows how many.
    """

    count: int | None
    bound: Literal["exactly", "about", "at most"]
    how: str


def expect_questions(config: RunConfig, knowledge: Knowledge, progress: Progress) -> ExpectedQuestions:
    """Count the questions, those of earlier runs aside, and make those that cost nothing."""
    if knowledge.pairs is not None:
        given = len(knowledge.pairs) - len(knowledge.earlier_pairs)
        return ExpectedQuestions(given, "exactly", "given")
    writer = find_writer(config)
    if writer is not None:
        passages = sum(1 for _ in cut_for_making(knowledge.new, include=config.include))
        most = min(config.max_questions, 2 * FACTS * passages)
        how = "made by a language model when the run starts"
        if isinstance(writer, LocalModel):
            how += f", {writer.name}, if it passes the entrance test; else fewer, by {RULES}"
        return ExpectedQuestions(most, "at most", how)
    documents = knowledge.new
    step = -(-len(documents) // _LOOKED_AT)
    looked: Sequence[Document] = documents if step == 1 else list(islice(documents, 0, None, step))
    try:
        kept = _make_by_rules(config, looked, progress)
    except RunError as error:  # spaCy is missing, which will stop the run
        return ExpectedQuestions(None, "exactly", str(error))
    how = f"made when the run starts, by {RULES}"
    if step == 1:
        drawn = draw_pairs(kept, config.max_questions, seed=config.seed)
        return ExpectedQuestions(len(drawn), "exactly", how)
    about = round(len(kept) * len(documents) / len(looked))
    return ExpectedQuestions(min(about, config.max_questions), "about", how)


def _make_by_rules(config: RunConfig, documents: Sequence[Document], progress: Progress) -> Sequence[QAPair]:
    made = make_pairs(documents, writer=None, include=config.include, progress=progress)
    kept, _ = split_flagged(made.pairs, audit_pairs(made.pairs, with_headings(documents, config.include)))
    return kept
