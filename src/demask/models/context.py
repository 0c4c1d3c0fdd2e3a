"""What an objective works with: tokenizer, chat format and architecture of a model, and its mask token.

context = load_context(config.model, config.objective)                 # without the weights
context = make_context(loaded, config.objective)
longest = context_length(context.architecture)
"""

from typing import TYPE_CHECKING

from demask.errors import ConfigError
from demask.models.diffusion import diffusion_form, vocabulary_size
from demask.models.families import choose_mask_id
from demask.models.load import load_architecture, load_tokenizer
from demask.objectives.objective import Context, Objective
from demask.objectives.prompts import load_chat_format

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from demask.models.load import LoadedModel


def load_context(model: str, objective: Objective) -> Context:
    """Of a model by name; its weights are not read.

    Raises:
        ConfigError: the objective cannot train this kind of model.
        ModelError: the model cannot be read, its chat template fails its test, or there is no usable mask
            token.
    """
    tokenizer, architecture = load_tokenizer(model), load_architecture(model)
    mask_id = _find_mask_id(model, objective, tokenizer, architecture)
    return Context(tokenizer, load_chat_format(tokenizer), architecture, mask_id)


def make_context(loaded: "LoadedModel", objective: Objective) -> Context:
    """Of a model that is loaded; see `load_context`."""
    architecture = loaded.model.config
    mask_id = _find_mask_id(loaded.name, objective, loaded.tokenizer, architecture)
    return Context(loaded.tokenizer, loaded.chat, architecture, mask_id)


def _find_mask_id(
    model: str, objective: Objective, tokenizer: "PreTrainedTokenizerBase", architecture: "PretrainedConfig"
) -> int | None:
    """The token that stands for a masked one; None where the objective needs none."""
    form, needs = diffusion_form(architecture), objective.needs
    if needs.diffusion and form is None:
        raise ConfigError(
            f"objective {objective.name!r}: {model} is autoregressive, expected a masked-diffusion "
            f"model; make one with 'demask convert {model} --to diffusion --out FOLDER'"
        )
    if form is not None and not needs.diffusion:
        document = objective.reads == "documents"
        raise ConfigError(
            f"objective {objective.name!r}: {model} is a masked-diffusion model, expected an autoregressive "
            + (
                "one; train it with 'objective: diffusion'"
                if document
                else "one; teach it documents with 'demask inject --objective diffusion'"
            )
        )
    if form is not None:
        return form.mask_token_id
    if not needs.mask:
        return None
    return choose_mask_id(tokenizer, needs.mask_token, rows=vocabulary_size(architecture))
