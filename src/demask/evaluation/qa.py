"""Ask a model questions, without the documents (what it knows) or with them (what it could know).

predictions = ask_questions(loaded, pairs, settings)
ceiling = ask_questions(loaded, pairs, settings, documents=documents)
scores = score_predictions(predictions, pairs)          # evaluation.matching
"""

from collections.abc import Callable, Mapping, Sequence

from demask.config import Evaluate
from demask.generation.answers import generate_answers
from demask.models.load import LoadedModel
from demask.objectives.prompts import encode_question
from demask.records import Document, Prediction, QAPair

# Ours. The floor and the tuned model get the bare question.
CEILING_PROMPT = "{document}\n\nAnswer the question from the text above.\n{question}"


def ask_questions(
    loaded: LoadedModel,
    pairs: Sequence[QAPair],
    settings: Evaluate,
    *,
    documents: Mapping[str, Document] | None = None,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Prediction]:
    """One prediction per question, in order.

    Args:
        loaded: the model to ask.
        pairs: what to ask.
        settings: limits, batches, and how masked-diffusion models denoise.
        documents: by id; when given, each question comes with its whole document in the prompt.
        on_done: told how many questions a finished batch had.
    """
    answers = generate_answers(loaded, make_prompts(loaded, pairs, documents), settings, on_done=on_done)
    return [
        Prediction(pair.id, answer.text, answer.tokens, round(answer.seconds, 4), answer.stopped)
        for pair, answer in zip(pairs, answers, strict=True)
    ]


def make_prompts(
    loaded: LoadedModel, pairs: Sequence[QAPair], documents: Mapping[str, Document] | None = None
) -> list[tuple[int, ...]]:
    """The token ids that each question is asked with; see `ask_questions`."""
    return [encode_question(loaded.tokenizer, _question(pair, documents)) for pair in pairs]


def fits_with_document(
    loaded: LoadedModel, pair: QAPair, documents: Mapping[str, Document], max_new_tokens: int
) -> bool:
    """Whether the question, its document and the answer fit the model's context."""
    prompt = encode_question(loaded.tokenizer, _question(pair, documents))
    return len(prompt) + max_new_tokens <= loaded.context


def _question(pair: QAPair, documents: Mapping[str, Document] | None) -> str:
    if documents is None:
        return pair.question
    return CEILING_PROMPT.format(document=documents[pair.document_id].text, question=pair.question)
