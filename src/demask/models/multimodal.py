"""Models that also see images: text is trained, and what reads images is kept as it is.

loader = choose_loader(config)                    # an auto class of transformers
freeze_other_senses(model)
text_layers(model)                                # where adapters go
"""

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

# What prepares images; stored again with the model that is trained.
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
# Where processors had their chat template before it was a file of the tokenizer.
PROCESSOR_TEMPLATE = "chat_template.json"


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
