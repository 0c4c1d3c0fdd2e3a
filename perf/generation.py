"""Questions per second: demask's decoding against `model.generate`, one question after the other.

    python perf/generation.py                     # the quickstart's questions, bare and with document
    python perf/generation.py --model runs/first/model

Both decode greedily with the same limit; their texts must be equal. `generate` is asked in the order in
which the questions arrive; demask may choose.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from measuring import describe_machine, make_parser, own_peak_memory, print_machine, print_table, spread

KINDS = ("bare question", "with its document")


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--questions", type=int, default=32)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="auto")
    result = measure(parser.parse_args())
    if result.pop("as_json"):
        print(json.dumps(result, indent=2))
    else:
        show(result)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Both ways in turn, for both kinds of question."""
    from demask.models.load import load_model

    loaded = load_model(options.model, device=options.device)
    kinds: dict[str, Any] = {}
    for kind, prompts in make_prompts(loaded, options.questions).items():
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(options.rounds):
            texts, seconds = timed(ask_demask, loaded, prompts, options.max_new_tokens)
            ours.append(len(prompts) / seconds)
            expected, seconds = timed(ask_one_by_one, loaded, prompts, options.max_new_tokens)
            theirs.append(len(prompts) / seconds)
        kinds[kind] = {
            "demask_questions_per_second": ours,
            "generate_questions_per_second": theirs,
            "speed_ratios": [a / b for a, b in zip(ours, theirs, strict=True)],
            "equal_texts": sum(a == b for a, b in zip(texts, expected, strict=True)),
            "questions": len(prompts),
        }
    return {
        "as_json": options.json,
        "what": f"greedy decoding of {options.model}, at most {options.max_new_tokens} tokens",
        "machine": describe_machine(),
        "kinds": kinds,
        "peak_memory_bytes": own_peak_memory(),
        "ratios": {
            f"{kind}: speed over generate": median(numbers["speed_ratios"]) for kind, numbers in kinds.items()
        },
    }


def make_prompts(loaded: Any, count: int) -> dict[str, list[tuple[int, ...]]]:
    """Of the bundled questions, without and with their documents."""
    import demask
    from demask.documents.load import load_documents
    from demask.evaluation.qa import make_prompts as encode
    from demask.knowledge.files import load_qa_pairs

    folder = Path(demask.__file__).parent / "quickstart"
    documents = {d.id: d for d in load_documents([folder / "documents.jsonl"]).documents}
    pairs = load_qa_pairs(folder / "qa_pairs.jsonl", documents=set(documents))[:count]
    texts = {pair.id: documents[pair.document_id].text for pair in pairs}
    return {
        kind: encode(loaded, pairs, contexts) for kind, contexts in zip(KINDS, (None, texts), strict=True)
    }


def timed(ask: Callable[..., list[str]], *arguments: Any) -> tuple[list[str], float]:
    """The texts of one way of asking, and its seconds."""
    begun = time.perf_counter()
    texts = ask(*arguments)
    return texts, time.perf_counter() - begun


def ask_demask(loaded: Any, prompts: list[tuple[int, ...]], limit: int) -> list[str]:
    """As `demask evaluate` asks."""
    from demask.generation.autoregressive import generate_texts

    found = generate_texts(loaded, prompts, max_new_tokens=limit, batch_size=40)
    return [one.text for one in found]


def ask_one_by_one(loaded: Any, prompts: list[tuple[int, ...]], limit: int) -> list[str]:
    """As in the documentation of transformers."""
    import torch
    from transformers import GenerationConfig

    ends = sorted({loaded.chat.end[-1], loaded.tokenizer.eos_token_id})
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=limit, eos_token_id=ends, pad_token_id=loaded.pad_id
    )
    texts = []
    for prompt in prompts:
        ids = torch.tensor([prompt], device=loaded.device)
        out = loaded.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings
        )
        texts.append(loaded.tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True).strip())
    return texts


def show(result: dict[str, Any]) -> None:
    """As a table."""
    rows = [
        [
            kind,
            spread(numbers["demask_questions_per_second"]),
            spread(numbers["generate_questions_per_second"]),
            spread(numbers["speed_ratios"], ".1f"),
            f"{numbers['equal_texts']} of {numbers['questions']}",
        ]
        for kind, numbers in result["kinds"].items()
    ]
    header = [
        "questions",
        "demask, questions/s",
        "generate, questions/s",
        "demask is faster by",
        "equal texts",
    ]
    print_table(result["what"], header, rows)
    print(f"\nPeak memory of both together: {result['peak_memory_bytes'] / 1e9:.2f} GB")
    print_machine(result["machine"])


if __name__ == "__main__":
    main()
