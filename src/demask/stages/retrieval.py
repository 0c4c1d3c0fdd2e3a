"""Retrieval beside training: search the passages that are trained, and put what is found into the prompt.

retrieval = retrieve_stage(config.evaluate, run, pairs, passages, load, progress)
answers = ask_with_passages(run, "before", retrieval, load=load, settings=config.evaluate, progress=progress)
summary["retrieval"] = summarise_retrieval(run, config.evaluate.retrieval, pairs, answers, training)
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from demask.evaluation.retrieval import PassageIndex, Retrieved, check_search, measure_recall
from demask.progress import Progress
from demask.recipe.sections import Evaluate
from demask.records import Passage, Prediction, QAPair
from demask.reports.runs import retrieval_stage
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.models.load import LoadedModel


@dataclass(frozen=True)
class Retrieval:
    """What was found, ready to be put into prompts.

    Attributes:
        tops: how many passages, in each round of questions; none: nothing is retrieved.
        found: for each question, in their order.
        texts: of the passages that were found, by id.
    """

    tops: tuple[int, ...] = ()
    found: tuple[Retrieved, ...] = ()
    texts: Mapping[str, str] | None = None

    def contexts(self, top: int, _: "LoadedModel | None" = None) -> dict[str, str]:
        """What stands before each question, by pair id: the best passages that fit; "" without any."""
        from demask.evaluation.qa import join_texts

        texts = self.texts or {}
        return {
            one.qa_id: join_texts([texts[id] for id in one.passages[: min(top, one.fitting)]])
            for one in self.found
        }


def check_retrieval(settings: Evaluate) -> None:
    """See whether what the recipe asks for can be done here.

    Raises:
        RunError: SQLite was built without FTS5.
    """
    if settings.retrieval:
        check_search()


def retrieval_stages(settings: Evaluate, *models: str) -> list[str]:
    """The stages at which models, `before` and `after` training, are asked with retrieved passages."""
    return [retrieval_stage(model, top) for model in models for top in settings.retrieval or ()]


def retrieve_stage(
    settings: Evaluate,
    run: RunFolder,
    pairs: Sequence[QAPair],
    passages: Sequence[Passage],
    load: Callable[[], "LoadedModel"],
    progress: Progress,
) -> Retrieval:
    """Search with every question, or read what was found when that was done.

    Args:
        settings: how many passages to retrieve, and how questions are asked.
        run: where it is kept what was found.
        pairs: what is asked.
        passages: what is searched.
        load: gives the model, which says how many passages fit its context.
        progress: told how far the work is.
    """
    if not settings.retrieval or not pairs:
        return Retrieval()
    if run.has(file_names.RETRIEVED):
        kept = run.read_records(file_names.RETRIEVED, Retrieved)
        wanted = {id for one in kept for id in one.passages}
        known = {passage.id: passage.training_text for passage in passages if passage.id in wanted}
        return Retrieval(settings.retrieval, tuple(kept), known)
    from demask.evaluation.qa import count_fitting

    progress.begin("Indexing passages", 1)
    index, loaded = PassageIndex(passages), load()
    progress.begin("Retrieving", len(pairs), unit="questions")
    texts: dict[str, str] = {}
    found: list[Retrieved] = []
    for pair in pairs:
        best = index.search(pair.question, top=settings.retrieval[-1])
        texts |= {passage.id: passage.training_text for passage in best}
        fitting = count_fitting(
            loaded,
            pair,
            [passage.training_text for passage in best],
            max_new_tokens=settings.max_new_tokens,
        )
        ids, documents = tuple(one.id for one in best), tuple(one.document_id for one in best)
        found.append(Retrieved(pair.id, ids, documents, fitting))
        progress.advance()
    run.write_rows(file_names.RETRIEVED, found)
    return Retrieval(settings.retrieval, tuple(found), texts)


def count_shortened(found: Sequence[Retrieved], top: int) -> int:
    """Questions before which fewer of the first `top` passages fit than were found."""
    return sum(one.fitting < len(one.passages[:top]) for one in found)


def summarise_retrieval(
    run: RunFolder,
    tops: Sequence[int] | None,
    pairs: Sequence[QAPair],
    answers: Mapping[str, Sequence[Prediction]],
    training: Mapping[str, Any],
) -> dict[str, Any]:
    """Recall, what answers cost, and after how many questions training has paid; empty without retrieval.

    Args:
        run: with what was found.
        tops: numbers of passages.
        pairs: all that were asked.
        answers: by stage.
        training: `tokens` and `seconds` of training; empty: nothing was trained.
    """
    if not tops or not pairs:
        return {}
    found = run.read_records(file_names.RETRIEVED, Retrieved)
    costs = {stage: measure_cost(said) for stage, said in answers.items() if said}
    return {
        "recall": {str(top): measure_recall(found, pairs, top=top) for top in tops},
        "costs": costs,
        "break_even": {
            str(top): find_break_even(costs[retrieval_stage("before", top)], costs["after"], training)
            for top in tops
            if training and {retrieval_stage("before", top), "after"} <= costs.keys()
        },
        "nothing_found": sum(not one.passages for one in found),
        "shortened": {str(top): count_shortened(found, top) for top in tops},
        "training_tokens": training.get("tokens"),
        "training_seconds": training.get("seconds"),
    }


def measure_cost(said: Sequence[Prediction]) -> dict[str, float | None]:
    """What an answer takes on average, with the fields of `AnswerCost`."""
    prompts = [one.prompt_tokens for one in said if one.prompt_tokens is not None]
    return {
        "prompt_tokens": sum(prompts) / len(said) if len(prompts) == len(said) else None,
        "tokens": sum(one.tokens for one in said) / len(said),
        "seconds": sum(one.seconds for one in said) / len(said),
    }


def find_break_even(
    retrieving: Mapping[str, float | None], tuned: Mapping[str, float | None], training: Mapping[str, Any]
) -> dict[str, int | None]:
    """Questions after which training has paid for itself, with the fields of `BreakEven`.

    Args:
        retrieving: the cost of an answer of the base model with passages in its prompt.
        tuned: of the trained model, asked bare.
        training: `tokens` and `seconds`.
    """
    return {
        "tokens": _pay_off(training["tokens"], _all_tokens(retrieving), _all_tokens(tuned)),
        "seconds": _pay_off(training["seconds"], retrieving["seconds"], tuned["seconds"]),
    }


def _all_tokens(cost: Mapping[str, float | None]) -> float | None:
    read, written = cost["prompt_tokens"], cost["tokens"]
    return None if read is None or written is None else read + written


def _pay_off(price: float, each: float | None, cheaper: float | None) -> int | None:
    """After how many times a price is paid back; None: never, or not known."""
    if each is None or cheaper is None or each <= cheaper:
        return None
    return math.ceil(price / (each - cheaper))
