"""The benchmark of changed facts for one base model: ask it what it knows, and write what says otherwise.

    made = prepare_changed_facts("embedded", data, facts=None, offset=0, device="auto", progress=progress)
    made.documents, made.pairs, made.apart

What was written is read again: a comparison that goes on does not ask the base model again.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from demask.benchmarks.benchmark import Benchmark, load_own_folder, write_benchmark
from demask.benchmarks.changed_facts import NAME, Known, ask_base, make_changed_facts
from demask.progress import Progress
from demask.records import QAPair
from demask.storage.file_names import DOCUMENTS, QA_PAIRS

# Taught unless another number is asked for; with fewer known ones, those that are.
FACTS = 40


def prepare_changed_facts(
    model: str,
    data: Path,
    *,
    facts: int | None,
    offset: int,
    device: Literal["auto", "cpu", "cuda"],
    progress: Progress,
) -> Benchmark:
    """The benchmark for a base model, which is asked unless the folder has what it knows.

    Args:
        model: as a recipe names it.
        data: folder that gets the files.
        facts: how many are changed; None: 40, or as many as the model knows.
        offset: how many to leave out before.
        device: on which the model is asked.
        progress: told how far it is.

    Raises:
        ConfigError: the model does not know so many.
    """
    if (data / DOCUMENTS).is_file() and (data / QA_PAIRS).is_file():
        return replace(load_own_folder(data, facts=None), name=NAME)
    known = find_known_facts(model, device=device, progress=progress)
    made = make_changed_facts(known, facts=facts, offset=offset, most=FACTS)
    progress.say(
        f"{model} knows {len(known.attributes)} facts in two wordings, {len(known.facts)} of which can be "
        f"changed; {len(made.documents)} are, and {len(made.apart)} questions are asked apart"
    )
    write_benchmark(made, data)
    return made


def find_known_facts(model: str, *, device: Literal["auto", "cpu", "cuda"], progress: Progress) -> Known:
    """Ask a base model for everything that might be changed.

    Args:
        model: as a recipe names it.
        device: on which it is asked.
        progress: told how far it is.
    """
    from demask.evaluation.metrics import score_predictions
    from demask.evaluation.qa import ask_kept, make_prompts
    from demask.evaluation.retention.asking import LIMITS
    from demask.models.load import load_model
    from demask.recipe.sections import Evaluate

    def ask(pairs: Sequence[QAPair]) -> Collection[str]:
        progress.begin(f"Loading {model}", 1)
        loaded = load_model(model, device=device)
        progress.begin("Asking what the base model knows", len(pairs), unit="questions")
        prompts = make_prompts(loaded, pairs)
        settings = Evaluate(max_new_tokens=LIMITS["known"])
        said = ask_kept(loaded, prompts, settings, keep=True, on_done=progress.advance)
        answered = [replace(one, qa_id=pair.id) for one, pair in zip(said, pairs, strict=True)]
        return {score.qa_id for score in score_predictions(answered, pairs) if score.right}

    return ask_base(ask)
