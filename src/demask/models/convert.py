"""Make a masked-diffusion model of an autoregressive one.

    converted = convert_to_diffusion(load_model("embedded"), alignment=1)
    save_model(converted, folder)                    # untrained: it must still learn to denoise

Its attention looks both ways and one of its tokens becomes the mask; its weights stay. Alignment 1
(Dream) keeps what the output layer means: the next token, hence the start is better than with 0 (LLaDA).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor

from demask.errors import ModelError
from demask.models.diffusion import (
    DiffusionForm,
    diffusion_form,
    get_diffusion_form,
    set_diffusion_form,
    vocabulary_size,
)
from demask.models.families import choose_mask_id
from demask.models.load import LoadedModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# As Dream calls its own.
NEW_MASK_TOKEN = "<|mask|>"
# Tokens of the text that is tried; the second is changed, which every window of attention reaches.
_PROBE_LENGTH = 4


@torch.no_grad()
def convert_to_diffusion(
    loaded: LoadedModel, *, alignment: Literal[0, 1] = 1, mask_token: str | None = None
) -> LoadedModel:
    """The same model as one of masked diffusion; model and tokenizer are changed in place.

    The mask token's embedding starts at the mean of all others, unless the token is an ordinary one or
    the tokenizer already calls it its mask. With tied embeddings that is also its output row, whose
    logit is silenced.

    Args:
        loaded: an autoregressive model.
        alignment: the prediction for position i is read at i - alignment.
        mask_token: to stand for masked tokens; None: the tokenizer's own or a reserved one, else a
            new token.

    Raises:
        ModelError: it is a diffusion model already, its architecture cannot look both ways in every
            layer, or the mask token is one that must be written.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    if diffusion_form(model.config) is not None:
        raise ModelError(
            f"{loaded.name}: is a masked-diffusion model already, expected an autoregressive one; "
            "train it as it is"
        )
    own = tokenizer.mask_token_id
    mask_id = _choose(tokenizer, mask_token)
    never = {tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id, *loaded.chat.end}
    if mask_id is not None and mask_id in never:
        raise ModelError(
            f"{loaded.name}: {tokenizer.convert_ids_to_tokens(mask_id)!r} begins, ends or pads texts; "
            "expected a mask token that is never written, choose another"
        )
    _look_both_ways(model, loaded.name)
    if mask_id is None:
        tokenizer.add_special_tokens({"mask_token": NEW_MASK_TOKEN})
        mask_id = int(cast("Any", tokenizer).mask_token_id)
    is_new = mask_id >= vocabulary_size(model.config)
    if is_new or (mask_id != own and _is_special(tokenizer, mask_id)):
        _start_at_mean(model, mask_id)
    tokenizer.mask_token = tokenizer.convert_ids_to_tokens(mask_id)
    set_diffusion_form(model.config, DiffusionForm(mask_id, alignment))
    get_diffusion_form(model)  # of which the mask token is one of its rows
    return loaded


def _choose(tokenizer: "PreTrainedTokenizerBase", wanted: str | None) -> int | None:
    """The id of the mask token, None for a new one: what masks can never be written."""
    try:
        chosen = choose_mask_id(tokenizer, wanted)
    except ModelError:
        if wanted is not None:
            raise
        return None
    return chosen if wanted is not None or _is_special(tokenizer, chosen) else None


def _is_special(tokenizer: "PreTrainedTokenizerBase", token_id: int) -> bool:
    """Whether a token is none of text."""
    added = tokenizer.added_tokens_decoder.get(token_id)
    return token_id in tokenizer.all_special_ids or (added is not None and added.special)


def _start_at_mean(model: "PreTrainedModel", mask_id: int) -> None:
    """Give the mask token, and all rows that must be added for it, the mean of the other embeddings."""
    rows = vocabulary_size(model.config)
    tables = [cast("Any", model.get_input_embeddings()).weight]
    places = torch.tensor([mask_id])
    if mask_id >= rows:
        with torch.random.fork_rng():  # new rows are drawn before they are overwritten
            model.resize_token_embeddings(mask_id + 1, mean_resizing=False)
        tables = [
            cast("Any", m).weight for m in (model.get_input_embeddings(), model.get_output_embeddings())
        ]
        places = torch.arange(rows, mask_id + 1)
    for table in tables:
        others = torch.ones(len(table), dtype=torch.bool)
        others[places] = False
        table[places] = table[others].double().mean(dim=0).to(table.dtype)


def _look_both_ways(model: "PreTrainedModel", name: str) -> None:
    """Take the causal mask away, and see that it is gone from every layer.

    Raises:
        ModelError: some layer still looks at earlier tokens only.
    """
    config = cast("Any", model.config)
    before = getattr(config, "is_causal", None)
    config.is_causal = False
    blind = _blind_layers(model)
    if blind:
        if before is None:
            del config.is_causal
        else:
            config.is_causal = before
        raise ModelError(
            f"{name}: {len(blind)} layers of {type(model).__name__} look at earlier tokens only, such as "
            f"layer {blind[0]}; expected an architecture without recurrence, such as Llama, Qwen or Mistral"
        )


def _blind_layers(model: "PreTrainedModel") -> list[int]:
    """The layers whose first position does not see a change at the second.

    Every layer is given the same change, since one that looks ahead would hide those after it that do not.
    """
    layers = _find_layers(model)
    ids = torch.arange(_PROBE_LENGTH, device=model.device)[None] % vocabulary_size(model.config)
    seen: list[dict[int, Tensor]] = [{}, {}]
    was_training = model.training
    model.eval()
    given: dict[int, Tensor] = {}
    for changed in (False, True):
        with _probing(layers, given, seen[changed], changed=changed):
            model(input_ids=ids, use_cache=False)
    model.train(was_training)
    return [layer for layer, first in seen[False].items() if torch.equal(first, seen[True][layer])]


def _find_layers(model: "PreTrainedModel") -> list[torch.nn.Module]:
    count = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return list(module)
    raise ModelError(
        f"{type(model).__name__}: its {count} layers cannot be found, so that nobody can test whether they "
        "look both ways; expected an architecture such as Llama, Qwen or Mistral"
    )


@contextmanager
def _probing(
    layers: list[torch.nn.Module], given: dict[int, Tensor], first: dict[int, Tensor], *, changed: bool
) -> Iterator[None]:
    """Note what each layer says at the first position, or give it the noted input with another second.

    Args:
        layers: of the model.
        given: by layer, what it was given without a change; filled without, read with one.
        first: by layer, what it says at the first position; filled.
        changed: whether to change what the layers are given.
    """

    def enter(index: int, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        hidden = arguments[0] if arguments else keywords["hidden_states"]
        if not changed:
            given[index] = hidden.clone()
            return None
        hidden = given[index].clone()
        # Of the size of what is there, and no constant, which layer normalization would take out.
        hidden[:, 1] += hidden.std() * torch.arange(hidden.shape[-1], device=hidden.device).cos()
        if arguments:
            return (hidden, *arguments[1:]), keywords
        return arguments, {**keywords, "hidden_states": hidden}

    def leave(index: int, output: Any) -> None:
        first[index] = (output[0] if isinstance(output, tuple) else output)[:, 0].clone()

    hooks = []
    for index, layer in enumerate(layers):
        hooks += [
            layer.register_forward_pre_hook(lambda _, a, k, i=index: enter(i, a, k), with_kwargs=True),
            layer.register_forward_hook(lambda _, __, output, i=index: leave(i, output)),
        ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
