"""Predictors so small that everything about them can be counted, and a tiny masked-diffusion model."""

import dataclasses
import itertools
import math

import pytest
import torch

# Four tokens out of three words; the fourth id is the mask.
WORDS, LENGTH, MASK = 3, 4, 3


class Toy:
    """Predictions for every pattern of words and masks, from a table.

    A consistent one has the conditionals of one joint distribution; another is what a network is.
    """

    def __init__(self, seed, *, consistent):
        generator = torch.Generator().manual_seed(seed)
        self.joint = torch.randn([WORDS] * LENGTH, generator=generator, dtype=torch.float64).mul(1.5)
        self.joint = self.joint.flatten().softmax(dim=0).reshape([WORDS] * LENGTH)
        shape = [WORDS + 1] * LENGTH + [LENGTH, WORDS + 1]
        self.logits = torch.randn(shape, generator=generator, dtype=torch.float64)
        self.logits[..., MASK] = -torch.inf
        if consistent:
            for pattern in itertools.product(range(WORDS + 1), repeat=LENGTH):
                seen = self.joint[tuple(slice(None) if w == MASK else slice(w, w + 1) for w in pattern)]
                for place in range(LENGTH):
                    chances = seen.sum([axis for axis in range(LENGTH) if axis != place])
                    if pattern[place] == MASK:
                        self.logits[pattern][place, :WORDS] = chances.log()

    def __call__(self, ids_BT, real_BT, places_N, rows_B=None):
        rows_N, columns_N = places_N // LENGTH, places_N % LENGTH
        assert (ids_BT[rows_N, columns_N] == MASK).all(), "only masked tokens are predicted"
        return self.logits[(*ids_BT[rows_N].T, columns_N)]

    def nats(self, text, mask):
        """Cross-entropy of the masked tokens of a text, summed."""
        pattern = tuple(MASK if place in mask else word for place, word in enumerate(text))
        return math.fsum(
            -float(self.logits[pattern][place].log_softmax(dim=0)[text[place]]) for place in mask
        )


@pytest.fixture
def make_toy():
    return Toy


@pytest.fixture
def make_diffusion(tiny_loaded, make_model):
    """Make a tiny masked-diffusion model that says something else at every place, and never ends."""
    from demask.models.diffusion import DiffusionForm, set_diffusion_form

    def make(alignment=0, *, kind="llama", **changes):
        lively = {"initializer_range": 0.5, "tie_word_embeddings": False, **changes}
        model = make_model(**lively) if kind == "llama" else make_other(kind, make_model(**lively).config)
        mask = tiny_loaded.tokenizer.convert_tokens_to_ids("<empty_output>")
        set_diffusion_form(model.config, DiffusionForm(mask, alignment))
        tiny_loaded.tokenizer.eos_token = None
        chat = dataclasses.replace(tiny_loaded.chat, end=(_NO_TOKEN,))
        return dataclasses.replace(tiny_loaded, model=model, chat=chat)

    return make


_NO_TOKEN = 10**6


def make_other(kind, llama):
    """A model of another architecture, of the sizes of a Llama; GPT-2 knows absolute positions."""
    from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

    config, model = {"gpt2": (GPT2Config, GPT2LMHeadModel), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}[kind]
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    own = {"gpt2": (), "qwen2": ("intermediate_size", "num_key_value_heads")}[kind]
    rest = ("max_position_embeddings", "initializer_range", "tie_word_embeddings")
    none = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return model(config(**{name: getattr(llama, name) for name in (*names, *own, *rest)}, **none)).eval()
