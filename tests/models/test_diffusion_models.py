"""What makes a masked-diffusion model stands in its configuration, and its mask token is never written."""

import pytest
import torch

from demask.errors import ModelError
from demask.models.diffusion import (
    DiffusionForm,
    diffusion_form,
    get_diffusion_form,
    predict_masked,
    set_diffusion_form,
    vocabulary_size,
)

MASK = 3


@pytest.fixture
def make_diffusion(make_model):
    """Make a random masked-diffusion model whose head loves the mask token."""

    def make(alignment=0):
        model = make_model(tie_word_embeddings=False, initializer_range=0.3)
        set_diffusion_form(model.config, DiffusionForm(MASK, alignment))
        return model

    return make


def test_a_form_is_read_as_it_was_set(make_model):
    config = make_model().config
    assert diffusion_form(config) is None
    config.diffusion = {"original": {"model_type": "llada"}}
    set_diffusion_form(config, DiffusionForm(MASK, 1, "llada"))
    assert diffusion_form(config) == DiffusionForm(MASK, 1, "llada")
    assert config.diffusion["original"] == {"model_type": "llada"}
    assert (config.is_causal, config.use_cache) == (False, False)


def test_a_form_is_stored_with_the_model(make_diffusion, tmp_path):
    from transformers import AutoConfig

    make_diffusion(1).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert diffusion_form(config) == DiffusionForm(MASK, 1, "native")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"alignment": 2}, "alignment 2, mask token 3 .*expected 0 or 1"),
        ({"mask_token_id": 10_000}, "mask token 10000 .*a token below"),
        ({"mask_token_id": "3"}, "mask token 3 .*a token below"),
        ({"layout": "gguf"}, "layout 'gguf'; expected .*native, llada, dream"),
    ],
)
def test_an_impossible_form_is_refused(make_diffusion, changes, expected):
    config = make_diffusion().config
    config.diffusion = {**config.diffusion, **changes}
    with pytest.raises(ModelError, match=f"config.json: diffusion has .*{expected}") as caught:
        diffusion_form(config)
    assert "\n" not in str(caught.value)


def test_an_incomplete_form_is_refused(make_diffusion):
    config = make_diffusion().config
    del config.diffusion["alignment"]
    with pytest.raises(ModelError, match="diffusion has no alignment"):
        diffusion_form(config)


def test_a_causal_diffusion_model_is_refused(make_diffusion):
    config = make_diffusion().config
    config.is_causal = True
    with pytest.raises(ModelError, match="is_causal is not false; expected both"):
        diffusion_form(config)


def test_an_autoregressive_model_has_no_form(make_model):
    model = make_model()
    with pytest.raises(ModelError, match="autoregressive, expected a masked-diffusion model; make one with"):
        get_diffusion_form(model)
    with pytest.raises(ValueError, match="predicts no masked tokens"):
        predict_masked(model, torch.ones(1, 3, dtype=torch.int64), None, torch.tensor([1]))


def test_vocabulary_size_is_that_of_the_embedding(make_diffusion):
    model = make_diffusion()
    assert vocabulary_size(model.config) == len(model.get_input_embeddings().weight)


@pytest.mark.parametrize("alignment", [0, 1])
@torch.no_grad()
def test_predictions_are_read_where_the_alignment_says(make_diffusion, alignment):
    model = make_diffusion(alignment)
    ids = torch.tensor([[5, 6, MASK, 8, MASK], [9, MASK, 11, 12, 13]])
    places = torch.tensor([2, 4, 6])
    found = predict_masked(model, ids, None, places)
    logits = model(input_ids=ids).logits.flatten(0, 1)[places - alignment]
    others = torch.arange(logits.shape[1]) != MASK
    assert torch.allclose(found[:, others], logits[:, others], atol=1e-5)
    assert found.dtype == torch.float32


@torch.no_grad()
def test_the_mask_is_never_predicted_even_if_the_model_loves_it(make_diffusion):
    model = make_diffusion()
    ids = torch.tensor([[5, 6, MASK]])
    places = torch.tensor([2])
    before = predict_masked(model, ids, None, places)
    model.lm_head.weight[MASK] = 1e4 * before.sign().max() * model.lm_head.weight.abs().max()
    after = predict_masked(model, ids, None, places)
    assert (after[:, MASK] == -torch.inf).all()
    assert torch.equal(before.argmax(), after.argmax())


@pytest.mark.parametrize("alignment", [0, 1])
@torch.no_grad()
def test_padding_on_either_side_changes_no_prediction(make_diffusion, alignment):
    model = make_diffusion(alignment)
    row = torch.tensor([5, 6, MASK, 8])
    alone = predict_masked(model, row[None], None, torch.tensor([2]))
    for left in (0, 3):
        ids = torch.full((1, 7), 9)
        ids[0, left : left + 4] = row
        real = torch.zeros(1, 7, dtype=torch.int64)
        real[0, left : left + 4] = 1
        padded = predict_masked(model, ids, real, torch.tensor([left + 2]))
        assert torch.allclose(padded, alone, atol=1e-5)
