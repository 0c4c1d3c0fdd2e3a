"""What differs between families of models: mask tokens, parts that see images, layers that take adapters.

mask_id = choose_mask_id(tokenizer, wanted=None)
loader = choose_loader(config)                    # an auto class of transformers
freeze_other_senses(model)                        # text is trained, what reads images is kept as it is
LoraConfig(target_modules=find_adapter_layers(model))
"""

from typing import TYPE_CHECKING, Any

from torch import nn

from demask.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Tried in this order; the first that is one token of the vocabulary stands for a masked token.
MASK_TOKENS = (
    "<|reserved_special_token_5|>",  # Llama 3, id 128013: Pan et al. 2025
    "<empty_output>",  # SmolLM2: a special token without a use in text
    "<unused5>",  # Gemma
    "[control_8]",  # Mistral
    "[]",  # Qwen: Pan et al. 2025; an ordinary token, found in code only
)
# What prepares images; stored again with the model that is trained.
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
# Where processors had their chat template before it was a file of the tokenizer.
PROCESSOR_TEMPLATE = "chat_template.json"
# Of a state-space layer: its other projections are given to fused kernels as bare weights, past the adapter
# on them, and peft refuses some of them.
_STATE_SPACE_INPUT = "in_proj"


def choose_mask_id(
    tokenizer: "PreTrainedTokenizerBase", wanted: str | None = None, *, rows: int | None = None
) -> int:
    """The id of the token that stands for a masked token in prompts.

    Args:
        tokenizer: of the model that is trained.
        wanted: the user's choice; None picks by family, the tokenizer's own mask token first.
        rows: of the embedding, one of which it must have; None: rows may be added.

    Raises:
        ModelError: the choice is not one token of the vocabulary, or no choice fits.
    """
    if wanted is not None:
        found = _single_token(tokenizer, wanted)
        if found is None or not _has_row(found, rows):
            raise ModelError(
                f"objective.mask_token: {wanted!r} is not one token of this model's vocabulary; "
                "choose another, for example a special token of its tokenizer"
            )
        return found
    own = getattr(tokenizer, "mask_token_id", None)
    if isinstance(own, int) and _has_row(own, rows):
        return own
    for token in MASK_TOKENS:
        found = _single_token(tokenizer, token)
        if found is not None and _has_row(found, rows):
            return found
    raise ModelError(
        "this tokenizer has no usable mask token (neither its own nor one of "
        f"{', '.join(MASK_TOKENS)}); name one of its tokens in objective.mask_token"
    )


def _has_row(token_id: int, rows: int | None) -> bool:
    return rows is None or token_id < rows


def _single_token(tokenizer: "PreTrainedTokenizerBase", text: str) -> int | None:
    vocabulary = tokenizer.get_vocab()
    if text in vocabulary:
        return int(vocabulary[text])
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return int(ids[0]) if len(ids) == 1 and ids[0] != tokenizer.unk_token_id else None


def is_multimodal(config: "PretrainedConfig") -> bool:
    """Whether the text model is only a part of what this configuration describes."""
    return config.get_text_config(decoder=True) is not config


def choose_loader(config: "PretrainedConfig") -> Any:
    """The auto class that loads all of a model.

    For some models that see images (Qwen3.5) transformers has a class of their text part, too, which
    leaves the other weights out without a word; the class that config.json names is taken there.
    """
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
    )

    kind = type(config)
    text_only: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(kind, None)
    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING or not is_multimodal(config):
        return AutoModelForCausalLM
    if text_only is not None and text_only.__name__ in (config.architectures or ()):
        return AutoModelForCausalLM
    return AutoModelForImageTextToText


def text_layers(model: "PreTrainedModel") -> nn.Module:
    """The part of a model that reads text, without its output layer."""
    layers: nn.Module = model.get_decoder() if is_multimodal(model.config) else model
    return layers


def freeze_other_senses(model: "PreTrainedModel") -> None:
    """Train what reads and writes text only: nothing else gets a gradient, and weight decay would move it."""
    if not is_multimodal(model.config):
        return
    kept = {id(weights) for weights in text_layers(model).parameters()}
    head = model.get_output_embeddings()
    kept |= {id(weights) for weights in head.parameters()} if head is not None else set()
    for weights in model.parameters():
        weights.requires_grad_(id(weights) in kept)


def find_adapter_layers(model: "PreTrainedModel") -> list[str]:
    """The names of all linear layers that read text, but the output layer and what a kernel reaches past.

    Raises:
        ModelError: there is none.
    """
    from transformers.pytorch_utils import Conv1D

    inside = {id(module) for module in text_layers(model).modules()}
    barred = {id(layer) for mixer in model.modules() for layer in _reached_past(mixer)}
    barred.add(id(model.get_output_embeddings()))
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and id(module) in inside - barred
    ]
    if not names:
        raise ModelError(
            f"{type(model).__name__}: has no linear layer that can carry an adapter; use train.method=full"
        )
    return names


def _reached_past(module: nn.Module) -> list[Any]:
    """The layers of a Mamba mixer, known by its decay and its skip, that cannot carry an adapter."""
    if not {"A_log", "D"} <= module._parameters.keys():
        return []
    return [layer for name, layer in module.named_children() if name != _STATE_SPACE_INPUT]
