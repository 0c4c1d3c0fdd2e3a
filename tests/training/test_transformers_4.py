"""What is stored says the same in transformers 4, on which servers were built, as in transformers 5."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

from demask.environment import cache_folder
from demask.models.load import load_model
from demask.training.export import save_model

VERSION = "4.57.6"
# Made once; the tests' own cache begins empty in every session.
ENVIRONMENT = cache_folder() / f"transformers-{VERSION}"
SCRIPT = Path(__file__).with_name("read_model_folders.py")
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": 2,
}
THETA = {"rope_theta": 50000.0}
SHORT = {"original_max_position_embeddings": 64}
FACTORS = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
MAMBA2 = {"mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 8}
LAYERS = ["sliding_attention", "full_attention"]
FAMILIES = {
    "tied": ("Llama", {"rope_parameters": {"rope_type": "default", **THETA}, "tie_word_embeddings": True}),
    "llama3": ("Llama", {"rope_parameters": {**LLAMA3, **SHORT, **THETA}}),
    "yarn": ("Qwen2", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, **SHORT, **THETA}}),
    "dynamic": ("Llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, **THETA}}),
    "longrope": (
        "Phi3",
        {"rope_parameters": {"rope_type": "longrope", **FACTORS, **SHORT, **THETA}, **SHORT},
    ),
    "partial": ("GPTNeoX", {"rope_parameters": {"partial_rotary_factor": 0.5, **THETA}}),
    "two_ropes": (
        "Gemma3Text",
        {
            "head_dim": 16,
            "sliding_window": 32,
            "layer_types": LAYERS,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0},
                "full_attention": {"rope_type": "linear", "factor": 8.0, **THETA},
            },
        },
    ),
    "experts": ("Qwen3Moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}),
    "hybrid": (
        "GraniteMoeHybrid",
        {
            **MAMBA2,
            "num_local_experts": 0,
            "shared_intermediate_size": 64,
            "layer_types": ["mamba", "attention"],
        },
    ),
}


def make_model(kind, changes, rows):
    import transformers

    sizes = {"vocab_size": rows, **TEXT, **changes}
    if kind == "Mistral3":
        vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8}
        config = transformers.Mistral3Config(
            text_config={**sizes, "model_type": "mistral"},
            vision_config={**vision, "model_type": "pixtral", "intermediate_size": 32, "image_size": 28},
        )
        return transformers.Mistral3ForConditionalGeneration(config)
    return transformers.AutoModelForCausalLM.from_config(getattr(transformers, f"{kind}Config")(**sizes))


def make_environment():
    """A virtual environment with transformers 4; torch is that of this one."""
    python = ENVIRONMENT / "bin" / "python"
    done = ENVIRONMENT / "done"
    if done.exists():
        return python
    # Neither a pip of its own nor modules compiled that nobody loads: two thirds of its time.
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile"]
    commands = (
        [sys.executable, "-m", "venv", "--clear", "--without-pip", str(ENVIRONMENT)],
        [*pip, f"transformers=={VERSION}", "jinja2>=3.1"],
    )
    for command in commands:
        made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if made.returncode != 0:
            reason = (made.stderr.strip().splitlines() or ["no reason given"])[-1]
            pytest.skip(f"transformers {VERSION} cannot be installed here: {reason}")
    packages = next((ENVIRONMENT / "lib").glob("python*/site-packages"))
    # Behind the environment's own packages, of which it has all but torch and what torch needs.
    (packages / "torch_of_tests.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    done.touch()
    return python


def read_with(python, words, out):
    left_out = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    command = [str(python), str(SCRIPT), str(out), *map(str, words)]
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=1800)
    assert made.returncode == 0, made.stderr[-2000:]
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def readings(make_tokenizer, tmp_path_factory):
    """What transformers 5 and 4 say of the same folders."""
    place = tmp_path_factory.mktemp("generations")
    python = make_environment()
    tokenizer = make_tokenizer(additional_special_tokens=["<empty_output>"])
    for name, (kind, changes) in {**FAMILIES, "sees": ("Mistral3", {})}.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = make_model(kind, changes, len(tokenizer))
        (model.bfloat16() if name == "tied" else model).save_pretrained(place / "base" / name)
        tokenizer.save_pretrained(place / "base" / name)
        loaded = load_model(str(place / "base" / name), device="cpu")
        save_model(loaded, place / name)
    folders = [place / name for name in (*FAMILIES, "sees")]
    five = read_with(sys.executable, folders, place / "five.json")
    four = read_with(python, folders, place / "four.json")
    assert (five["version"][0], four["version"]) == ("5", VERSION)
    return {name: (five["folders"][name], four["folders"][name]) for name in five["folders"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FAMILIES, "sees"])
def test_both_generations_give_the_same_logits(readings, name):
    five, four = (torch.tensor(reading["logits"]) for reading in readings[name])
    # Sums in another order; without the right rotary settings they differ by 0.003 at least.
    assert torch.allclose(five, four, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FAMILIES, "sees"])
def test_both_generations_read_the_same_tokens_and_settings(readings, name):
    five, four = ({**reading, "logits": None} for reading in readings[name])
    assert five == four


@pytest.mark.slow
def test_both_generations_write_the_same_answers_to_twenty_prompts(tmp_path):
    save_model(load_model("embedded", device="cpu"), tmp_path / "model")
    words = ["--texts", tmp_path / "model"]
    five, four = (
        read_with(python, words, tmp_path / "texts.json") for python in (sys.executable, make_environment())
    )
    assert (five["version"][0], four["version"]) == ("5", VERSION)
    assert len(five["folders"]) == 20
    assert five["folders"] == four["folders"]
