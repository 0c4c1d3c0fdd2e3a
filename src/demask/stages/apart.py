"""Questions that are asked apart: what must be gone, what must stay, what follows; before and after training.

    pairs = read_apart(config)                                  # of the file that `evaluate.apart` names
    ask_apart(config, run, "before", load, progress)
    rows = summarise_apart(run)                                 # by kind and form, for summary.json

Each question is asked bare. Those of kind `old value` are asked in every form of the retention suite as well,
since a fact that is gone from one wording may be there in another; those whose kind begins with `follows`
also with "Think step by step". They are no part of the accuracy of a run, and nothing is trained on them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from demask.errors import ConfigError
from demask.evaluation.metrics import score_predictions
from demask.knowledge.files import load_qa_pairs
from demask.progress import Progress
from demask.recipe.sections import RunConfig
from demask.records import Direction, Prediction, QAPair
from demask.reports.runs import ApartRow
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.generation.texts import Turn
    from demask.models.load import LoadedModel

When = Literal["before", "after"]
BARE, STEPS = "bare", "step by step"
# Of what a question asks for when it is asked in more forms than one.
OLD_VALUE, FOLLOWS = "old value", "follows"
# What was said to them.
REPLIES: Mapping[When, str] = {"before": file_names.APART_BEFORE, "after": file_names.APART_AFTER}
STEP_BY_STEP = "{question}\nThink step by step, then give the answer."


@dataclass(frozen=True)
class ApartReply:
    """What a model said to a question in one of its forms.

    Attributes:
        qa_id: the question.
        form: in which it was asked.
        text: what was said, stripped.
        tokens: how many it took.
        stopped: False when the limit of new tokens cut it short.
    """

    qa_id: str
    form: str
    text: str
    tokens: int = 0
    stopped: bool = True


def read_apart(config: RunConfig) -> tuple[QAPair, ...]:
    """The questions; none where the recipe names no file.

    Raises:
        DataError: the file or a line of it is not usable.
    """
    return (
        () if config.evaluate.apart is None else tuple(load_qa_pairs(config.evaluate.apart, documents=None))
    )


def keep_apart(run: RunFolder, pairs: Sequence[QAPair]) -> None:
    """Copy the questions into the run folder.

    Raises:
        ConfigError: the folder holds those of another time.
    """
    if not pairs:
        return
    if not run.has(file_names.APART):
        run.write_rows(file_names.APART, pairs)
    elif not run.holds_rows(file_names.APART, pairs):
        raise ConfigError(
            f"{run.path}: {file_names.APART} has changed since this run began; "
            "choose another --out or delete the folder"
        )


def is_asked(run: RunFolder) -> bool:
    """Whether all that is to be asked apart was asked."""
    return not run.has(file_names.APART) or all(map(run.has, REPLIES.values()))


def ask_apart(
    config: RunConfig,
    run: RunFolder,
    when: When,
    load: "Callable[[], LoadedModel]",
    progress: Progress,
) -> None:
    """Ask every question in its forms, unless that was done.

    Args:
        config: of the run.
        run: has the questions, and keeps what was said.
        when: `before` or `after` training.
        load: gives the model, called only when it is needed.
        progress: told how far the work is.
    """
    if not run.has(file_names.APART) or run.has(REPLIES[when]):
        return
    from demask.evaluation.qa import ask_kept
    from demask.generation.texts import turn_encoder

    pairs = run.read_records(file_names.APART, QAPair)
    main = run.read_records(file_names.QA_PAIRS, QAPair) if run.has(file_names.QA_PAIRS) else []
    asked = [(pair, form, turns) for pair in pairs for form, turns in make_forms_apart(pair, main)]
    loaded = load()
    encode = turn_encoder(loaded)
    progress.begin(f"Asking apart ({when})", len(asked), unit="questions")
    said = ask_kept(
        loaded,
        [encode(turns) for _, _, turns in asked],
        config.evaluate,
        keep=when == "before",
        on_done=progress.advance,
    )
    run.write_rows(
        REPLIES[when],
        [
            ApartReply(pair.id, form, one.text, one.tokens, one.stopped)
            for (pair, form, _), one in zip(asked, said, strict=True)
        ],
    )


def make_forms_apart(pair: QAPair, main: Sequence[QAPair]) -> "Iterator[tuple[str, tuple[Turn, ...]]]":
    """The forms in which a question is asked, by name.

    Args:
        pair: that is asked apart.
        main: the questions of the run, which stand in front in some forms.
    """
    from demask.evaluation.retention.suite import load_suite, make_forms
    from demask.generation.texts import Turn

    yield BARE, (Turn("user", pair.question),)
    if pair.kind == OLD_VALUE:
        suite = load_suite("quick")
        answers = {answer.casefold() for answer in pair.answers}
        # An easy fact in front that has the very answer would give it away.
        facts = [fact for fact in suite.facts if answers.isdisjoint(map(str.casefold, fact.answers))]
        others = [other for other in main if answers.isdisjoint(map(str.casefold, other.answers))]
        yield from make_forms(suite, pair, others, facts).items()
    if pair.kind.startswith(FOLLOWS):
        yield STEPS, (Turn("user", STEP_BY_STEP.format(question=pair.question)),)


def summarise_apart(run: RunFolder) -> list[dict[str, Any]]:
    """Of each kind, direction and form the share that was answered, as rows of `ApartRow`."""
    if not run.has(file_names.APART):
        return []
    pairs = {pair.id: pair for pair in run.read_records(file_names.APART, QAPair)}
    before, after = (_judge(run, file, pairs) for file in REPLIES.values())
    groups: dict[tuple[str, Direction, str], list[tuple[str, str]]] = {}
    for id, form in before:
        groups.setdefault((pairs[id].kind, pairs[id].direction, form), []).append((id, form))
    return [asdict(_summarise(group, places, before, after, pairs)) for group, places in groups.items()]


def _judge(run: RunFolder, file: str, pairs: Mapping[str, QAPair]) -> dict[tuple[str, str], bool]:
    """Whether each question, in each form, was answered."""
    judged = {}
    for reply in run.read_records(file, ApartReply):
        (score,) = score_predictions([Prediction(reply.qa_id, reply.text)], [pairs[reply.qa_id]])
        judged[reply.qa_id, reply.form] = score.right
    return judged


def _summarise(
    group: tuple[str, Direction, str],
    places: Sequence[tuple[str, str]],
    before: Mapping[tuple[str, str], bool],
    after: Mapping[tuple[str, str], bool],
    pairs: Mapping[str, QAPair],
) -> ApartRow:
    from demask.evaluation.statistics import estimate_mean

    documents = [pairs[id].document_id for id, _ in places]
    known = [(place, pairs[place[0]].document_id) for place in places if before[place]]
    return ApartRow(
        *group,
        before=estimate_mean([float(before[place]) for place in places], documents),
        after=estimate_mean([float(after[place]) for place in places], documents),
        kept=estimate_mean([float(after[place]) for place, _ in known], [document for _, document in known])
        if known
        else None,
    )
