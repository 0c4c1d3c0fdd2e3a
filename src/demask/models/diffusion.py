"""Masked-diffusion models on the native classes of transformers: what makes one, and how it predicts.

    form = diffusion_form(model.config)                       # None: the model is autoregressive
    logits_NV = predict_masked(model, ids_BT, real_BT, places_N)

A masked-diffusion model is a decoder that looks both ways (`is_causal=False` in its configuration) and
writes at its mask token. What else must be known stands in `config.diffusion`, and with it in the
model's config.json. B rows, T positions, N places, V vocabulary.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from torch import Tensor

from demask.errors import ModelError
from demask.losses.cross_entropy import silence
from demask.models.acceleration.target_logits import predict_at

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

Layout = Literal["native", "llada", "dream"]


@dataclass(frozen=True)
class DiffusionForm:
    """How a model denoises.

    Attributes:
        mask_token_id: stands where a token is to be written; never written itself.
        alignment: the prediction for position i is read at i - alignment: 0 as LLaDA, 1 as Dream.
        layout: of config and weights on disk: `native` as transformers writes them, or as their makers do.
    """

    mask_token_id: int
    alignment: Literal[0, 1]
    layout: Layout = "native"


def diffusion_form(config: "PretrainedConfig") -> DiffusionForm | None:
    """How a model of this configuration denoises; None when it is autoregressive.

    Raises:
        ModelError: the configuration says something else than `set_diffusion_form` writes.
    """
    stored = getattr(config, "diffusion", None)
    if not isinstance(stored, dict):
        return None
    where = f"{config.name_or_path or 'model'}: config.json"
    try:
        form = DiffusionForm(**{name: stored[name] for name in ("mask_token_id", "alignment", "layout")})
    except KeyError as error:
        raise ModelError(f"{where}: diffusion has no {error.args[0]}; save the model with demask") from error
    in_vocabulary = form.mask_token_id in range(vocabulary_size(config))
    if form.alignment not in (0, 1) or not in_vocabulary or form.layout not in get_args(Layout):
        raise ModelError(
            f"{where}: diffusion has alignment {form.alignment}, mask token {form.mask_token_id} and layout "
            f"{form.layout!r}; expected 0 or 1, a token below {vocabulary_size(config)}, and one of "
            f"{', '.join(get_args(Layout))}"
        )
    if getattr(config, "is_causal", True):
        raise ModelError(
            f"{where}: describes a masked-diffusion model and is_causal is not false; expected both, as "
            "demask saves them"
        )
    return form


def set_diffusion_form(config: "PretrainedConfig", form: DiffusionForm) -> None:
    """Make a configuration one of a masked-diffusion model; other notes under `diffusion` stay."""
    settings = cast("Any", config)
    settings.is_causal = False
    settings.use_cache = False
    settings.diffusion = {**(getattr(config, "diffusion", None) or {}), **asdict(form)}


def vocabulary_size(config: "PretrainedConfig") -> int:
    """Rows of the embedding."""
    return int(config.get_text_config().vocab_size)


def predict_masked(model: Any, ids_BT: Tensor, real_BT: Tensor | None, places_N: Tensor) -> Tensor:
    """Logits of the tokens at some places, (N, V) float32; the mask token's own is -inf.

    Args:
        model: a masked-diffusion model; adapters stay inside it.
        ids_BT: tokens, with the mask token where one is to be written.
        real_BT: 1 where there is no padding; None: nowhere. Padding may stand on either side.
        places_N: which tokens to predict, as places in the flattened (B * T); with alignment 1 never the
            first of a row.
    """
    form = diffusion_form(model.config)
    if form is None:
        raise ValueError("an autoregressive model predicts no masked tokens")
    inputs: dict[str, Any] = {"input_ids": ids_BT}
    if real_BT is not None:
        inputs["attention_mask"] = real_BT
        inputs["position_ids"] = (real_BT.cumsum(dim=1) - 1).clamp(min=0)
    logits_NV = predict_at(model, inputs, places_N - form.alignment, head_of=model).float()
    return silence(logits_NV, form.mask_token_id)


def get_diffusion_form(model: "PreTrainedModel | Any") -> DiffusionForm:
    """How this masked-diffusion model denoises.

    Raises:
        ModelError: it is autoregressive.
    """
    form = diffusion_form(model.config)
    if form is None:
        raise ModelError(
            f"{model.config.name_or_path or 'model'}: autoregressive, expected a masked-diffusion model; "
            "make one with 'demask convert MODEL --to diffusion --out FOLDER'"
        )
    return form
