"""A model as another: autoregressive as masked diffusion, or weights in another layout.

convert("embedded", "diffusion-model", to="diffusion", progress=Silent())
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from demask.errors import ConfigError
from demask.progress import Progress
from demask.tasks.evaluate import load_trained_model

if TYPE_CHECKING:
    from demask.models.diffusion import Layout


def convert(
    model: str,
    out: str | Path,
    *,
    to: str,
    alignment: Literal[0, 1] = 1,
    mask_token: str | None = None,
    progress: Progress,
) -> Path:
    """Write a model as another: an autoregressive one as masked diffusion, or weights in another layout.

    Args:
        model: a run folder, a model folder, a hub name or `embedded`.
        out: the model folder; must not be there.
        to: `diffusion`; or the layout of a diffusion model's files, `native` (transformers), `llada`
            or `dream`.
        alignment: of a model that becomes one of masked diffusion: the prediction for position i is read
            at i - alignment.
        mask_token: of such a model; None: by family.
        progress: told what is going on.

    Raises:
        ConfigError: `out` is there, or `to` is something else.
        ModelError: the model cannot be loaded, or cannot become what is asked for.
    """
    from demask.models.convert import convert_to_diffusion
    from demask.models.gated import without_gate
    from demask.models.load import describe_form
    from demask.training.export import save_model

    layouts: dict[str, Layout] = {"native": "native", "llada": "llada", "dream": "dream"}
    if to != "diffusion" and to not in layouts:
        raise ConfigError(f"--to: {to!r}, expected 'diffusion', or a layout: {', '.join(layouts)}")
    if Path(out).exists():
        raise ConfigError(f"{out}: stands there already; choose another --out")
    progress.begin(f"Converting {model}", 1)
    if (remark := describe_form(model)) is not None:
        progress.say(remark)
    loaded = without_gate(load_trained_model(model, "cpu"))
    if to == "diffusion":
        loaded = convert_to_diffusion(loaded, alignment=alignment, mask_token=mask_token)
    save_model(loaded, Path(out), layout=layouts.get(to))
    return Path(out)
