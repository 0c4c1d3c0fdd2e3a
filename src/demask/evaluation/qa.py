"""Ask a model questions, without the documents (what it knows) or with them (what it could know).

predictions = ask_questions(loaded, pairs, settings)
contexts = choose_contexts(loaded, pairs, documents, passages, max_new_tokens=128)
ceiling = ask_questions(loaded, pairs, settings, contexts=contexts)
scores = score_predictions(predictions, pairs)          # evaluation.matching
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from demask.generation.answers import generate_answers
from demask.knowledge.directions import place_answer
from demask.models.load import LoadedModel
from demask.objectives.masking import keyed_rng
from demask.objectives.prompts import encode_question
from demask.recipe.sections import Evaluate
from demask.records import Document, Passage, Prediction, QAPair

# Ours. The floor and the tuned model get the bare question.
CEILING_PROMPT = "{document}\n\nAnswer the question from the text above.\n{question}"


def ask_questions(
    loaded: LoadedModel,
    pairs: Sequence[QAPair],
    settings: Evaluate,
    *,
    contexts: Mapping[str, str] | None = None,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Prediction]:
    """One prediction per question, in order.

    Args:
        loaded: the model to ask.
        pairs: what to ask.
        settings: limits, batches, and how masked-diffusion models denoise.
        contexts: by pair id, what stands in the prompt before each question; None: nothing does.
        on_done: told how many questions a finished batch had.
    """
    answers = generate_answers(loaded, make_prompts(loaded, pairs, contexts), settings, on_done=on_done)
    return [
        Prediction(pair.id, answer.text, answer.tokens, round(answer.seconds, 4), answer.stopped)
        for pair, answer in zip(pairs, answers, strict=True)
    ]


def make_prompts(
    loaded: LoadedModel, pairs: Sequence[QAPair], contexts: Mapping[str, str] | None = None
) -> list[tuple[int, ...]]:
    """The token ids that each question is asked with; see `ask_questions`."""
    return [_encode(loaded, pair.question, None if contexts is None else contexts[pair.id]) for pair in pairs]


def add_shots(pairs: Sequence[QAPair], *, shots: int, seed: int) -> list[QAPair]:
    """The same pairs, with answered questions about other documents in front of each question.

    They are of the same direction, drawn anew for every pair; fewer where there are not so many.

    Args:
        pairs: what will be asked.
        shots: answered questions in front of each.
        seed: of the draw.
    """
    by_direction: dict[str, list[QAPair]] = {}
    for pair in pairs:
        by_direction.setdefault(pair.direction, []).append(pair)
    made = []
    for pair in pairs:
        others = [other for other in by_direction[pair.direction] if other.document_id != pair.document_id]
        shown = keyed_rng(seed, "shots", pair.id).sample(others, min(shots, len(others)))
        turns = [f"Question: {other.question}\nAnswer: {other.answers[0]}\n\n" for other in shown]
        made.append(replace(pair, question=f"{''.join(turns)}Question: {pair.question}\nAnswer:"))
    return made


def choose_contexts(
    loaded: LoadedModel,
    pairs: Sequence[QAPair],
    documents: Mapping[str, Document],
    passages: Iterable[Passage],
    *,
    max_new_tokens: int,
) -> dict[str, str]:
    """By pair id the text that its question can be answered from, if it fits the model's context.

    That is its whole document; of one that is too long, the passage in which the answer stands nearest to
    the question's words. A pair is left out when neither fits, or no passage holds the answer.
    """

    def fits(pair: QAPair, text: str) -> bool:
        return len(_encode(loaded, pair.question, text)) + max_new_tokens <= loaded.context

    contexts = {pair.id: documents[pair.document_id].text for pair in pairs}
    long = [pair for pair in pairs if not fits(pair, contexts[pair.id])]
    parts: dict[str, list[str]] = {pair.document_id: [] for pair in long}
    for passage in passages if long else ():
        if passage.document_id in parts:
            parts[passage.document_id].append(passage.training_text)
    for pair in long:
        text = _find_passage(pair, parts[pair.document_id])
        if text is not None and fits(pair, text):
            contexts[pair.id] = text
        else:
            del contexts[pair.id]
    return contexts


def _find_passage(pair: QAPair, texts: Sequence[str]) -> str | None:
    """The text in which the most of the question's words stand by its answer; None: none holds the answer."""
    found = [(place_answer(text, pair.question, pair.answers), text) for text in texts]
    placed = [
        (sum(cue.weight for cue in placement.cues), text)
        for placement, text in found
        if placement is not None and placement.exact
    ]
    return max(placed, key=lambda one: one[0])[1] if placed else None


def _encode(loaded: LoadedModel, question: str, context: str | None) -> tuple[int, ...]:
    if context is not None:
        question = CEILING_PROMPT.format(document=context, question=question)
    return encode_question(loaded.tokenizer, question)
