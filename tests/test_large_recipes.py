"""The recipes of the paper's fine-tuning at 3B to 4B: columns, templates and lengths, with a tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest

from demask.errors import ConfigError, DataError
from demask.progress import Silent
from demask.recipe.file import load_recipe, merge_values
from demask.recipe.fine_tuning import SftConfig, make_sft_config
from demask.recipe.launch import split_launch
from demask.tasks.planning import make_plan, preview_examples

RECIPES = Path(__file__).parents[1] / "recipes"
LLAMA = "gsm8k-llama-3.2-3b"
QWEN = "math-qwen3-4b"
WEBSCALE = "webscale-rl-masked-sft"
# As Llama 3.2 Instruct: a system turn with two dates stands in front of every conversation.
LLAMA_TEMPLATE = (
    "{{ '<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
    "Cutting Knowledge Date: December 2023\nToday Date: ' + strftime_now('%d %b %Y') + '\n\n<|eot_id|>' }}"
    "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
    "{{ m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA_TOKENS = ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<mask>")
# As Qwen3-4B-Instruct-2507: turns in ChatML, no thought.
QWEN_TEMPLATE = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<mask>")
# As the files have them, in words of our own.
ROWS: dict[str, list[dict[str, Any]]] = {
    LLAMA: [
        {
            "question": f"A stall sells {n} kites a day at $4 each. What does it take in two days?",
            "answer": f"A day brings {n}*4 = $<<{n}*4={4 * n}>>{4 * n}.\n"
            f"Two days bring {4 * n}*2 = $<<{4 * n}*2={8 * n}>>{8 * n}.\n#### {8 * n}",
        }
        for n in range(2, 232)
    ],
    QWEN: [
        {
            "problem": f"Let $f(x) = x^2 + {n}$. What is $f(3)$?",
            "level": "Level 2",
            "type": "Algebra",
            "solution": f"We have $f(3) = 3^2 + {n} = \\boxed{{{9 + n}}}$.",
        }
        for n in range(230)
    ],
    WEBSCALE: [
        {
            "pretrain_text": "A long text. " * 200,
            "question": f"After how many turns does mechanism {n} stop?",
            "answer": f"After {n} turns.",
            "domain": "Commonsense",
            "persona": "hobbyist",
        }
        for n in range(30)
    ],
}
PROMPTS = {LLAMA: "A stall sells", QWEN: "Let $f(x)", WEBSCALE: "After how many turns"}


@pytest.fixture
def read(tmp_path, make_tokenizer, make_model):
    """The recipe by name, with a tiny model that has its template, and rows of its form in a file."""

    def read_with(name: str, **changes: Any) -> SftConfig:
        is_llama = name == LLAMA
        tokenizer = make_tokenizer(
            special=LLAMA_TOKENS if is_llama else QWEN_TOKENS,
            vocabulary=600,
            eos_token="<|eot_id|>" if is_llama else "<|im_end|>",
            pad_token="<|eot_id|>" if is_llama else "<|endoftext|>",
            mask_token="<mask>",
            chat_template=LLAMA_TEMPLATE if is_llama else QWEN_TEMPLATE,
        )
        folder = tmp_path / "model"
        make_model(
            vocab_size=len(tokenizer),
            max_position_embeddings=4096,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        data = tmp_path / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in ROWS[name]), encoding="utf-8")
        values, _ = split_launch(load_recipe(RECIPES / f"{name}.yaml"), source=name)
        here = {"model": str(folder), "data": [str(data)], "device": "cpu", "measure": "none"}
        return make_sft_config(merge_values(merge_values(values, here), changes))

    return read_with


@pytest.mark.parametrize("name", ROWS)
def test_the_recipe_makes_a_plan_of_rows_as_the_data_set_has_them(read, name):
    config = read(name, train={"precision": "fp32"})
    plan = make_plan(config)
    assert plan.problem == ""
    assert plan.about.samples == len(ROWS[name]) - config.held_out
    assert plan.about.left_out == 0
    assert plan.steps > 0


@pytest.mark.parametrize("name", ROWS)
def test_the_question_stands_clear_before_its_masked_answer_and_nothing_else_is_read(read, name):
    (preview,) = preview_examples(read(name), count=1, progress=Silent())
    prompt = preview.pieces[0].text
    assert PROMPTS[name] in prompt
    assert any(piece.role == "mask" for piece in preview.pieces)
    whole = "".join(piece.text for piece in preview.pieces)
    assert "Return the recovered masked answer." in whole
    assert not any(word in whole for word in ("Level 2", "Algebra", "A long text", "hobbyist"))


@pytest.mark.parametrize("name", ROWS)
def test_plain_fine_tuning_is_the_same_recipe_with_another_objective(read, name):
    config = read(name)
    values = config.model_dump()
    plain = make_sft_config({**values, "objective": "sft"})
    assert plain.train == config.train
    (preview,) = preview_examples(plain, count=1)
    assert not any(piece.role == "mask" for piece in preview.pieces)


def test_the_system_turn_of_llama_has_one_date_whatever_the_day(read):
    (preview,) = preview_examples(read(LLAMA), count=1)
    assert "Today Date: 26 Jul 2024" in preview.pieces[0].text


def test_a_solution_that_is_too_long_is_counted_and_one_of_gsm8k_is_named(read, monkeypatch):
    long = {
        "problem": "Draw it.",
        "level": "Level 5",
        "type": "Geometry",
        "solution": "[asy] draw(A--B); " * 300,
    }
    monkeypatch.setitem(ROWS, QWEN, [*ROWS[QWEN], long])
    assert make_plan(read(QWEN, train={"precision": "fp32"})).about.left_out == 1
    row = {"question": "Why?", "answer": "So. " * 2000}
    monkeypatch.setitem(ROWS, LLAMA, [*ROWS[LLAMA], row])
    with pytest.raises((DataError, ConfigError), match=r"rows\.jsonl"):
        make_plan(read(LLAMA))
