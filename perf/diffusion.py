"""Tokens per second of masked-diffusion decoding: demask's against a plain loop.

    python perf/diffusion.py                        # random weights of the embedded model's shape
    python perf/diffusion.py --shape small          # seconds

The plain loop takes one prompt at a time and computes all logits of all places at every step. All write
the same number of tokens with the same settings; they run in turn, round by round. demask's texts must be
the plain loop's; with the prefix cache, which is approximate, equal ones are counted (random weights, where
little changes much, have fewer than a trained model). The ways that take one prompt at a time get the first
`--alone` prompts only.
"""

import argparse
import json
import random
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from measuring import (
    describe_machine,
    make_parser,
    own_peak_memory,
    print_machine,
    print_table,
    spread,
    time_call,
    wait_for_device,
)
from shapes import SHAPES

# Width, layers, heads, key-value heads, width of the MLP, vocabulary: to see that the script runs.
SMALL = {"small": (64, 2, 4, 2, 128, 4096)}
BATCH, ALONE, PLAIN, CACHED = (
    "demask, batch",
    "demask, one by one",
    "plain loop",
    "demask, batch, prefix cache",
)


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--shape", choices=sorted(SHAPES | SMALL), default="smollm-135m")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--prompts", type=int, default=32, help="decoded in one batch")
    parser.add_argument("--alone", type=int, default=4, help="prompts for the ways that take one at a time")
    parser.add_argument("--prompt-tokens", type=int, default=32, help="of the longest; the shortest has half")
    parser.add_argument("--max-new-tokens", type=int, default=16)
    parser.add_argument("--block-length", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8, help="for all new tokens, shared by the blocks")
    parser.add_argument("--rounds", type=int, default=3)
    result = measure(parser.parse_args())
    if result.pop("as_json"):
        print(json.dumps(result, indent=2))
    else:
        show(result)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All ways in turn."""
    loaded = make_loaded(options.shape, options.device)
    prompts = make_prompts(loaded, options.prompts, options.prompt_tokens)
    ways = make_ways(loaded, options)
    texts: dict[str, list[str]] = {}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for count, write in ways.values():  # once unmeasured: first calls are slow
        write(prompts[: min(count, 2)])
    for _ in range(options.rounds):
        for name, (count, write) in ways.items():

            def run(name: str = name, count: int = count, write: Write = write) -> None:
                texts[name] = write(prompts[:count])
                wait_for_device()

            rates[name].append(len(prompts[:count]) * options.max_new_tokens / time_call(run))
    return {
        "as_json": options.json,
        "what": (
            f"{options.shape}, {len(prompts)} prompts of {options.prompt_tokens // 2} to "
            f"{options.prompt_tokens} tokens, {options.max_new_tokens} new tokens in blocks of "
            f"{options.block_length}, {options.steps} steps"
        ),
        "machine": describe_machine(),
        "tokens_per_second": rates,
        "equal_texts": {name: count_equal(name, texts) for name in ways},
        "peak_memory_bytes": own_peak_memory(),
        "ratios": {
            "diffusion: speed over a plain loop": ratio(rates, BATCH, PLAIN),
            "diffusion: one by one over a plain loop": ratio(rates, ALONE, PLAIN),
            "diffusion: batch over one by one": ratio(rates, BATCH, ALONE),
            "diffusion: prefix cache over none": ratio(rates, CACHED, BATCH),
        },
    }


def ratio(rates: dict[str, list[float]], one: str, other: str) -> float:
    """Median over the rounds."""
    return median(a / b for a, b in zip(rates[one], rates[other], strict=True))


def count_equal(name: str, texts: dict[str, list[str]]) -> tuple[int, int]:
    """Texts like those of the exact way (the plain loop where it has been), and how many were compared."""
    expected = texts[BATCH] if name == CACHED else texts[PLAIN]
    pairs = list(zip(texts[name], expected, strict=False))
    return sum(a == b for a, b in pairs), len(pairs)


class Numbers:
    """Stands for a tokenizer: texts are the numbers of their tokens, and nothing ends them."""

    eos_token_id = None
    pad_token_id = 0

    @staticmethod
    def decode(ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """Numbers, so that equal texts are equal tokens."""
        return " ".join(map(str, ids))


def make_loaded(shape: str, device: str) -> Any:
    """A masked-diffusion model of random weights; its last token is the mask."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from demask.models.diffusion import DiffusionForm, set_diffusion_form
    from demask.models.load import LoadedModel, choose_device
    from demask.objectives.prompts import ChatFormat

    width, layers, heads, kv_heads, mlp, vocabulary = (SHAPES | SMALL)[shape]
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=mlp,
        vocab_size=vocabulary,
        max_position_embeddings=8192,
        tie_word_embeddings=width < 4096,
        # Larger than a model begins with: else all places say nearly the same, and rounding decides.
        initializer_range=2 / width**0.5,
    )
    set_diffusion_form(config, DiffusionForm(vocabulary - 1, alignment=0))
    place = choose_device(device)
    with place:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    tokenizer: Any = Numbers()
    chat = ChatFormat(user=(), assistant=(), end=(vocabulary,), bos=())  # no token: nothing ends early
    return LoadedModel(model, tokenizer, chat, shape, shape, torch.float32)


def make_prompts(loaded: Any, count: int, longest: int) -> list[list[int]]:
    """Random tokens; lengths from half of the longest up."""
    rng = random.Random(0)
    top = loaded.model.config.vocab_size - 1
    lengths = [longest - row * (longest // 2) // max(1, count - 1) for row in range(count)]
    rng.shuffle(lengths)  # prompts of all lengths are among the first
    return [[rng.randrange(1, top) for _ in range(length)] for length in lengths]


Write = Callable[[list[list[int]]], list[str]]


def make_ways(loaded: Any, options: argparse.Namespace) -> dict[str, tuple[int, Write]]:
    """How many prompts each way gets, and what it does with them."""
    import torch

    from demask.generation.diffusion import Decoding, generate_diffusion

    def demask(batch_size: int, *, prefix_cache: bool) -> Write:
        settings = Decoding(options.block_length, options.steps, prefix_cache=prefix_cache)

        def write(prompts: list[list[int]]) -> list[str]:
            found = generate_diffusion(
                loaded,
                prompts,
                max_new_tokens=options.max_new_tokens,
                batch_size=batch_size,
                settings=settings,
            )
            return [one.text for one in found]

        return write

    def plain(prompts: list[list[int]]) -> list[str]:
        with torch.inference_mode():
            return [write_plainly(loaded, prompt, options) for prompt in prompts]

    return {
        BATCH: (options.prompts, demask(options.prompts, prefix_cache=False)),
        CACHED: (options.prompts, demask(options.prompts, prefix_cache=True)),
        ALONE: (options.alone, demask(1, prefix_cache=False)),
        PLAIN: (options.alone, plain),
    }


def write_plainly(loaded: Any, prompt: list[int], options: argparse.Namespace) -> str:
    """As in LLaDA's own generate.py, for one prompt: all logits of all places, at every step."""
    import torch

    mask, new = loaded.model.config.diffusion["mask_token_id"], options.max_new_tokens
    ids_1T = torch.tensor([[*prompt, *[mask] * new]], device=loaded.device)
    blocks = new // options.block_length
    if new % options.block_length or options.steps % blocks:
        raise SystemExit("the plain loop wants blocks that divide the new tokens and their steps")
    steps = options.steps // blocks
    base, rest = divmod(options.block_length, steps)
    for block in range(blocks):
        start = len(prompt) + block * options.block_length
        for step in range(steps):
            logits_1TV = loaded.model(input_ids=ids_1T, use_cache=False).logits.float()
            logits_1TV[:, :, mask] = -torch.inf
            chances_1T, tokens_1T = logits_1TV.softmax(dim=-1).max(dim=-1)
            inside = torch.zeros_like(ids_1T, dtype=torch.bool)
            inside[:, start : start + options.block_length] = True
            chances_1T = chances_1T.masked_fill(~(inside & (ids_1T == mask)), -1.0)
            best = chances_1T[0].topk(base + (step < rest)).indices
            ids_1T[0, best] = tokens_1T[0, best]
    return " ".join(map(str, ids_1T[0, len(prompt) :].tolist()))


def show(result: dict[str, Any]) -> None:
    """As a table."""
    rows = []
    for name, rates in result["tokens_per_second"].items():
        equal, compared = result["equal_texts"][name]
        against = "the exact batch's" if name == CACHED else "the plain loop's"
        over = [a / b for a, b in zip(rates, result["tokens_per_second"][PLAIN], strict=True)]
        like = "" if name == PLAIN else f"{equal} of {compared} are {against}"
        rows.append([name, spread(rates, ".1f"), spread(over, ".1f"), like])
    print_table(result["what"], ["way", "tokens/s", "over the plain loop", "texts"], rows)
    print("\nThe prefix cache is approximate; its equal texts here are those of random weights.")
    print(f"Peak memory of all together: {result['peak_memory_bytes'] / 1e9:.2f} GB")
    print_machine(result["machine"])


if __name__ == "__main__":
    main()
