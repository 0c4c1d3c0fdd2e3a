"""What each version of the decoder says: remembered answers are used again only under the same one.

The model's weights come from NumPy's legacy generator, whose numbers never change, and its tokens are bytes.
So only decoding can change what is recorded here.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import demask
from demask.evaluation import qa
from demask.evaluation.qa import answers_key
from demask.generation.answers import DECODER_VERSION, generate_answers
from demask.models.diffusion import DiffusionForm, set_diffusion_form
from demask.models.load import LoadedModel, load_model
from demask.objectives.prompts import encode_question, load_chat_format
from demask.recipe.sections import Denoise, Evaluate

RECORDED = Path(__file__).parent / "decoder_versions.json"
BYTES = 260  # 256 and the special tokens
QUESTIONS = (
    "Who founded the Orlin works?",
    "Who founded the Orlin works in 1931?",
    "Which river does the bridge cross?",
    "Why?",
    "When were they sold, and by whom?",
)
WAYS = {
    "autoregressive": None,
    "low-confidence": Denoise(block_length=8),
    "few steps": Denoise(block_length=6, steps=5),
    "random": Denoise(block_length=8, transfer="random"),
    "threshold": Denoise(block_length=8, transfer="threshold", threshold=0.2),
    "prefix cache": Denoise(block_length=4, prefix_cache=True),
}


@pytest.fixture
def loaded(make_tokenizer: Callable, make_model: Callable) -> LoadedModel:
    tokenizer = make_tokenizer(vocabulary=BYTES)
    model = make_model(vocab_size=BYTES, tie_word_embeddings=False)
    rng = np.random.RandomState(0)
    with torch.no_grad():
        for name, weights in sorted(model.named_parameters()):
            drawn = rng.standard_normal(tuple(weights.shape))
            weights.copy_(torch.from_numpy(1 + 0.1 * drawn if "norm" in name else 0.5 * drawn))
        model.lm_head.weight[tokenizer.eos_token_id] *= 2.0  # so that some texts end
    # Not every sequence of bytes is a text.
    tokenizer.decode = lambda ids, **how: " ".join(str(int(one)) for one in ids)
    return LoadedModel(model, tokenizer, load_chat_format(tokenizer), "tiny", "tiny", torch.float32)


def say(loaded: LoadedModel, denoise: Denoise | None) -> list[str]:
    settings = Evaluate(max_new_tokens=16, batch_size=3)
    if denoise is not None:
        mask: Any = loaded.tokenizer.convert_tokens_to_ids("<empty_output>")
        set_diffusion_form(loaded.model.config, DiffusionForm(mask, alignment=0))
        settings = settings.model_copy(update={"denoise": denoise})
    prompts = [encode_question(loaded.tokenizer, question) for question in QUESTIONS]
    said = generate_answers(loaded, prompts, settings)
    return [f"{answer.text}{' end' if answer.stopped else ''}" for answer in said]


@pytest.mark.parametrize("way", WAYS)
def test_a_decoder_that_says_something_else_has_another_version(loaded: LoadedModel, way: str) -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    assert max(map(int, recorded)) == DECODER_VERSION, f"record what the new version says in {RECORDED.name}"
    assert say(loaded, WAYS[way]) == recorded[str(DECODER_VERSION)][way], (
        "decoding has changed: raise DECODER_VERSION in demask.generation.answers and record the new version "
        f"in {RECORDED.name}, beside the old ones"
    )


def test_answers_of_another_version_are_not_used(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, settings = load_model(str(tiny_model_folder), device="cpu"), Evaluate()
    before = answers_key(model, [(1, 2)], settings)
    assert answers_key(model, [(1, 2)], settings) == before
    monkeypatch.setattr(qa, "DECODER_VERSION", DECODER_VERSION + 1)
    decoder = answers_key(model, [(1, 2)], settings)
    monkeypatch.setattr(qa, "DECODER_VERSION", DECODER_VERSION)
    monkeypatch.setattr(demask, "__version__", "0.0.0")
    assert len({before, decoder, answers_key(model, [(1, 2)], settings)}) == 3


def test_a_model_that_was_trained_again_in_place_is_asked_again(
    make_model: Callable, tiny_model_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    before = answers_key(load_model(str(folder), device="cpu"), [(1, 2)], Evaluate())
    make_model(1).save_pretrained(folder)
    assert answers_key(load_model(str(folder), device="cpu"), [(1, 2)], Evaluate()) != before
