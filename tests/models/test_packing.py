"""Examples in one row are scored as each is alone, or the model is found out and they are padded.

Truth is each example in a row of its own, by the attention that the model came with.
"""

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from demask.models.acceleration.packing import PACKED, can_pack, using_attention
from demask.models.acceleration.target_logits import packing_is_exact, score_targets
from demask.objectives.batches import pack, pad
from demask.records import IGNORE_INDEX, Example

pytestmark = pytest.mark.smoke

VOCABULARY = 50
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "initializer_range": 0.3,  # positions must matter for a leak to show
}
HEAD: dict[str, Any] = {"head_dim": 8}
# The window is shorter than the examples below.
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, **HEAD),
    "mistral": MistralConfig(**SIZES, **HEAD, sliding_window=4),
    "gemma3": Gemma3TextConfig(
        **SIZES, **HEAD, sliding_window=4, layer_types=["sliding_attention", "full_attention"]
    ),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        bos_token_id=None,
        eos_token_id=None,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        initializer_range=0.3,
    ),
}


def make_model(config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def make_examples():
    examples = []
    for row, length in enumerate((9, 5, 12)):
        ids = tuple((7 * row + 3 * place) % VOCABULARY for place in range(length))
        labels = (*(IGNORE_INDEX,) * (row + 1), *ids[row + 1 :])
        examples.append(Example(f"e{row}", ids, labels, (False,) * length))
    return examples


def score_apart(model):
    return torch.cat(
        [score_targets(model, pad([e], pad_id=0), head_of=model).nats_N for e in make_examples()]
    )


def score_packed(model):
    with using_attention(model, PACKED):
        return score_targets(model, pack(make_examples()), head_of=model).nats_N


@pytest.mark.parametrize("name", CONFIGS)
def test_packed_examples_score_as_each_alone(name):
    model = make_model(CONFIGS[name])
    assert can_pack(model)
    assert torch.allclose(score_packed(model), score_apart(model), atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_packed_examples_have_the_gradients_of_each_alone(name):
    model = make_model(CONFIGS[name])
    score_apart(model).sum().backward()
    expected = {key: weights.grad.clone() for key, weights in model.named_parameters()}
    model.zero_grad()
    with using_attention(model, PACKED):
        score_targets(model, pack(make_examples()), head_of=model).nats_N.sum().backward()
    for key, weights in model.named_parameters():
        assert torch.allclose(weights.grad, expected[key], atol=1e-3), key


def test_dropout_of_attention_is_done_in_training_as_the_model_asks():
    model = make_model(GPT2Config(**{**CONFIGS["gpt2"].to_dict(), "attn_pdrop": 0.5})).train()
    torch.manual_seed(0)
    one, other = score_packed(model), score_packed(model)
    assert not torch.allclose(one, other)
    assert torch.allclose(score_packed(model.eval()), score_apart(model), atol=1e-4)


def test_gradient_checkpointing_keeps_packed_examples_apart():
    model = make_model(CONFIGS["llama"])
    score_apart(model).sum().backward()
    expected = model.model.layers[0].mlp.up_proj.weight.grad.clone()
    model.zero_grad()
    model.train()
    model.activation_checkpointing_enable()
    with using_attention(model, PACKED):
        score_targets(model, pack(make_examples()), head_of=model).nats_N.sum().backward()
    assert torch.allclose(model.model.layers[0].mlp.up_proj.weight.grad, expected, atol=1e-3)


def test_without_boundaries_the_examples_of_this_test_would_see_each_other():
    model, batch = make_model(CONFIGS["llama"]), pack(make_examples())
    batch["lengths"], batch["longest"] = batch["lengths"].sum()[None], 26
    with using_attention(model, PACKED):
        found = score_targets(model, batch, head_of=model).nats_N
    assert (found - score_apart(model)).abs().max() > 0.1


def test_packing_is_trusted_where_it_is_exact():
    model = make_model(CONFIGS["llama"])
    assert packing_is_exact(model, pack(make_examples()), pad(make_examples(), pad_id=0), tolerance=1e-3)


class MixesNeighbours(LlamaForCausalLM):
    """Something besides its attention looks at the position before, as convolutions do."""

    def forward(self, input_ids, **rest):
        seen = self.model.embed_tokens(input_ids)
        return super().forward(
            inputs_embeds=seen + seen.roll(1, dims=1).index_fill(1, torch.tensor([0]), 0.0), **rest
        )


def test_packing_is_not_trusted_where_something_else_mixes_positions():
    torch.manual_seed(0)
    model = MixesNeighbours(CONFIGS["llama"]).eval()
    assert not packing_is_exact(model, pack(make_examples()), pad(make_examples(), pad_id=0), tolerance=1e-2)


def test_packing_is_not_trusted_where_attention_does_more_than_ours():
    capped = Gemma2Config(**SIZES, **HEAD, attn_logit_softcapping=1.0)
    model = make_model(capped)
    assert not packing_is_exact(model, pack(make_examples()), pad(make_examples(), pad_id=0), tolerance=1e-2)
    assert model.config._attn_implementation != PACKED


def test_the_usual_attention_comes_back_after_an_error():
    model = make_model(CONFIGS["llama"])
    usual = model.config._attn_implementation
    with pytest.raises(ValueError, match="without boundaries"), using_attention(model, PACKED):
        model(input_ids=torch.tensor([[1, 2, 3]]))
    assert model.config._attn_implementation == usual
