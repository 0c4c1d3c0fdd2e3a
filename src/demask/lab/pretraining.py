"""Pre-train a tiny transformer on the known people of a world, autoregressively or as a diffusion model.

    folder = pretrain("diffusion", world, settings, out / "diffusion", seed=0, progress=progress)

Both kinds read about the same people until they answer questions about them in both directions, which
takes the diffusion model twice as many steps. The autoregressive one also meets the two other forms that
a chat model knows: an answer to "Tell me a fact." and a masked text to recover; for new people these
forms are then no news. Its tokenizer has one token per word, name and thing, over all that can be said
of the world.
"""

import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from demask.evaluation.qa import CEILING_PROMPT
from demask.lab.world import (
    MENTION_TEMPLATES,
    RELATIONS,
    TEXT_TEMPLATES,
    Person,
    World,
    choose_order,
    write_mention,
    write_questions,
    write_text,
)
from demask.models.diffusion import DiffusionForm, set_diffusion_form
from demask.models.load import LoadedModel
from demask.models.precision import keep_freed_memory
from demask.objectives.demasking import INSTRUCTION, OPENING, DemaskingForm, make_demasking_example
from demask.objectives.diffusion import Noise, draw_noise, make_diffusion_example
from demask.objectives.masking import RATIO_RANGE, draw_masking, draw_ratio, keyed_rng
from demask.objectives.next_token import QUESTION, make_next_token_example
from demask.objectives.prompts import encode, load_chat_format
from demask.objectives.reverse import REVERSED_QUESTION
from demask.progress import STEPS, Progress
from demask.records import Example, Passage
from demask.training.checkpoints import checkpoint_step
from demask.training.export import save_model
from demask.training.step_metrics import StepMetrics
from demask.training.stream import ExposureStream
from demask.training.trainer import TrainSettings, train_model

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

Kind = Literal["autoregressive", "diffusion"]

# What stands for a person in one epoch, one example each.
TASKS: dict[Kind, tuple[str, ...]] = {
    "autoregressive": ("mention", "text", "fact", "question", "question", "recover", "recover"),
    "diffusion": ("mention", "text", "fact", "text", "fact", "question", "question"),
}
# Mask ratios of the diffusion model. With (0.05, 0.95) for texts it knew two fifths of the links by its texts
# after 900 steps, with these all of them; and a fact that a model knows by questions alone tells it nothing
# about how to use texts (docs/benchmarks.md).
_TEXT_RATIOS = Noise((0.1, 0.5))
_ANSWER_RATIOS = Noise((0.5, 1.0))
# Small heads, large first weights and a short rotary base: with 64, 0.02 and 10,000 the diffusion model did
# not learn to tell places apart in as many steps.
_HEAD_WIDTH, _FIRST_WEIGHTS, _ROPE_THETA = 32, 0.05, 50.0
_CONTEXT = 256
_DECAY = 0.3  # share of the steps, at their end, over which the learning rate falls
_SAVE_EVERY = 200
# Of a name or a thing, and the end.
ANSWER_TOKENS = 2

NAMED_TOKENS = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "mask_token": "<mask>",
}
TURN_TOKENS = ("<user>", "<assistant>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first %}{{ bos_token }}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ '<assistant>' + message['content'] + eos_token }}"
    "{% else %}{{ '<user>' + message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


class Pretraining(BaseModel):
    """The world and the models; chosen so that two processor cores make one model in minutes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    known: int = Field(120, gt=0, description="people to read about")
    new: int = Field(20, gt=0, description="people to inject later")
    autoregressive_steps: int = Field(450, gt=0, description="updates")
    diffusion_steps: int = Field(900, gt=0, description="updates")
    batch_size: int = Field(64, gt=0, description="examples per step")
    learning_rate: float = Field(1e-3, gt=0, description="highest")
    width: int = Field(256, gt=0, multiple_of=32, description="of the hidden states")
    layers: int = Field(4, gt=0, description="of the transformer")

    def count_steps(self, kind: Kind) -> int:
        """Updates of a model of this kind."""
        return self.autoregressive_steps if kind == "autoregressive" else self.diffusion_steps


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
    tokenizer = make_tokenizer(world)
    stream = _make_stream(kind, world, settings, tokenizer, seed)
    return train_from_scratch(
        kind, settings, folder, tokenizer=tokenizer, stream=stream, seed=seed, progress=progress
    )


def train_from_scratch(
    kind: Kind,
    settings: Pretraining,
    folder: Path,
    *,
    tokenizer: "PreTrainedTokenizerFast",
    stream: ExposureStream[Passage],
    seed: int,
    progress: Progress,
) -> Path:
    """Train a new transformer on what a stream has, and make its folder.

    Args:
        kind: how it predicts.
        settings: how large and how long.
        folder: of the model; checkpoints stand beside it while it is made.
        tokenizer: of the model.
        stream: what it reads, of as many steps as the settings say.
        seed: of the weights.
        progress: told how far it is.
    """
    keep_freed_memory()
    model = _make_network(kind, settings, tokenizer, seed)
    checkpoints = folder.with_name(f"{folder.name}-checkpoints")
    done = checkpoint_step(checkpoints)
    progress.begin(f"Pre-training ({kind}, seed {seed})", settings.count_steps(kind), done=done, unit=STEPS)

    def on_step(metrics: StepMetrics) -> None:
        speed = metrics.tokens / max(metrics.seconds, 1e-9)
        progress.advance(metrics.steps, {"loss": metrics.loss, "tokens/s": speed})

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
            decay=_DECAY,
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
        initializer_range=_FIRST_WEIGHTS,
        rope_parameters={"rope_type": "default", "rope_theta": _ROPE_THETA},
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
) -> ExposureStream[Passage]:
    return ExposureStream(
        [Passage(person.id, person.id, "") for person in (*world.known, *world.new)],
        [1] * len((*world.known, *world.new)),
        make_example_maker(kind, world, tokenizer, seed),
        variants=len(TASKS[kind]),
        batch_size=settings.batch_size,
        steps=settings.count_steps(kind),
        seed=seed,
    )


def make_example_maker(
    kind: Kind, world: World, tokenizer: "PreTrainedTokenizerFast", seed: int
) -> Callable[[Passage, int, int], Example]:
    """A function from (person, epoch, variant) to an example about this person, in wordings drawn anew.

    Name and thing of new people are mentioned, each alone, as words that a model has met; what links
    them is not.
    """
    people = {person.id: person for person in (*world.known, *world.new)}
    new = {person.id for person in world.new}
    chat = load_chat_format(tokenizer)
    mask_id = int(tokenizer.mask_token_id)
    form = DemaskingForm(chat, mask_id, encode(tokenizer, INSTRUCTION), encode(tokenizer, OPENING))
    fact = encode(tokenizer, QUESTION)

    def make(passage: Passage, epoch: int, variant: int) -> Example:
        task = "mention" if passage.id in new else TASKS[kind][variant]
        rng = keyed_rng(seed, "pre-training", passage.id, epoch, variant)
        prompt, text = _write(task, people[passage.id], rng)
        question = encode(tokenizer, prompt) if prompt else fact if task == "fact" else None
        ids, name = encode(tokenizer, text), f"{passage.id}@{epoch}.{variant}"
        if kind == "diffusion":
            context = chat.bos if question is None else (*chat.user, *question, *chat.assistant)
            answer = (*ids, *chat.end)
            noise = _ANSWER_RATIOS if task == "question" else _TEXT_RATIOS
            masking = draw_noise(rng, length=len(answer), noise=noise)
            return make_diffusion_example(context, answer, masking, id=name, mask_id=mask_id)
        if task == "recover":
            masked = draw_masking(range(len(ids)), draw_ratio(rng, *RATIO_RANGE), rng)
            return make_demasking_example(ids, masked, id=name, form=form)
        return make_next_token_example(ids, id=name, chat=chat, question=question)

    return make


def _write(task: str, person: Person, rng: random.Random) -> tuple[str, str]:
    """Question and answer, or no question and a text."""
    if task == "question":
        pair = rng.choice(write_questions(person, order="name-first"))
        return pair.question, pair.answers[0]
    if task == "mention":
        return "", write_mention(person, rng.randrange(MENTION_TEMPLATES))
    order = choose_order(rng.randrange(2))
    return "", write_text(person, order=order, template=rng.randrange(TEXT_TEMPLATES))


def make_tokenizer(world: World) -> "PreTrainedTokenizerFast":
    """Make the tokenizer of a world, see `make_word_tokenizer`.

    Args:
        world: whose names and things have a token each, those of new people included.
    """
    return make_word_tokenizer(world_texts(world))


def make_word_tokenizer(texts: Iterable[str]) -> "PreTrainedTokenizerFast":
    """Make a tokenizer with a token for each word, chat template and mask token; the same ids every time.

    White space is dropped: line breaks of prompts have no token, and decoding puts one space between words.

    Args:
        texts: that together hold every word.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # Cuts at white space and on both sides of every punctuation mark.
    cutter = pre_tokenizers.BertPreTokenizer()
    special = [*NAMED_TOKENS.values(), *TURN_TOKENS]
    words = [word for text in texts for word, _ in cutter.pre_tokenize_str(text)]
    vocabulary = {token: id for id, token in enumerate(dict.fromkeys([*special, *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=NAMED_TOKENS["unk_token"]))
    tokenizer.pre_tokenizer = cutter
    # Of this decoder only the cleanup is of use: no space before a full stop.
    tokenizer.decoder = decoders.WordPiece(cleanup=True)
    wrap: Callable[..., PreTrainedTokenizerFast] = PreTrainedTokenizerFast  # its constructor has no types
    return wrap(
        tokenizer_object=tokenizer,
        extra_special_tokens=list(TURN_TOKENS),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        **NAMED_TOKENS,
    )


def world_texts(world: World) -> Iterator[str]:
    """Texts that together hold every word of sentences, questions, prompts, names and things."""
    for relation in RELATIONS:
        person = replace(world.known[0], relation=relation)
        for template in range(TEXT_TEMPLATES):
            yield write_text(person, order="name-first", template=template)
            yield write_text(person, order="thing-first", template=template)
        yield from (write_mention(person, template) for template in range(MENTION_TEMPLATES))
        yield from (pair.question for pair in write_questions(person, order="name-first"))
    yield from (INSTRUCTION, OPENING, CEILING_PROMPT.format(document="", question=""))
    yield from (QUESTION, REVERSED_QUESTION)
    yield from (f"{person.name} {person.thing}" for person in (*world.known, *world.new))
