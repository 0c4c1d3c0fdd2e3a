"""Ask a model questions, without the documents (what it knows) or with them (what it could know).

    predictions = ask_questions(loaded, pairs, settings)
    contexts = choose_contexts(loaded, pairs, documents, passages, max_new_tokens=128)
    ceiling = ask_questions(loaded, pairs, settings, contexts=contexts)
    scores = score_predictions(predictions, pairs)                          # evaluation.metrics

What a base model said is kept in the user's cache, so that it is asked the same only once:

    key = answers_key(loaded, prompts, settings)
    predictions = recall(key, ids, prompts) or ask(...)
    remember(key, predictions)
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

import demask
from demask.environment import cache_folder
from demask.errors import RunError
from demask.generation.answers import DECODER_VERSION, generate_answers
from demask.knowledge.directions import place_answer
from demask.models.fingerprints import fingerprint_model
from demask.models.load import LoadedModel
from demask.models.quantised import kept_as
from demask.objectives.masking import keyed_rng
from demask.objectives.prompts import encode_question
from demask.recipe.sections import Evaluate
from demask.records import Document, Passage, Prediction, QAPair
from demask.storage.atomic import write_text

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
        contexts: by pair id, what stands in the prompt before each question; None or "": nothing does.
        on_done: told how many questions a finished batch had.
    """
    prompts = make_prompts(loaded, pairs, contexts)
    return ask_prompts(loaded, [pair.id for pair in pairs], prompts, settings, on_done=on_done)


def ask_prompts(
    loaded: LoadedModel,
    ids: Sequence[str],
    prompts: Sequence[Sequence[int]],
    settings: Evaluate,
    *,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Prediction]:
    """One prediction per prompt, in order.

    Args:
        loaded: the model to ask.
        ids: of the predictions.
        prompts: as token ids.
        settings: limits, batches, and how masked-diffusion models denoise.
        on_done: told how many prompts a finished batch had.
    """
    answers = generate_answers(loaded, prompts, settings, on_done=on_done)
    return [
        Prediction(id, answer.text, answer.tokens, round(answer.seconds, 4), answer.stopped, len(prompt))
        for id, answer, prompt in zip(ids, answers, prompts, strict=True)
    ]


def ask_kept(
    loaded: LoadedModel,
    prompts: Sequence[tuple[int, ...]],
    settings: Evaluate,
    *,
    keep: bool,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Prediction]:
    """One prediction per prompt, in order, from the user's cache where it was asked before.

    Args:
        loaded: the model to ask.
        prompts: as token ids.
        settings: limits, batches, and how masked-diffusion models denoise.
        keep: of a base model: what it says is kept in the user's cache.
        on_done: told how many prompts a finished batch had.
    """
    ids = [str(place) for place in range(len(prompts))]
    key = answers_key(loaded, prompts, settings) if keep else None
    kept = recall(key, ids, prompts)
    if kept is not None:
        on_done(len(kept))
        return kept
    said = ask_prompts(loaded, ids, prompts, settings, on_done=on_done)
    with suppress(RunError):  # a cache that cannot be written is asked again the next time
        remember(key, said)
    return said


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
    fits = partial(_fits, loaded, max_new_tokens)
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


def count_fitting(loaded: LoadedModel, pair: QAPair, texts: Sequence[str], *, max_new_tokens: int) -> int:
    """How many of the texts, from the first on, fit the model's context together, before a question.

    Args:
        loaded: the model to ask.
        pair: of the question.
        texts: the best first, see `join_texts`.
        max_new_tokens: for which there must be room, too.
    """
    fitting = (count for count in range(len(texts), 0, -1))
    return next(
        (count for count in fitting if _fits(loaded, max_new_tokens, pair, join_texts(texts[:count]))), 0
    )


def join_texts(texts: Sequence[str]) -> str:
    """Several texts as one that stands before a question."""
    return "\n\n".join(texts)


def _fits(loaded: LoadedModel, max_new_tokens: int, pair: QAPair, text: str) -> bool:
    return len(_encode(loaded, pair.question, text)) + max_new_tokens <= loaded.context


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
    if context:
        question = CEILING_PROMPT.format(document=context, question=question)
    return encode_question(loaded.tokenizer, question)


# What a base model said, kept


def answers_key(loaded: LoadedModel, prompts: Sequence[Sequence[int]], settings: Evaluate) -> str | None:
    """Names the answers of a model to these prompts; None when the model's files cannot be told.

    The key covers what greedy words depend on: what the model's files hold, prompts token by token, limits,
    and the versions that compute them, the decoder's own among them. A model that is about to be trained is
    asked before and with its documents at hand, which takes as long in the tenth run on the same documents
    as in the first.
    """
    model = fingerprint_model(loaded.source, getattr(loaded.model.config, "_commit_hash", None))
    if model is None:
        return None
    return _digest(
        {
            "model": model,
            "demask": demask.__version__,  # by which weights are read and prepared
            "decoder": DECODER_VERSION,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "device": loaded.device.type,
            **({"weights": kept} if (kept := kept_as(loaded.model)) else {}),
            "max_new_tokens": settings.max_new_tokens,
            "batch_size": settings.batch_size,
            "denoise": settings.denoise.model_dump() if loaded.diffusion else None,
            "prompts": [list(prompt) for prompt in prompts],
        }
    )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def recall(key: str | None, ids: Sequence[str], prompts: Sequence[Sequence[int]]) -> list[Prediction] | None:
    """What was said to these prompts, under these ids; None when that was never asked, or cannot be read."""
    if key is None or not _file(key).exists():
        return None
    try:
        rows: list[dict[str, Any]] = json.loads(_file(key).read_text(encoding="utf-8"))
        said = [Prediction(**row) for row in rows]
    except (OSError, ValueError, TypeError):  # cut by hand, or of another version
        return None
    if len(said) != len(ids):
        return None
    return [
        replace(one, qa_id=id, prompt_tokens=len(prompt))  # which earlier versions did not keep
        for one, id, prompt in zip(said, ids, prompts, strict=True)
    ]


def remember(key: str | None, predictions: Sequence[Prediction]) -> None:
    """Keep what was said.

    Raises:
        RunError: the cache cannot be written.
    """
    if key is not None:
        write_text(_file(key), json.dumps([asdict(one) for one in predictions], ensure_ascii=False))


def _file(key: str) -> Path:
    return cache_folder() / "answers" / f"{key}.json"
