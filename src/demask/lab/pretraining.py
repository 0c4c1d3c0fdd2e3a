"""Pre-train a tiny transformer on the known people of a world, autoregressively or as a diffusion model.

    folder = pretrain("diffusion", world, settings, out / "diffusion", seed=0, progress=progress)

Both kinds read the same people, in the same proportions of texts and questions, for as many examples.
The autoregressive one also meets the two other forms that a chat model knows: an answer to "Tell me a
fact." and a masked text to recover; for new people these forms are then no news.
"""

import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from demask.config import INSTRUCTION, OPENING, RATIO_RANGE, NextToken
from demask.lab.tokenizer import make_tokenizer
from demask.lab.world import (
    PORTRAIT_TEMPLATES,
    TEXT_TEMPLATES,
    Person,
    World,
    choose_order,
    write_portrait,
    write_portrait_questions,
    write_questions,
    write_text,
)
from demask.models.diffusion import DiffusionForm, set_diffusion_form
from demask.models.load import LoadedModel
from demask.models.precision import keep_freed_memory
from demask.objectives.demasking import DemaskingForm, make_demasking_example
from demask.objectives.diffusion import Noise, draw_noise, end_answer, make_diffusion_example
from demask.objectives.masking import draw_masking, draw_ratio, keyed_rng
from demask.objectives.next_token import make_next_token_example
from demask.objectives.prompts import ChatFormat, encode, load_chat_format
from demask.progress import Progress
from demask.records import Example, Passage
from demask.training.export import save_model
from demask.training.sampler import ExposureStream
from demask.training.trainer import StepMetrics, TrainSettings, checkpoint_step, train_model

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

Kind = Literal["autoregressive", "diffusion"]
KINDS: tuple[Kind, ...] = ("autoregressive", "diffusion")

# What stands for a person in one epoch, one example each.
_TASKS: dict[Kind, tuple[str, ...]] = {
    "autoregressive": ("text", "fact", "question", "question", "portrait", "portrait-question", "recover"),
    "diffusion": ("text", "text", "question", "question", "portrait", "portrait-question", "text"),
}
_HEAD_WIDTH = 64
_CONTEXT = 256
_WARMUP_AND_DECAY = 0.3  # share of the steps over which the learning rate falls at the end
_SAVE_EVERY = 200
# Tokens of an answer at most: name and thing have two, and the end. The diffusion model learns to fill the
# rest with ends, and writes as many.
ANSWER_TOKENS = 8


@dataclass(frozen=True)
class Pretraining:
    """Sizes of the lab; chosen so that two processor cores pre-train one model in minutes.

    Attributes:
        known: people to read about.
        new: people to inject later.
        steps: updates.
        batch_size: examples per step.
        learning_rate: highest.
        width: of the hidden states.
        layers: how many.
    """

    known: int = 200
    new: int = 40
    steps: int = 1200
    batch_size: int = 64
    learning_rate: float = 2e-3
    width: int = 256
    layers: int = 4


def pretrain(
    kind: Kind, world: World, settings: Pretraining, folder: Path, *, seed: int, progress: Progress
) -> Path:
    """Make the model folder, or go on making it, or leave it as it is.

    Args:
        kind: how it predicts.
        world: whose known people it reads about.
        settings: how large and how long.
        folder: of the model; checkpoints stand beside it while it is made.
        seed: of the weights, the wordings and the masks.
        progress: told how far it is.
    """
    if folder.exists():
        return folder
    keep_freed_memory()
    tokenizer = make_tokenizer()
    model = _make_network(kind, settings, tokenizer, seed)
    stream = _make_stream(kind, world, settings, tokenizer, seed)
    checkpoints = folder.with_name(f"{folder.name}-checkpoints")
    progress.begin(f"Pre-training ({kind}, seed {seed})", settings.steps, done=checkpoint_step(checkpoints))

    def on_step(metrics: StepMetrics) -> None:
        speed = metrics.tokens / max(metrics.seconds, 1e-9)
        progress.advance(metrics.steps, note=f"loss {metrics.loss:.3f}; {speed:.0f} tokens/s")

    train_model(
        model,
        stream,
        TrainSettings(
            learning_rate=settings.learning_rate,
            accumulation=1,
            save_every=_SAVE_EVERY,
            bf16=False,
            pad_id=int(tokenizer.pad_token_id),
            seed=seed,
            decay=_WARMUP_AND_DECAY,
        ),
        folder=checkpoints,
        on_step=on_step,
    )
    chat = load_chat_format(tokenizer)
    save_model(LoadedModel(model, tokenizer, chat, str(folder), str(folder), torch.float32), folder)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return folder


def _make_network(
    kind: Kind, settings: Pretraining, tokenizer: "PreTrainedTokenizerFast", seed: int
) -> "LlamaForCausalLM":
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=settings.width * 11 // 4,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.width // _HEAD_WIDTH,
        num_key_value_heads=settings.width // _HEAD_WIDTH,
        max_position_embeddings=_CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    if kind == "diffusion":
        set_diffusion_form(config, DiffusionForm(int(tokenizer.mask_token_id), alignment=0))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def _make_stream(
    kind: Kind, world: World, settings: Pretraining, tokenizer: "PreTrainedTokenizerFast", seed: int
) -> ExposureStream:
    return ExposureStream(
        [Passage(person.id, person.id, "") for person in world.known],
        [1] * len(world.known),
        make_lesson_maker(kind, world, tokenizer, seed),
        variants=len(_TASKS[kind]),
        batch_size=settings.batch_size,
        steps=settings.steps,
        seed=seed,
    )


def make_lesson_maker(
    kind: Kind, world: World, tokenizer: "PreTrainedTokenizerFast", seed: int
) -> Callable[[Passage, int, int], Example]:
    """A function from (person, epoch, variant) to an example about this person, in wordings drawn anew."""
    people = {person.id: person for person in world.known}
    chat = load_chat_format(tokenizer)
    form = DemaskingForm(
        chat, int(tokenizer.mask_token_id), encode(tokenizer, INSTRUCTION), encode(tokenizer, OPENING)
    )
    fact = encode(tokenizer, NextToken().question)

    def make(passage: Passage, epoch: int, variant: int) -> Example:
        task = _TASKS[kind][variant]
        rng = keyed_rng(seed, "pre-training", passage.id, epoch, variant)
        prompt, text = _write(task, people[passage.id], world.known, rng)
        question = encode(tokenizer, prompt) if prompt else fact if task == "fact" else None
        ids, name = encode(tokenizer, text), f"{passage.id}@{epoch}.{variant}"
        if kind == "diffusion":
            return _denoising_example(ids, question, chat, form.mask_id, rng, name)
        if task == "recover":
            masked = draw_masking(range(len(ids)), draw_ratio(rng, *RATIO_RANGE), rng)
            return make_demasking_example(ids, masked, id=name, form=form)
        return make_next_token_example(ids, id=name, chat=chat, question=question)

    return make


def _write(task: str, person: Person, known: Sequence[Person], rng: random.Random) -> tuple[str, str]:
    """Question and answer, or no question and a text."""
    match task:
        case "question":
            kind = rng.choice(("thing", "name"))
            pairs = [pair for pair in write_questions(person, order="name-first") if pair.kind == kind]
        case "portrait-question":
            pairs = list(write_portrait_questions(person, known=known))
        case "portrait":
            return "", write_portrait(person, rng.randrange(PORTRAIT_TEMPLATES))
        case _:
            order = choose_order(rng.randrange(2))
            return "", write_text(person, order=order, template=rng.randrange(TEXT_TEMPLATES))
    pair = rng.choice(pairs)
    return pair.question, pair.answers[0]


def _denoising_example(
    ids: Sequence[int],
    question: Sequence[int] | None,
    chat: ChatFormat,
    mask_id: int,
    rng: random.Random,
    name: str,
) -> Example:
    end = chat.end[-1]
    if question is None:
        context, answer = chat.bos, end_answer(ids, end=(end,), fill=end, block=None)
    else:
        context = (*chat.user, *question, *chat.assistant)
        answer = end_answer(ids, end=(end,), fill=end, block=ANSWER_TOKENS)
    masking = draw_noise(rng, length=len(answer), noise=Noise(None))
    return make_diffusion_example(context, answer, masking, id=name, mask_id=mask_id)
