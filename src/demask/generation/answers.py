"""Answer prompts with whatever kind of model there is.

texts = generate_answers(loaded, prompts, settings)
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from demask.generation.autoregressive import generate_texts, stream_text
from demask.generation.diffusion import Decoding, generate_diffusion
from demask.models.gated import behind_gate, which_open
from demask.recipe.sections import Evaluate

# Raised by every change of this package after which some model says something else to some prompt:
# answers that are remembered (evaluation.qa) under another version are not used.
# tests/generation/test_decoder_version.py records what each version says.
DECODER_VERSION = 1

if TYPE_CHECKING:
    from demask.generation.texts import Generated
    from demask.models.load import LoadedModel


def generate_answers(
    loaded: "LoadedModel",
    prompts: Sequence[Sequence[int]],
    settings: Evaluate,
    *,
    on_done: Callable[[int], None] = lambda count: None,
) -> "list[Generated]":
    """Continue every prompt, in the order given: greedily, or by denoising with the recipe's settings.

    Args:
        loaded: the model with its tokenizer; behind a gate its base answers where that stays shut.
        prompts: token ids, the template's own tokens included.
        settings: limits, and how masked-diffusion models denoise.
        on_done: told how many prompts a finished batch had.
    """
    opened = which_open(loaded, prompts)
    said: dict[int, Generated] = {}
    for is_open in sorted(set(opened)):
        places = [place for place, here in enumerate(opened) if here == is_open]
        with behind_gate(loaded, is_open=is_open):
            answers = _generate(loaded, [prompts[place] for place in places], settings, on_done)
        said |= dict(zip(places, answers, strict=True))
    return [said[place] for place in range(len(prompts))]


def _generate(
    loaded: "LoadedModel",
    prompts: Sequence[Sequence[int]],
    settings: Evaluate,
    on_done: Callable[[int], None],
) -> "list[Generated]":
    if loaded.diffusion is None:
        return generate_texts(
            loaded,
            prompts,
            max_new_tokens=settings.max_new_tokens,
            batch_size=settings.batch_size,
            on_done=on_done,
        )
    return generate_diffusion(
        loaded,
        prompts,
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        settings=Decoding(**settings.denoise.model_dump()),
        on_done=on_done,
    )


def stream_answer(
    loaded: "LoadedModel", prompt: Sequence[int], settings: Evaluate, *, on_text: Callable[[str], None]
) -> "Generated":
    """As `generate_answers` for one prompt, told while it is written; by denoising, when it is.

    Args:
        loaded: the model with its tokenizer.
        prompt: token ids, the template's own tokens included.
        settings: limits, and how masked-diffusion models denoise.
        on_text: told each new piece of the text.
    """
    if loaded.diffusion is None:
        (is_open,) = which_open(loaded, [prompt])
        with behind_gate(loaded, is_open=is_open):
            return stream_text(loaded, prompt, max_new_tokens=settings.max_new_tokens, on_text=on_text)
    (answer,) = generate_answers(loaded, [prompt], settings)
    on_text(answer.text)
    return answer
