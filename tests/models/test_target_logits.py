"""Scoring chosen positions only gives the loss and the gradients of the full logits, on every architecture.

Truth is the model's own full logits with PyTorch's cross-entropy on shifted labels.
"""

import math
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    Qwen2Config,
)
from transformers.modeling_outputs import CausalLMOutput

from demask.errors import ModelError
from demask.models.acceleration.target_logits import check_target_logits, score_targets
from demask.objectives.batches import pad
from demask.records import IGNORE_INDEX, Example

VOCABULARY = 50
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**SIZES),
    # Soft caps small enough to bend these logits.
    "gemma2": Gemma2Config(
        **SIZES, head_dim=8, final_logit_softcapping=0.5, attn_logit_softcapping=1.0, initializer_range=0.5
    ),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=64,
        bos_token_id=None,
        eos_token_id=None,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
    ),
}
each_architecture = pytest.mark.parametrize("name", CONFIGS)


def make_model(config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def make_examples():
    """Three examples of different length; loss begins at the start, in the middle and with a gap."""
    ids = [
        tuple((7 * row + 3 * place) % VOCABULARY for place in range(n)) for row, n in enumerate((9, 5, 12))
    ]
    first, second, third = ids
    gap = (*(IGNORE_INDEX,) * 6, *third[6:8], IGNORE_INDEX, *third[9:])
    return [
        Example("a", first, (IGNORE_INDEX, *first[1:]), (False,) * 4 + (True,) * 5),
        Example("b", second, (*(IGNORE_INDEX,) * 3, *second[3:]), (False,) * 3 + (True, False)),
        Example("c", third, gap, (False,) * 7 + (True,) + (False,) * 4),
    ]


def make_batch():
    return pad(make_examples(), pad_id=0)


def full_loss(model, batch):
    """Sum over the scored tokens, from all logits, as in any PyTorch tutorial."""
    logits = model(input_ids=batch["input_ids"]).logits[:, :-1]
    return nn.functional.cross_entropy(
        logits.reshape(-1, VOCABULARY),
        batch["labels"][:, 1:].reshape(-1),
        ignore_index=IGNORE_INDEX,
        reduction="sum",
    )


@each_architecture
def test_loss_is_that_of_the_full_logits(name):
    model, batch = make_model(CONFIGS[name]), make_batch()
    with torch.no_grad():
        found, full = score_targets(model, batch, head_of=model).nats_N, full_loss(model, batch)
    assert found.numel() == 8 + 2 + 5
    assert float(found.sum()) == pytest.approx(float(full), abs=1e-4)


@each_architecture
def test_gradients_are_those_of_the_full_logits(name):
    model, batch = make_model(CONFIGS[name]), make_batch()
    score_targets(model, batch, head_of=model).nats_N.sum().backward()
    found = {key: weights.grad.clone() for key, weights in model.named_parameters()}
    model.zero_grad()
    full_loss(model, batch).backward()
    for key, weights in model.named_parameters():
        assert torch.allclose(found[key], weights.grad, atol=1e-4), key


@each_architecture
def test_no_attention_mask_is_needed_for_padding_on_the_right(name):
    model, batch = make_model(CONFIGS[name]), make_batch()
    together = score_targets(model, batch, head_of=model).nats_N
    singles = [pad([example], pad_id=0) for example in make_examples()]
    alone = [score_targets(model, single, head_of=model).nats_N for single in singles]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


@each_architecture
def test_check_accepts_known_architectures(name):
    model = make_model(CONFIGS[name])
    check_target_logits(model, make_batch())


def test_soft_caps_bend_the_logits_of_this_test():
    logits = make_model(CONFIGS["gemma2"])(input_ids=make_batch()["input_ids"]).logits
    assert 0.3 < logits.detach().abs().max() <= 0.5


def test_masked_flags_come_in_the_order_of_the_nats():
    model, batch = make_model(CONFIGS["llama"]), make_batch()
    scored = score_targets(model, batch, head_of=model)
    assert scored.masked_N.tolist() == [
        *(False, False, False, True, True, True, True, True),
        *(True, False),
        *(False, True, False, False, False),
    ]


def test_the_output_layer_is_left_as_it_was():
    model, batch = make_model(CONFIGS["llama"]), make_batch()
    before = model(input_ids=batch["input_ids"]).logits
    score_targets(model, batch, head_of=model)
    assert torch.equal(model(input_ids=batch["input_ids"]).logits, before)


def test_the_output_layer_is_left_as_it_was_after_an_error():
    model, batch = make_model(CONFIGS["llama"]), make_batch()
    wrong = batch.copy()
    wrong["input_ids"] = batch["input_ids"] + 10 * VOCABULARY
    with pytest.raises(IndexError):
        score_targets(model, wrong, head_of=model)
    assert model(input_ids=batch["input_ids"]).logits.ndim == 3


class Table(nn.Module):
    """Says what stands in a table of logits, so that the gradient of every logit can be seen."""

    config = PretrainedConfig()

    def __init__(self, logits_BTV):
        super().__init__()
        self.table, self.head = nn.Parameter(logits_BTV), nn.Identity()

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids, use_cache=False):
        return CausalLMOutput(logits=self.head(self.table))


def test_an_uninformed_model_scores_log_v():
    batch = make_batch()
    model: Any = Table(torch.zeros(*batch["labels"].shape, VOCABULARY))
    nats = score_targets(model, batch, head_of=model).nats_N.detach()
    assert nats.tolist() == pytest.approx([math.log(VOCABULARY)] * 15, abs=1e-5)


def test_a_token_is_predicted_by_the_logits_of_the_position_before_it():
    batch = make_batch()
    logits = torch.zeros(*batch["labels"].shape, VOCABULARY)
    following = batch["input_ids"].roll(-1, dims=1)
    logits.scatter_(2, following[..., None], 1e4)
    model: Any = Table(logits)
    assert not score_targets(model, batch, head_of=model).nats_N.any()


def test_no_gradient_where_no_loss_is_due():
    batch = make_batch()
    model: Any = Table(torch.randn(*batch["labels"].shape, VOCABULARY, generator=torch.manual_seed(0)))
    score_targets(model, batch, head_of=model).nats_N.sum().backward()
    moved = model.table.grad.abs().sum(-1) > 0
    due = torch.zeros_like(moved)
    due[:, :-1] = batch["labels"][:, 1:] != IGNORE_INDEX
    assert torch.equal(moved, due)


class LooksAtAllPositions(LlamaForCausalLM):
    """Takes the mean over the second axis away, which is no longer that of positions."""

    def forward(self, input_ids, **rest):
        out = super().forward(input_ids=input_ids, **rest)
        out.logits = out.logits - 5 * out.logits.mean(dim=1, keepdim=True)
        return out


class HasItsOwnProduct(LlamaForCausalLM):
    """Never calls its output layer."""

    def forward(self, input_ids, **rest):
        hidden = self.model(input_ids=input_ids).last_hidden_state
        return CausalLMOutput(logits=nn.functional.linear(hidden, self.lm_head.weight))


class HasNoOutputLayer(LlamaForCausalLM):
    """Does not say where its output layer is."""

    def get_output_embeddings(self):
        return None


@pytest.mark.parametrize("architecture", [LooksAtAllPositions, HasItsOwnProduct, HasNoOutputLayer])
def test_check_refuses_an_architecture_that_breaks_it(architecture):
    torch.manual_seed(0)
    model = architecture(CONFIGS["llama"]).eval()
    model.lm_head.weight.data.normal_()
    with pytest.raises(ModelError, match=f"{architecture.__name__}: its logits cannot be computed"):
        check_target_logits(model, make_batch())
