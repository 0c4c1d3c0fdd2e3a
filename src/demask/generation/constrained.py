"""Replies held to a JSON schema while they are written: tokens that would break it have no chance.

    texts = generate_json(loaded, prompts, schema, max_new_tokens=512)

By llguidance (`demask[writer]`). A schema mends the form of a reply, not what it says. B rows, T positions,
V vocabulary.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from demask.errors import RunError
from demask.generation.autoregressive import without_habits
from demask.generation.texts import Generated, align_prompts, finish_text, stop_ids
from demask.models.diffusion import vocabulary_size
from demask.models.load import LoadedModel

MISSING = "a reply held to a JSON schema needs llguidance: pip install 'demask[writer]'"
# No white space between the parts, which would be written up to the limit.
_COMPACT = {"x-guidance": {"whitespace_flexible": False}}


class SchemaProcessor:
    """What `generate` of transformers asks before each token: which ones the schema allows.

    Raises:
        RunError: llguidance is not installed.
    """

    def __init__(self, loaded: LoadedModel, schema: Mapping[str, Any], rows: int) -> None:
        """For so many rows, all held to one schema."""
        try:
            import llguidance
            import llguidance.hf
        except ImportError as error:
            raise RunError(MISSING) from error
        self._stops = stop_ids(loaded)
        size = vocabulary_size(loaded.model.config)
        ours: Any = loaded.tokenizer
        tokenizer = llguidance.hf.from_tokenizer(ours, n_vocab=size, eos_token=self._stops)
        grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps({**schema, **_COMPACT}))
        self._matchers = [llguidance.LLMatcher(tokenizer, grammar) for _ in range(rows)]
        self._begun = False

    def __call__(self, ids_BT: Tensor, scores_BV: Tensor) -> Tensor:
        """The scores, with minus infinity where the schema does not allow a token."""
        if self._begun:
            for matcher, token in zip(self._matchers, ids_BT[:, -1].tolist(), strict=True):
                if not matcher.is_stopped():
                    matcher.consume_token(token)
        self._begun = True
        for row, matcher in enumerate(self._matchers):
            if not matcher.is_stopped():
                scores_BV[row, ~self._allowed(matcher, scores_BV)] = -torch.inf
            else:  # has ended; transformers fills such a row with padding
                scores_BV[row] = -torch.inf
                scores_BV[row, self._stops] = 0.0
        return scores_BV

    def _allowed(self, matcher: Any, scores_BV: Tensor) -> Tensor:
        bits = torch.frombuffer(bytearray(matcher.compute_bitmask()), dtype=torch.uint8)
        places = torch.arange(8, dtype=torch.uint8)
        allowed_V = ((bits[:, None] >> places) & 1).flatten().bool()
        width = scores_BV.shape[1]
        missing = max(0, width - len(allowed_V))
        return torch.nn.functional.pad(allowed_V, (0, missing))[:width].to(scores_BV.device)


@torch.inference_mode()
def generate_json(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    schema: Mapping[str, Any],
    *,
    max_new_tokens: int,
) -> list[Generated]:
    """Continue every prompt by a text that fits a JSON schema, greedily, all in one batch.

    Args:
        loaded: an autoregressive model with its tokenizer.
        prompts: token ids, the template's own tokens included.
        schema: of the replies.
        max_new_tokens: after which a text is cut short, and is no JSON then.

    Raises:
        RunError: llguidance is not installed.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    ids, real = align_prompts(prompts, loaded)
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=stop_ids(loaded),
        pad_token_id=loaded.pad_id,
    )
    model: Any = loaded.model
    held: Any = SchemaProcessor(loaded, schema, len(prompts))
    with without_habits(model):
        out = model.generate(
            input_ids=ids,
            attention_mask=real,
            generation_config=settings,
            logits_processor=LogitsProcessorList([held]),
        )
    return [finish_text(loaded, list(map(int, row)), 0.0) for row in out[:, ids.shape[1] :]]
