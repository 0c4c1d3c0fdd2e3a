"""Of a model that also sees images the text is trained, and everything else is kept."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

from demask.generation.autoregressive import generate_texts
from demask.models.families import text_layers
from demask.models.load import load_architecture, load_model, outline_model
from demask.objectives.prompts import encode_question, load_chat_format
from demask.training.export import add_adapter, save_model

CONTEXT = 320
PROCESSORS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def text_sizes(tokenizer):
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": CONTEXT,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def make_gemma3(text):
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    config = Gemma3Config(
        text_config={**text, "sliding_window": 32}, vision_config=VISION, mm_tokens_per_image=4
    )
    return Gemma3ForConditionalGeneration(config)


def make_qwen35(text):
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    linear = {
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "depth": 1,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": 14,
    }
    layers = {"layer_types": ["linear_attention", "full_attention"]}
    return Qwen3_5ForConditionalGeneration(
        Qwen3_5Config(text_config={**text, **linear, **layers}, vision_config=vision)
    )


def make_mistral3(text):
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    config = Mistral3Config(
        text_config={**text, "model_type": "mistral"},
        vision_config={**VISION, "model_type": "pixtral", "head_dim": 8},
    )
    return Mistral3ForConditionalGeneration(config)


@pytest.fixture(params=[make_gemma3, make_qwen35, make_mistral3], ids=["gemma3", "qwen35", "mistral3"])
def folder(request, tiny_tokenizer, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        request.param(text_sizes(tiny_tokenizer)).save_pretrained(tmp_path / "base")
    tiny_tokenizer.save_pretrained(tmp_path / "base")
    for name in PROCESSORS:
        (tmp_path / "base" / name).write_text(json.dumps({"image_processor_type": name}))
    return tmp_path / "base"


@pytest.fixture
def loaded(folder):
    return load_model(str(folder), device="cpu")


def read_weights(folder):
    return {
        name: weights for path in folder.glob("*.safetensors") for name, weights in load_file(path).items()
    }


def test_every_weight_is_stored_again_as_it_came(folder, loaded, tmp_path):
    save_model(loaded, tmp_path / "model")
    before, after = read_weights(folder), read_weights(tmp_path / "model")
    assert before.keys() == after.keys()
    assert all(torch.equal(weights, after[name]) for name, weights in before.items())


def test_the_architecture_keeps_its_name(folder, loaded, tmp_path):
    save_model(loaded, tmp_path / "model")
    before, after = (
        json.loads((place / "config.json").read_text()) for place in (folder, tmp_path / "model")
    )
    assert (before["architectures"], before["model_type"]) == (after["architectures"], after["model_type"])


def test_what_prepares_images_is_stored_again(folder, loaded, tmp_path):
    save_model(loaded, tmp_path / "model")
    assert all((tmp_path / "model" / name).read_text() == (folder / name).read_text() for name in PROCESSORS)


def test_the_format_of_numbers_is_told_at_every_level(loaded, tmp_path):
    save_model(dataclasses.replace(loaded, stored_dtype=torch.bfloat16), tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert {part["dtype"] for part in (config, config["text_config"], config["vision_config"])} == {
        "bfloat16"
    }


def test_the_context_is_that_of_the_text_part(loaded):
    assert loaded.context == CONTEXT


def test_a_plan_counts_the_weights_of_all_parts(folder, loaded):
    outline = outline_model(load_architecture(str(folder)))
    assert sum(weights.numel() for weights in outline.parameters()) == loaded.parameters


def test_only_what_reads_and_writes_text_is_trained(loaded):
    text = {id(weights) for weights in text_layers(loaded.model).parameters()}
    text |= {id(weights) for weights in loaded.model.get_output_embeddings().parameters()}
    trained = {id(weights) for weights in loaded.model.parameters() if weights.requires_grad}
    assert trained == text
    assert len(trained) < sum(1 for _ in loaded.model.parameters())


def test_an_adapter_stays_off_the_part_that_sees(loaded):
    adapter = add_adapter(loaded.model, rank=2, seed=0)
    names = [name for name, _ in adapter.named_parameters() if "lora_" in name]
    assert names
    assert not [name for name in names if "vision" in name or "visual" in name or "projector" in name]


def test_batches_are_answered_like_single_questions(loaded):
    prompts = [encode_question(loaded.tokenizer, text) for text in ("Who?", "Which river does it cross?")]
    alone = [generate_texts(loaded, [p], max_new_tokens=4, batch_size=1)[0].text for p in prompts]
    together = generate_texts(loaded, prompts, max_new_tokens=4, batch_size=2)
    assert [generated.text for generated in together] == alone


def test_the_template_of_a_processor_is_used(folder, tiny_tokenizer):
    template = tiny_tokenizer.chat_template
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    found = load_model(str(folder), device="cpu")
    assert found.tokenizer.chat_template == template
    assert found.chat == load_chat_format(tiny_tokenizer)


def test_the_text_part_alone_is_loaded_as_such_where_the_configuration_names_it(tiny_tokenizer, tmp_path):
    from transformers import Qwen3_5ForCausalLM

    config = make_qwen35(text_sizes(tiny_tokenizer)).config
    Qwen3_5ForCausalLM(config.text_config).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    assert type(load_model(str(tmp_path), device="cpu").model).__name__ == "Qwen3_5ForCausalLM"
