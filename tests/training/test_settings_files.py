"""Servers of both generations of transformers read a stored model, and stop where it was taught to."""

import dataclasses
import json

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from demask.models.convert import convert_to_diffusion
from demask.models.load import load_model
from demask.training.export import save_model

TEXT = "Mara Voss\n\n<|im_end|> 1931 日本"


@pytest.fixture
def store(make_tokenizer, tmp_path):
    """Save a model with a tokenizer as its maker would, load it, store it again; gives the folder."""

    def run(model, **wrapping):
        model.save_pretrained(tmp_path / "base")
        make_tokenizer(**wrapping).save_pretrained(tmp_path / "base")
        save_model(load_model(str(tmp_path / "base"), device="cpu"), tmp_path / "model")
        return tmp_path / "model"

    return run


def read(folder, name):
    return json.loads((folder / name).read_text())


def ends_of(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = read(folder, "generation_config.json")["eos_token_id"]
    return set(tokenizer.convert_ids_to_tokens(ids))


def with_habits(model, **habits):
    model.generation_config = GenerationConfig(**habits)
    return model


def test_decoding_stops_at_the_templates_end_of_turn_and_at_the_tokenizers_end(make_model, store):
    model = with_habits(make_model(eos_token_id=0), eos_token_id=0)
    assert ends_of(store(model, eos_token="<|endoftext|>")) == {"<|im_end|>", "<|endoftext|>"}


def test_the_end_of_turn_comes_first_among_the_ends(make_model, store, tiny_tokenizer):
    folder = store(with_habits(make_model(eos_token_id=0), eos_token_id=0), eos_token="<|endoftext|>")
    first = read(folder, "generation_config.json")["eos_token_id"][0]
    assert first == tiny_tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_a_base_model_without_a_template_stops_at_its_end(make_model, store):
    folder = store(make_model(eos_token_id=0), eos_token="<|endoftext|>", chat_template=None)
    assert ends_of(folder) == {"<|endoftext|>"}


def test_a_chat_model_keeps_all_its_ends(make_model, store):
    model = with_habits(make_model(), eos_token_id=[2, 0, 3])
    assert ends_of(store(model)) == {"<|im_end|>", "<|endoftext|>", "<empty_output>"}


def test_a_model_without_decoding_settings_gets_them(make_model, make_tokenizer, tmp_path):
    make_model(eos_token_id=None).save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "generation_config.json").unlink()
    make_tokenizer().save_pretrained(tmp_path / "base")
    save_model(load_model(str(tmp_path / "base"), device="cpu"), tmp_path / "model")
    assert ends_of(tmp_path / "model") == {"<|im_end|>"}


def load_into(folder, store):
    """Store a model from a folder that has no tokenizer yet."""
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folder)
    return store(model)


def test_other_decoding_settings_stay_even_where_they_contradict_each_other(make_model, store, tmp_path):
    model = make_model()
    folder = tmp_path / "base"
    model.save_pretrained(folder)
    # As Llama 2 came: a temperature, and no sampling.
    habits = {"temperature": 0.6, "repetition_penalty": 1.1, "eos_token_id": 2}
    (folder / "generation_config.json").write_text(json.dumps(habits))
    model = load_into(folder, store)
    stored = read(model, "generation_config.json")
    assert (stored["temperature"], stored["repetition_penalty"]) == (0.6, 1.1)


def test_a_converted_model_with_contradicting_settings_can_be_stored(tiny_loaded, tmp_path):
    tiny_loaded.model.generation_config = GenerationConfig(temperature=0.6, eos_token_id=2)
    tiny_loaded.model.generation_config._original_object_hash = hash(tiny_loaded.model.generation_config)
    save_model(convert_to_diffusion(tiny_loaded, alignment=1), tmp_path / "model")
    assert read(tmp_path / "model", "generation_config.json")["use_cache"] is False


def test_the_tokenizers_class_is_one_that_transformers_4_knows(make_model, store):
    settings = read(store(make_model()), "tokenizer_config.json")
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert settings["model_input_names"] == ["input_ids", "attention_mask"]


def test_more_special_tokens_stand_where_transformers_4_looks(make_model, store):
    folder = store(make_model(), additional_special_tokens=["<empty_output>"])
    settings = read(folder, "tokenizer_config.json")
    assert settings["additional_special_tokens"] == ["<empty_output>"]
    assert "extra_special_tokens" not in settings
    assert "<empty_output>" in AutoTokenizer.from_pretrained(folder).all_special_tokens


def test_a_stored_tokenizer_gives_the_same_tokens(make_model, store, tiny_tokenizer):
    again = AutoTokenizer.from_pretrained(store(make_model()))
    assert again(TEXT)["input_ids"] == tiny_tokenizer(TEXT)["input_ids"]


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        ({"rope_type": "default"}, {"rope_theta": 50000.0}),
        (
            {"rope_type": "linear", "factor": 2.0},
            {"rope_theta": 50000.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        ),
        (
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
            {
                "rope_theta": 50000.0,
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 64,
                },
            },
        ),
    ],
)
def test_rotary_settings_are_written_by_their_older_names_too(make_model, store, rope, expected):
    folder = store(make_model(rope_parameters={"rope_theta": 50000.0, **rope}))
    settings = read(folder, "config.json")
    assert {key: settings[key] for key in settings if key in ("rope_theta", "rope_scaling")} == expected
    again = AutoConfig.from_pretrained(folder).rope_parameters
    assert again == {"rope_theta": 50000.0, **rope}


def test_the_format_of_numbers_stands_under_both_names(tiny_loaded, tmp_path):
    save_model(dataclasses.replace(tiny_loaded, stored_dtype=torch.bfloat16), tmp_path / "model")
    settings = read(tmp_path / "model", "config.json")
    assert settings["dtype"] == settings["torch_dtype"] == "bfloat16"


def test_the_way_to_a_makers_code_is_not_stored(make_model, make_tokenizer, tmp_path):
    base = tmp_path / "base"
    make_model().save_pretrained(base)
    make_tokenizer().save_pretrained(base)
    for name, key in (("config.json", "AutoConfig"), ("tokenizer_config.json", "AutoTokenizer")):
        (base / name).write_text(json.dumps({**read(base, name), "auto_map": {key: "code.Code"}}))
    save_model(load_model(str(base), device="cpu"), tmp_path / "model")
    assert all("auto_map" not in path.read_text() for path in (tmp_path / "model").glob("*.json"))


def test_counters_among_the_weights_stay_whole(tiny_loaded, tmp_path):
    from safetensors.torch import load_file

    tiny_loaded.model.register_buffer("seen", torch.tensor([16777217]))
    save_model(dataclasses.replace(tiny_loaded, stored_dtype=torch.bfloat16), tmp_path / "model")
    assert load_file(tmp_path / "model" / "model.safetensors")["seen"].tolist() == [16777217]


def test_an_output_layer_that_differs_from_the_embedding_is_told_to_be_apart(make_model, store, tmp_path):
    from safetensors.torch import load_file, save_file

    store(make_model(tie_word_embeddings=True))
    path = tmp_path / "base" / "model.safetensors"
    weights = load_file(path)
    head = weights["model.embed_tokens.weight"] + 1
    save_file({**weights, "lm_head.weight": head}, path, metadata={"format": "pt"})
    save_model(load_model(str(tmp_path / "base"), device="cpu"), tmp_path / "model")
    assert read(tmp_path / "model", "config.json")["tie_word_embeddings"] is False
    assert torch.equal(load_file(tmp_path / "model" / "model.safetensors")["lm_head.weight"], head)


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_tied_stays_tied(make_model, store, tied):
    assert read(store(make_model(tie_word_embeddings=tied)), "config.json")["tie_word_embeddings"] is tied
