"""What a GPU makes of demask, for whoever has one for a quarter of an hour; correctness first, then speed.

    python perf/gpu.py --minutes 12 --out gpu.json                # the embedded model; shapes of 1B, 3B, 8B
    python perf/gpu.py --model meta-llama/Llama-3.2-3B-Instruct   # the largest one whose weights are at hand
    python perf/gpu.py --tiny --model FOLDER                      # seconds, on a CPU: whether all works

Each part is a process of its own, and its result is in the file as soon as it ends, so that a run that is cut
keeps what it had; `--go-on` does what is missing there. A part that does not fit into what is left of the
minutes, that fails or that needs what is not here (a second GPU, bitsandbytes, TRL) says so in its place.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from measuring import describe_machine, make_parser, print_table, spread
from shapes import SHAPES

HERE = Path(__file__).parent
METHODS = ("full", "lora", "qlora")
LARGE_SHAPES = ("llama-1b", "llama-3b", "llama-8b")
# Bytes of weights, gradients and moments for each weight; what is frozen takes two, or half of one.
BYTES = {"full": 16.0, "lora": 2.0, "qlora": 0.55}
# Ours: packed and padded examples of one model differ by rounding; beyond that one has seen another.
PACKING = {"float32": 1e-2, "bfloat16": 0.25}


@dataclass(frozen=True)
class Part:
    """One measurement.

    Attributes:
        name: in the file.
        least: seconds without which it is not begun; a guess for a GPU, as nobody has run it on one.
        run: in a process of its own; None: `command` is.
        command: another script, whose last JSON object is the result.
        needs: what must be there, and whether it is.
    """

    name: str
    least: float
    run: Callable[[argparse.Namespace], dict[str, Any]] | None = None
    command: tuple[str, ...] = ()
    needs: dict[str, bool] = field(default_factory=dict)


def main() -> None:
    """Measure everything, or be one of the parts."""
    options = parse()
    if options.part:
        part = next(part for part in make_parts(options, memory=0) if part.name == options.part)
        assert part.run is not None
        options.result.write_text(json.dumps(part.run(options)), encoding="utf-8")
        return
    found = measure(options)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)
    failed = [name for name, result in found["parts"].items() if "failed" in result or result.get("wrong")]
    sys.exit(f"wrong or failed: {', '.join(failed)}" if failed else 0)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=12.0, help="no part begins that would take longer")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="gets each result at once")
    parser.add_argument("--go-on", action="store_true", help="leave out what --out has already")
    parser.add_argument("--model", default="embedded", help="that learns facts and answers questions")
    parser.add_argument("--shapes", nargs="*", default=list(LARGE_SHAPES), choices=sorted(SHAPES))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--facts", type=int, default=6, help="of NameDescription that are taught")
    parser.add_argument("--only", nargs="+", help="names of parts, as the table has them")
    parser.add_argument("--tiny", action="store_true", help="as little of everything as shows that it works")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tiny:
        options.shapes = ["tiny"]
    names = [part.name for part in make_parts(options, memory=0)]
    unknown = sorted({*(options.only or [])} - {*names})
    if unknown:
        parser.error(f"--only: {unknown[0]!r} is no part, expected one of {', '.join(names)}")
    return options


def make_parts(options: argparse.Namespace, *, memory: int) -> list[Part]:
    """All measurements, in their order.

    Args:
        options: the command line.
        memory: of the device in bytes, which the shapes must fit into; 0: not known.
    """
    brief = 1.0 if options.tiny else 0.0
    four_bits = {"bitsandbytes": find_spec("bitsandbytes") is not None}
    parts = [Part("machine", brief or 10, measure_machine)]
    for method in options.methods:
        needs = four_bits if method == "qlora" else {}
        parts.append(Part(f"correctness, {method}", brief or 30, check_method, needs=needs))
    parts.append(
        Part("correctness, two processes", brief or 60, check_processes, needs=_two_devices(options))
    )
    for shape in options.shapes:
        for method in options.methods:
            size = BYTES[method] * count_weights(shape)
            needs = {f"{size / 1e9:.0f} GB": not memory or size < memory}
            needs |= four_bits if method == "qlora" else {}
            command = training_command(options, shape, method)
            parts.append(Part(f"training, {shape}, {method}", brief or 40, command=command, needs=needs))
    parts.append(Part("decoding", brief or 40, measure_decoding))
    parts.append(Part("injection", brief or 90, measure_injection))
    parts.append(Part("word problems", brief or 60, measure_word_problems))
    return parts


def count_weights(shape: str) -> int:
    """Of a model of this shape, norms aside."""
    width, layers, heads, kv_heads, mlp, vocabulary = SHAPES[shape]
    layer = width * (width // heads) * (2 * heads + 2 * kv_heads) + 3 * width * mlp
    return layers * layer + vocabulary * width * (1 if width < 4096 else 2)


def training_command(options: argparse.Namespace, shape: str, method: str) -> tuple[str, ...]:
    """`training.py` beside TRL, one after the other, as two large models do not fit beside each other."""
    arms = ["demask", *(["TRL, tuned"] if find_spec("trl") else [])]
    size = ("32", "2", "1", "1") if options.tiny else ("512", "16", "3", "4")
    words = ("--document-tokens", size[0], "--batch", size[1], "--blocks", size[2], "--block-steps", size[3])
    tokenizer = ("--tokenizer", options.model) if options.tiny else ()
    given = ("--shape", shape, "--method", method, "--device", options.device, "--alone", "--json")
    return ("training.py", *given, *words, *tokenizer, "--arms", *arms)


def _two_devices(options: argparse.Namespace) -> dict[str, bool]:
    """A CPU counts as two, but in a run of seconds."""
    import torch

    if options.device == "cpu" or not torch.cuda.is_available():
        return {"more than a few seconds": not options.tiny}
    return {"a second GPU": torch.cuda.device_count() > 1}


# The parent


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All parts, each as its process leaves it."""
    from demask.storage.atomic import write_text

    end = time.monotonic() + 60 * options.minutes
    found: dict[str, Any] = {
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": options.model,
        "machine": describe_machine(),
        "parts": {},
    }
    if options.go_on and options.out.exists():
        found |= json.loads(options.out.read_text(encoding="utf-8"))
    wanted = [part for part in make_parts(options, memory=0) if part.name in (options.only or [part.name])]
    for part in wanted:
        memory = found["parts"].get("machine", {}).get("memory_bytes", 0)
        if memory:  # known once the first part is done
            part = next(one for one in make_parts(options, memory=memory) if one.name == part.name)
        if is_done(found["parts"].get(part.name)):
            continue
        begun = time.monotonic()
        result = run_part(part, options, end - begun)
        found["parts"][part.name] = {**result, "wall_seconds": round(time.monotonic() - begun, 1)}
        write_text(options.out, json.dumps(found, indent=2) + "\n")
        print(f"{part.name}: {say(found['parts'][part.name])}", file=sys.stderr, flush=True)
    return found


def is_done(result: dict[str, Any] | None) -> bool:
    """Whether a part need not be done again."""
    return result is not None and "left_out" not in result and "failed" not in result


def run_part(part: Part, options: argparse.Namespace, left: float) -> dict[str, Any]:
    """The result of a part, or why there is none.

    Args:
        part: is done in a process of its own, so that its memory is free afterwards and a crash ends it only.
        options: the command line.
        left: seconds that it may take.
    """
    missing = [name for name, there in part.needs.items() if not there]
    if missing:
        return {"left_out": f"needs {' and '.join(missing)}"}
    if left < part.least:
        return {"left_out": f"{max(left, 0):.0f} s were left, and it takes about {part.least:.0f}"}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        if part.command:
            command = [sys.executable, str(HERE / part.command[0]), *part.command[1:]]
        else:
            command = [sys.executable, *sys.argv, "--part", part.name, "--result", str(result)]
        environment = {**os.environ, "TRANSFORMERS_VERBOSITY": "error"}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=left, env=environment, check=False
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"cut after {left:.0f} s, as the minutes were over"}
        text = done.stdout[done.stdout.find("{") :] if part.command else ""
        if done.returncode == 0 and not part.command:
            text = result.read_text(encoding="utf-8")
    if done.returncode or not text:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return {"failed": lines[-1] if lines else f"exit code {done.returncode}", "errors": lines[-30:]}
    values: dict[str, Any] = json.loads(text)
    return values


# The parts


def measure_machine(options: argparse.Namespace) -> dict[str, Any]:
    """The device and how fast it multiplies."""
    import torch
    from shapes import stated_rate

    from demask.environment import total_memory
    from demask.models.load import choose_device
    from demask.models.precision import choose_bf16
    from demask.training.plan import measure_matrix_rate

    device = choose_device(options.device)
    cuda = device.type == "cuda"
    size, limit = (8192, 1.0) if cuda else (256, 0.1)
    dtypes = [torch.float32, *([torch.bfloat16] if choose_bf16("auto", device) else [])]
    return {
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "devices": torch.cuda.device_count() if cuda else 1,
        "memory_bytes": torch.cuda.mem_get_info(device)[1] if cuda else total_memory(),
        "stated_flops_per_second": stated_rate(),
        "matrix_flops_per_second": {
            str(dtype).removeprefix("torch."): measure_matrix_rate(device, dtype, size=size, limit=limit)
            for dtype in dtypes
        },
    }


def check_method(options: argparse.Namespace) -> dict[str, Any]:
    """Packing, going on after a stop, and an evaluation before training, with one way of training."""
    import torch
    from arms import Recorded
    from training import make_samples

    from demask.models.load import choose_device
    from demask.models.precision import choose_bf16

    device, method = choose_device(options.device), options.part.rpartition(" ")[2]
    wanted = argparse.Namespace(
        tokenizer=options.model,
        document_tokens=32 if options.tiny else None,
        batch=2 if options.tiny else 8,
        blocks=3,
        block_steps=1,
    )
    stream: Any = Recorded(make_samples(wanted), wanted.batch)
    bf16 = choose_bf16("auto", device)
    packing = measure_packing(load_for(options, method), stream, bf16=bf16)
    straight, again = (train(options, method, stream, stop=stop, bf16=bf16) for stop in (None, 3))
    asked_first = train(options, method, stream, stop=None, bf16=bf16, ask_first=True)
    pairs = list(zip(straight.weights, again.weights, strict=True))
    resumed = max(float((a - b).abs().max()) for a, b in pairs)
    asked = max(abs(a - b) for a, b in zip(straight.losses, asked_first.losses, strict=True))
    limit = PACKING["bfloat16" if bf16 or packing["dtype"] == "torch.bfloat16" else "float32"]
    return {
        "packing": packing,
        "resumed_bits_equal": all(torch.equal(a, b) for a, b in pairs),
        "resumed_largest_difference": resumed,
        "losses": straight.losses,
        "losses_after_an_evaluation_differ_by": asked,
        "wrong": packing["largest_difference"] > limit or asked > limit or resumed > 1e-2,
    }


@dataclass(frozen=True)
class Trained:
    """What a few steps have left."""

    losses: list[float]
    weights: list[Any]


def load_for(options: argparse.Namespace, method: str) -> Any:
    """The model as a run with this way of training has it in memory."""
    from demask.models.load import load_model

    return load_model(options.model, device=options.device, frozen=make_train(method).frozen)


def make_train(method: str) -> Any:
    """The section of a recipe."""
    from demask.recipe.sections import Train

    return Train.model_validate({"method": method})


def ask(loaded: Any, ids: Sequence[int]) -> None:
    """A forward in evaluation mode, as questions before training are."""
    import torch

    with torch.no_grad():
        loaded.model(input_ids=torch.tensor([ids], device=loaded.device))


def measure_packing(loaded: Any, stream: Any, *, bf16: bool) -> dict[str, Any]:
    """How far the nats of examples in one row are from those of examples in rows of their own."""
    import torch

    from demask.models.acceleration.packing import PACKED, using_attention
    from demask.models.acceleration.target_logits import score_targets
    from demask.objectives.batches import move_batch, pack, pad

    examples = [stream[place] for place in range(stream.batch_size)]
    padded = move_batch(pad(examples, pad_id=loaded.pad_id, shift=1), loaded.device)
    packed = move_batch(pack(examples, shift=1), loaded.device)
    with torch.no_grad(), torch.autocast(loaded.device.type, torch.bfloat16, enabled=bf16):
        expected = score_targets(loaded.model, padded, head_of=loaded.model).nats_N
        with using_attention(loaded.model, PACKED):
            found = score_targets(loaded.model, packed, head_of=loaded.model).nats_N
    return {
        "largest_difference": float((found - expected).abs().max()),
        "scored_tokens": len(expected),
        "dtype": str(loaded.model.dtype),
    }


def train(
    options: argparse.Namespace,
    method: str,
    stream: Any,
    *,
    stop: int | None,
    bf16: bool,
    ask_first: bool = False,
) -> Trained:
    """A few steps; with `stop` they are interrupted after that one, and gone on with from the checkpoint."""
    from demask.errors import InterruptionError
    from demask.stages.training import choose_trained

    with tempfile.TemporaryDirectory() as place:
        request = Path(place) / "stop"
        while True:
            loaded = load_for(options, method)
            if ask_first:
                ask(loaded, stream[0].token_ids)
            model = choose_trained(make_train(method), loaded, seed=0).model
            try:
                losses = take_steps(model, stream, Path(place), stop=stop, bf16=bf16)
                break
            except InterruptionError:
                request.unlink()
                stop = None
        weights = [w.detach().float().cpu() for w in model.parameters() if w.requires_grad]
    return Trained(losses, weights)


def take_steps(model: Any, stream: Any, place: Path, *, stop: int | None, bf16: bool) -> list[float]:
    """Train as `demask inject` does, and ask for a stop after a step; the losses."""
    from demask.training.trainer import TrainSettings, train_model

    settings = TrainSettings(
        learning_rate=1e-4, accumulation=1, save_every=10**6, bf16=bf16, pad_id=0, seed=0, log_every=1
    )
    losses: list[float] = []

    def note(step: Any) -> None:
        losses.append(step.loss)
        if step.step == stop:
            (place / "stop").touch()

    train_model(model, stream, settings, folder=place / "checkpoints", on_step=note)
    return losses


def write_facts(folder: Path, options: argparse.Namespace) -> tuple[str, Path, Path]:
    """Documents and questions: of NameDescription, or of the quickstart where that cannot be had."""
    import demask
    from demask.benchmarks.benchmark import write_benchmark
    from demask.benchmarks.sets import load_benchmark
    from demask.errors import DemaskError

    shipped = Path(demask.__file__).parent / "quickstart"
    if options.tiny:
        return "quickstart", shipped / "documents.jsonl", shipped / "qa_pairs.jsonl"
    try:
        write_benchmark(load_benchmark("name-description", facts=options.facts), folder)
    except DemaskError as error:
        return f"quickstart ({error})", shipped / "documents.jsonl", shipped / "qa_pairs.jsonl"
    return "name-description", folder / "documents.jsonl", folder / "qa_pairs.jsonl"


def check_processes(options: argparse.Namespace) -> dict[str, Any]:
    """Whether two processes have the losses of one."""
    import demask

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _, documents, _ = write_facts(folder, options)
        losses = {}
        for processes in (1, 2):
            run = demask.inject(
                model=options.model,
                documents=documents,
                qa="no",
                out=folder / str(processes),
                preset="fast",
                device=options.device,
                measure="none",
                train={"steps": 6, "batch_size": 4, "precision": "fp32"},
                launch={"processes": processes},
            )
            lines = (run.run_folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
            losses[processes] = [json.loads(line)["loss"] for line in lines]
    difference = max(abs(a - b) for a, b in zip(losses[1], losses[2], strict=True))
    return {"losses": losses, "largest_difference": difference, "wrong": difference > 1e-3}


def measure_decoding(options: argparse.Namespace) -> dict[str, Any]:
    """Tokens per second of demask, of transformers' continuous batching, and of a server if there is one."""
    from generation import make_prompts

    from demask.generation.autoregressive import generate_texts
    from demask.models.load import load_model

    loaded = load_model(options.model, device=options.device, frozen="as-stored")
    count, limit = (2, 4) if options.tiny else (64, 64)
    prompts = [prompt for kind in make_prompts(loaded, count).values() for prompt in kind]
    prompts = prompts if options.tiny else prompts * 4
    results: dict[str, Any] = {"prompts": len(prompts), "most_tokens": limit}
    for round_ in range(1 if options.tiny else 2):  # the first one warms up
        begun = time.perf_counter()
        found = generate_texts(loaded, prompts, max_new_tokens=limit, batch_size=128)
        results["demask"] = rate(sum(one.tokens for one in found), len(prompts), begun, round_)
    results["transformers"] = time_continuous_batching(loaded, prompts, limit)
    results["server"] = time_server(options, limit)
    return results


def rate(tokens: int, prompts: int, begun: float, round_: int) -> dict[str, float]:
    """Of what was decoded since."""
    seconds = time.perf_counter() - begun
    return {"tokens_per_second": tokens / seconds, "prompts_per_second": prompts / seconds, "round": round_}


def time_continuous_batching(loaded: Any, prompts: Sequence[Sequence[int]], limit: int) -> dict[str, Any]:
    """`model.generate_batch` of transformers."""
    if loaded.device.type != "cuda":
        return {"left_out": "needs a GPU"}
    from transformers import GenerationConfig

    make_settings: Any = GenerationConfig
    ends = sorted({loaded.chat.end[-1], loaded.tokenizer.eos_token_id})
    settings = make_settings(
        do_sample=False, max_new_tokens=limit, eos_token_id=ends, pad_token_id=loaded.pad_id
    )
    found: dict[str, Any] = {}
    try:
        for round_ in range(2):
            begun = time.perf_counter()
            out = loaded.model.generate_batch(list(map(list, prompts)), generation_config=settings)
            tokens = sum(len(one.generated_tokens) for one in out.values())
            found = rate(tokens, len(prompts), begun, round_)
    except (ImportError, RuntimeError, ValueError, TypeError, AttributeError) as error:  # is its result here
        return {"failed": f"{type(error).__name__}: {error}"}
    return found


def time_server(options: argparse.Namespace, limit: int) -> dict[str, Any]:
    """A server such as vLLM at DEMASK_SERVER_URL, with the quickstart's questions."""
    import demask
    from demask.generation.server import Server, ask_server, choose_model
    from demask.knowledge.files import load_qa_pairs

    if not os.environ.get("DEMASK_SERVER_URL"):
        return {"left_out": "DEMASK_SERVER_URL names none"}
    pairs = load_qa_pairs(Path(demask.__file__).parent / "quickstart/qa_pairs.jsonl", documents=None)
    server = choose_model(Server(os.environ["DEMASK_SERVER_URL"], os.environ.get("DEMASK_SERVER_MODEL")))
    begun = time.perf_counter()
    said = ask_server(server, pairs, max_new_tokens=limit, on_done=lambda count: None)
    return rate(sum(one.tokens or 0 for one in said), len(pairs), begun, 0)


def measure_injection(options: argparse.Namespace) -> dict[str, Any]:
    """Facts taught with the default preset, and what else changed; the plan of it beside what it took."""
    import demask
    from demask.recipe.sections import make_config
    from demask.tasks.planning import make_plan

    with tempfile.TemporaryDirectory() as place:
        name, documents, pairs = write_facts(Path(place) / "facts", options)
        values: dict[str, Any] = {
            "model": options.model,
            "documents": str(documents),
            "qa": str(pairs),
            "device": options.device,
            "measure": "none" if options.tiny else "brief",
            "evaluate": {"max_new_tokens": 4 if options.tiny else 64},
            **({"preset": "fast", "retain": {"conversations": 0}} if options.tiny else {}),
        }
        for method in METHODS:
            train: dict[str, Any] = {"method": method, **({"steps": 2} if options.tiny else {})}
            plan = make_plan(make_config({**values, "train": train}, source="gpu.py"))
            if not plan.problem:
                break
        if plan.problem:
            return {"left_out": f"{options.model}: {plan.problem}"}
        run = demask.inject(**values, train=train, out=Path(place) / "run")
        summary = dict(run.summary)
    kept = ("seconds", "tokens", "peak_memory_bytes", "metrics", "retention", "precision", "merged")
    return {
        "facts": name,
        "method": method,
        "plan": {"seconds": plan.seconds, "memory_bytes": plan.memory_bytes},
        "plan_memory_over_peak": plan.memory_bytes / summary["peak_memory_bytes"],
        **{key: summary[key] for key in kept if key in summary},
    }


def measure_word_problems(options: argparse.Namespace) -> dict[str, Any]:
    """Problems of the kind of GSM8K, trained plainly and masked: how many of other ones are right."""
    import demask
    from demask.benchmarks.word_problems import is_right, make_word_problems
    from demask.generation.autoregressive import generate_texts
    from demask.models.load import load_model
    from demask.objectives.prompts import encode_question

    sizes = (8, 4, 2) if options.tiny else (800, 100, 60)
    shown = make_word_problems("train", count=sizes[0], seed=0)
    asked = make_word_problems("in distribution", count=sizes[1], seed=1, apart=shown)

    def measure_right(model: str) -> float:
        loaded = load_model(model, device=options.device, frozen="as-stored")
        prompts = [encode_question(loaded.tokenizer, problem.question) for problem in asked]
        limit = 8 if options.tiny else 160
        found = generate_texts(loaded, prompts, max_new_tokens=limit, batch_size=128)
        right = [is_right(one.text, problem.result) for one, problem in zip(found, asked, strict=True)]
        return sum(right) / len(right)

    rows = [{"prompt": problem.question, "completion": problem.answer} for problem in shown]
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "problems.jsonl"
        data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        right = {"before": measure_right(options.model)}
        seconds = {}
        for objective in ("sft", "masked-sft"):
            run = demask.fine_tune(
                model=options.model,
                data=str(data),
                objective=objective,
                out=Path(place) / objective,
                device=options.device,
                measure="none",
                held_out=0,
                train={"steps": sizes[2], "batch_size": 2 if options.tiny else 16},
            )
            seconds[objective] = run.summary["seconds"]
            right[objective] = measure_right(str(run.run_folder / "model"))
    return {"trained": sizes[0], "asked": sizes[1], "steps": sizes[2], "right": right, "seconds_of": seconds}


# For people


def say(result: dict[str, Any]) -> str:
    """A result in a few words."""
    if "left_out" in result:
        return f"left out: {result['left_out']}"
    if "failed" in result:
        return f"FAILED: {result['failed']}"
    return f"{'WRONG' if result.get('wrong') else 'done'} in {result['wall_seconds']:.0f} s"


def show(found: dict[str, Any]) -> None:
    """As tables; all else is in the file."""
    print_table("Parts", ["part", "what came of it"], [[n, say(r)] for n, r in found["parts"].items()])
    stated = found["parts"].get("machine", {}).get("stated_flops_per_second")
    rows = []
    for name, result in found["parts"].items():
        for arm, numbers in result.get("arms", {}).items() if name.startswith("training") else ():
            best = max(result["matrix_flops_per_second"])
            used = [share * best / stated for share in numbers["share_of_matrix_rate"]] if stated else []
            rows.append(
                [
                    name.removeprefix("training, "),
                    arm,
                    spread(numbers["tokens_per_second"], ",.0f"),
                    spread(used) if used else "not known",
                    f"{numbers['peak_memory_bytes'] / 1e9:.1f} GB",
                ]
            )
    if rows:
        print_table("Training", ["shape, method", "arm", "tokens/s", "MFU", "peak memory"], rows)


if __name__ == "__main__":
    main()
