"""A tiny model with room for few-shot examples, and tiny sets in the form of the folder of published sets."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SETS: dict[str, list[dict[str, Any]]] = {
    "gsm8k/test.jsonl": [
        {
            "question": f"Mara has {n} pears and gets {n}. How many?",
            "answer": f"{n}+{n}=<<{n}+{n}={2 * n}>>\n#### {2 * n:,}",
        }
        for n in range(400, 900, 50)
    ],
    "gsm8k/train.jsonl": [
        {"question": f"Two and {n}?", "answer": f"It is {n + 2}.\n#### {n + 2}"} for n in range(8)
    ],
    "svamp/svamp.jsonl": [
        {"id": f"s{n}", "question": f"Each of {n} costs 3.", "answer": float(3 * n)} for n in range(1, 6)
    ],
    "retention/arc_easy.jsonl": [
        {
            "id": f"a{n}",
            "question": f"Which is {n}?",
            "choices": ["nil", f"the {n}", "fox", "dog"],
            "answer": n % 4,
        }
        for n in range(12)
    ],
    "retention/boolq.jsonl": [
        {"id": f"b{n}", "question": f"is {n} a number?", "choices": ["false", "true"], "answer": n % 2}
        for n in range(4)
    ],
}


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of published sets, with a few rows each."""
    folder = tmp_path / "sets"
    for name, rows in SETS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("DEMASK_DATA", str(folder))
    return folder


@pytest.fixture(scope="session")
def make_model_folder(
    make_model: "Callable[..., LlamaForCausalLM]",
    shared_tokenizer: "PreTrainedTokenizerFast",
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., str]:
    """Save a random model of a context that holds few-shot examples."""

    def make(seed: int = 0, context: int = 2048) -> str:
        folder = tmp_path_factory.mktemp("models") / f"model-{seed}"
        make_model(seed, max_position_embeddings=context).save_pretrained(folder)
        shared_tokenizer.save_pretrained(folder)
        return str(folder)

    return make


@pytest.fixture(scope="session")
def model_folder(make_model_folder: Callable[..., str]) -> str:
    """One of them; not to be changed."""
    return make_model_folder()


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], None]:
    """Have every model write these answers, in the order of the questions."""

    def use(answers: Sequence[str]) -> None:
        from lm_eval.models.huggingface import HFLM

        def generate_until(self: HFLM, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            by_question = sorted(range(len(requests)), key=lambda place: requests[place].doc_id)
            written = dict(zip(by_question, answers, strict=True))
            return [written[place] for place in range(len(requests))]

        monkeypatch.setattr(HFLM, "generate_until", generate_until)

    return use
