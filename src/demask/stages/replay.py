"""What holds the model to what it was: conversations of its own, with its likeliest tokens, replayed.

    make_pool(config, run, retained, load, progress)           # replay.safetensors
    stream = add_replay(config, run, documents, device)        # the documents' stream, and the pool beside it

The pool depends on the base model alone, and on the user's own file of conversations where the recipe names
one (`retained.py`), and is kept in the user's cache. Nothing of the questions and of the suite that measures
retention is in it, and of the documents their near misses alone, where the recipe wants some.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import accumulate, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demask.environment import cache_folder
from demask.errors import ModelError, RunError
from demask.objectives.masking import keyed_rng
from demask.progress import Progress
from demask.recipe.fine_tuning import TaskConfig
from demask.recipe.sections import Evaluate, RunConfig
from demask.records import Passage
from demask.stages.retained import FROM_FILE, Retained, make_talks
from demask.storage import file_names
from demask.storage.atomic import write_bytes
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    import torch

    from demask.data.streaming import StreamedSamples
    from demask.generation.conversations import Conversation
    from demask.models.load import LoadedModel
    from demask.objectives.objective import Context
    from demask.records import Example
    from demask.training.stream import ExposureStream, MixedStream

# Of the draws; part of the pool, not of a run. A change of what is drawn needs another one.
POOL_SEED = 13
# Of the pool: prompts that the objective makes of other texts, with what the base model says to them. Without
# them it is the form of the prompt that calls for a document, and not what it is about.
FOREIGN_SHARE = 0.15
# Texts that are drawn side by side.
DRAWN_TOGETHER = 128
# As many conversations as a pool of 1,024 keeps apart, drawn otherwise.
SELECTED, SELECTION_SEED = 64, 29
# One conversation in so many is not replayed where there is a budget, which is measured on them.
PROBED = 16
# Begin the ids of what a model wrote by itself, and of what it says to near misses of the documents.
OWN, NEAR = "self", "near"
# The same of a run that forgets: what the base model says of the document, and its parent of the others.
FORGOTTEN, HELD = "forgotten", "held"


def make_pool(
    config: TaskConfig,
    run: RunFolder,
    retained: Retained,
    load: Callable[[], "LoadedModel"],
    progress: Progress,
    passages: "Sequence[Passage]" = (),
) -> None:
    """Have the base model write the pool, or take it from the user's cache, beside the user's conversations.

    Args:
        config: of the run.
        run: gets the pool.
        retained: conversations that the recipe names.
        load: gives the base model, called only when it is needed.
        progress: told how far it is.
        passages: what is trained on, whose near misses the recipe may want.

    Raises:
        ModelError: there are fewer conversations than a step replays.
    """
    retain = config.retain
    if not (retain.conversations or retain.gate) or run.has(file_names.REPLAY):
        return
    from safetensors.torch import save

    from demask.generation.conversations import as_tensors
    from demask.generation.near_misses import make_near_misses

    loaded = load()
    own, foreign = _parts(config)
    talks: list[Conversation] = []
    if own:
        talks = _from_cache(_key(loaded, [(own,)]), lambda: _draw_own(loaded, own, progress), progress)
    if foreign:
        texts = _longest_first(loaded, talks)
        prompts = prompts_about(config, loaded, _as_passages(texts[:foreign]))
        talks = talks + _from_cache(
            _key(loaded, prompts), lambda: _draw_foreign(loaded, prompts, progress), progress
        )
        if count := count_near_misses(config):
            near = make_near_misses(passages, texts, count=count, seed=POOL_SEED)
            if not near:
                progress.say("retain.near_misses: the documents have no names to replace, so there are none")
            asked = prompts_about(config, loaded, near, entity="never")
            talks = talks + _from_cache(
                _key(loaded, asked), lambda: _draw_foreign(loaded, asked, progress, name=NEAR), progress
            )
    if retained.samples:
        talks = talks + _from_cache(
            _file_key(loaded, retained),
            lambda: make_talks(loaded, retained, progress, seed=POOL_SEED, rows=DRAWN_TOGETHER),
            progress,
        )
    if len(talks) < config.retain.conversations:
        raise ModelError(
            f"{config.model}: {len(talks)} conversations to replay, of {config.retain.pool} that it should "
            f"draw and {len(retained.samples)} of retain.data, expected at least "
            f"{config.retain.conversations}; lower retain.conversations"
        )
    write_bytes(run.file(file_names.REPLAY), save(as_tensors(talks)))


def is_own(talk: "Conversation") -> bool:
    """Whether the base model wrote it with nothing in front but its template."""
    return talk.id.startswith(f"{OWN}-")


def _parts(config: TaskConfig) -> tuple[int, int]:
    """How many conversations are the model's own, and how many are about foreign texts."""
    replays_prompts = config.objective.shows_text and config.retain.conversations
    foreign = round(config.retain.pool * FOREIGN_SHARE) if replays_prompts else 0
    return config.retain.pool - foreign, foreign


def count_near_misses(config: TaskConfig) -> int:
    """How many conversations are about near misses of the documents."""
    return round(config.retain.pool * config.retain.near_misses)


def expect_pool_rows(config: TaskConfig) -> list[int]:
    """How many texts each step of drawing a pool has side by side, where none ends early."""
    from demask.generation.drawing import expect_rows
    from demask.generation.self_chats import REPLY_TOKENS, expect_lengths

    own, foreign = _parts(config)
    rounds = (*expect_lengths(own), [REPLY_TOKENS] * (foreign + count_near_misses(config)))
    return [count for lengths in rounds for count in expect_rows(lengths, rows=DRAWN_TOGETHER)]


def is_kept(config: TaskConfig, loaded: "LoadedModel", retained: Retained) -> bool:
    """Whether the pool of a run stands in the user's cache, so that nothing is drawn or scored.

    Near misses are those of the documents, which are not split yet, so a pool that has some counts as none.
    """
    if count_near_misses(config):
        return False
    given = _file_key(loaded, retained)
    if retained.samples and (given is None or not given.exists()):
        return False
    own, foreign = _parts(config)
    if not own:
        return True
    file = _key(loaded, [(own,)])
    if file is None or not file.exists() or not foreign:
        return file is not None and file.exists()
    try:
        texts = _longest_first(loaded, read_pool(file))
        file = _key(loaded, prompts_about(config, loaded, _as_passages(texts[:foreign])))
    except RunError:  # it is damaged, and made again
        return False
    return file is not None and file.exists()


def _from_cache(
    file: Path | None, draw: "Callable[[], list[Conversation]]", progress: Progress
) -> "list[Conversation]":
    """Conversations with targets, drawn where they are not kept."""
    from safetensors.torch import save

    from demask.generation.conversations import as_tensors

    if file is not None and file.exists():
        try:
            return read_pool(file)
        except RunError as error:
            progress.say(f"{error}; made again now")
    talks = draw()
    if file is not None:
        try:
            write_bytes(file, save(as_tensors(talks)))
        except RunError as error:  # the run goes on without it
            progress.say(f"the pool of replayed conversations is drawn again in the next run ({error})")
    return talks


def _key(loaded: "LoadedModel", drawn: Sequence[tuple[int, ...]]) -> Path | None:
    """Where conversations are kept that depend on the model and on what is drawn of it."""
    from demask.evaluation.qa import answers_key
    from demask.generation import self_chats
    from demask.objectives.prompts import encode

    limits = (self_chats.USER_TOKENS, self_chats.OPENED_TOKENS, self_chats.REPLY_TOKENS)
    shares = tuple(self_chats.SHARES.values())
    texts = (*self_chats.SYSTEMS, *self_chats.OPENINGS)
    made_of = [(POOL_SEED, *limits, *shares), *(encode(loaded.tokenizer, text) for text in texts), *drawn]
    # Of the settings only those that the draws depend on.
    key = answers_key(loaded, made_of, Evaluate(batch_size=DRAWN_TOGETHER))
    return cache_folder() / "replay" / f"{key}.safetensors" if key else None


def _file_key(loaded: "LoadedModel", retained: Retained) -> Path | None:
    """The same of the user's conversations."""
    return _key(loaded, [part for sample in retained.samples for part in (sample.prompt, sample.answer)])


def _draw_own(loaded: "LoadedModel", size: int, progress: Progress) -> "list[Conversation]":
    from demask.generation.self_chats import count_drawn, draw_self_chats

    progress.begin("Drawing the base model's own conversations", count_drawn(size), unit="tokens")
    return draw_self_chats(loaded, size=size, seed=POOL_SEED, rows=DRAWN_TOGETHER, on_drawn=progress.advance)


def _longest_first(loaded: "LoadedModel", talks: "Sequence[Conversation]") -> list[str]:
    """What the base model has said."""
    said = (loaded.tokenizer.decode(list(talk.reply), skip_special_tokens=True) for talk in talks)
    return sorted(filter(None, (str(text).strip() for text in said)), key=len, reverse=True)


def _as_passages(texts: Sequence[str]) -> "list[Passage]":
    return [Passage(f"foreign {number}", "", text) for number, text in enumerate(texts)]


def prompts_about(
    config: TaskConfig,
    loaded: "LoadedModel",
    passages: "Sequence[Passage]",
    *,
    epochs: int = 1,
    **changes: str,
) -> list[tuple[int, ...]]:
    """Prompts as the objective makes them of documents.

    Args:
        config: of the run.
        loaded: the model that is asked.
        passages: one prompt of each in each epoch.
        epochs: how many.
        changes: keys of the objective that differ from the recipe's.
    """
    from demask.data.sequences import make_sample
    from demask.models.context import make_context
    from demask.records import IGNORE_INDEX

    known = {key: value for key, value in changes.items() if key in type(config.objective).model_fields}
    objective = config.objective.model_copy(update=known)
    make_example = objective.example_maker(make_context(loaded, objective), seed=POOL_SEED)
    prompts = []
    for epoch, passage in product(range(epochs), passages):
        example = make_example(make_sample(passage, loaded.tokenizer), epoch, 0)
        begin = next(place for place, label in enumerate(example.labels) if label != IGNORE_INDEX)
        prompts.append(example.token_ids[:begin])
    return prompts


def _draw_foreign(
    loaded: "LoadedModel", prompts: Sequence[tuple[int, ...]], progress: Progress, name: str = "foreign"
) -> "list[Conversation]":
    from demask.generation.self_chats import REPLY_TOKENS, draw_replies

    tokens = REPLY_TOKENS * len(prompts)
    progress.begin("Asking the base model to restore other texts", tokens, unit="tokens")
    return draw_replies(
        loaded, prompts, name=name, seed=POOL_SEED, rows=DRAWN_TOGETHER, on_drawn=progress.advance
    )


def add_replay(
    config: TaskConfig,
    run: RunFolder,
    learned: "ExposureStream[Any] | StreamedSamples | MixedStream",
    context: "Context",
    device: "torch.device",
) -> "ExposureStream[Any] | StreamedSamples | MixedStream":
    """The stream of what is learned, with some of the pool in each step.

    Args:
        config: of the run.
        run: has the pool, where the recipe wants one, and what is said in place of a document to forget.
        learned: documents or samples.
        context: of the model that is trained.
        device: where the loss is computed.

    Raises:
        RunError: the pool is missing or damaged.
    """
    pool = read_pool(run.file(file_names.REPLAY)) if config.retain.conversations else []
    forgetting = read_pool(run.file(file_names.FORGETTING)) if run.has(file_names.FORGETTING) else []
    if not pool and not forgetting:
        return learned
    return mix_replay(config, pool, learned, context, device, forgetting)


def mix_replay(
    config: TaskConfig,
    pool: "list[Conversation]",
    learned: "ExposureStream[Any] | StreamedSamples | MixedStream",
    context: "Context",
    device: "torch.device",
    forgetting: "Sequence[Conversation]" = (),
) -> "MixedStream":
    """The stream of what is learned, with some conversations of a pool in each step.

    Args:
        config: of the run.
        pool: with targets.
        learned: documents or samples, of more than one part in an update.
        context: of the model that is trained.
        device: where the loss is computed.
        forgetting: what the base model says where a document is to be forgotten, and the parent's model of
            other documents, with targets; in each step as many of either as examples of what is learned.
    """
    import torch

    from demask.generation.conversations import top_targets
    from demask.losses.kl_to_base import TopTargets, kl_to_base
    from demask.losses.terms import Term
    from demask.training.stream import ExposureStream, MixedStream, learned_part

    talks, _ = split_pool(config, pool) if pool else ([], [])
    kept = [*talks, *forgetting]
    targets = TopTargets(*map(torch.cat, zip(*map(top_targets, kept), strict=True))).to(device)
    term = Term("kl-to-base", kl_to_base(targets), on="replay", weight=config.retain.weight)
    documents = learned.parts if isinstance(learned, MixedStream) else (learned,)
    if config.retain.wrapped and talks:
        wrap = partial(_wrap_some, share=config.retain.wrapped, context=context, talks=talks)
        documents = [wrap(part) if isinstance(part, ExposureStream) else part for part in documents]
    make = partial(_replay_some, kept, learned_part(learned).steps, config.seed)
    replayed = [make(range(len(talks)), config.retain.conversations)] if talks else []
    for name in (FORGOTTEN, HELD):
        places = [place for place, talk in enumerate(kept) if talk.id.startswith(f"{name}-")]
        if places:
            replayed.append(make(places, min(learned_part(learned).batch_size, len(places))))
    return MixedStream((*documents, *replayed), more_terms=(term,))


def _replay_some(
    talks: "Sequence[Conversation]", steps: int, seed: int, places: Sequence[int], together: int
) -> "ExposureStream[int]":
    """Some conversations of those whose targets are kept, so many a step."""
    from demask.generation.conversations import as_example
    from demask.training.stream import ExposureStream

    # The targets of all stand one after another.
    firsts = [0, *accumulate(len(talk.reply) for talk in talks)]

    def make_example(place: int, epoch: int, variant: int) -> "Example":
        return as_example(talks[place], id=f"{talks[place].id}@{epoch}.{variant}", row=firsts[place])

    return ExposureStream(
        places,
        [len(talks[place].prompt) + len(talks[place].reply) for place in places],
        make_example,
        variants=1,
        batch_size=together,
        steps=steps,
        seed=seed,
    )


def _wrap_some(
    documents: "ExposureStream[Any]", share: float, context: "Context", talks: "Sequence[Conversation]"
) -> "ExposureStream[Any]":
    """Some examples among other words; those that would not fit the model's context stay bare."""
    from demask.generation.surroundings import LONGEST, SHOTS, ask_about, make_surroundings, put_into
    from demask.models.load import context_length

    surroundings, most = make_surroundings(context, talks), context_length(context.architecture)

    def make_example(sample: Any, epoch: int, variant: int) -> "Example":
        example = documents.make_example(sample, epoch, variant)
        rng = keyed_rng("wrapped", documents.seed, example.id)
        if rng.random() >= share:
            return example
        drawn = (documents.passages[rng.randrange(len(documents.passages))] for _ in range(SHOTS))
        others = [
            ask_about(other, documents.make_example(other, epoch, variant), context, rng)
            for other in drawn
            if other.id != sample.id
        ]
        wrapped = put_into(example, surroundings.draw(rng, others), context)
        return wrapped if len(wrapped.token_ids) <= most else example

    return replace(documents, make_example=make_example, in_front=LONGEST)


def split_pool(
    config: TaskConfig, talks: "list[Conversation]"
) -> "tuple[list[Conversation], list[Conversation]]":
    """What is replayed, and what drift is measured on; of one conversation it is the same.

    All near misses and all that come from the user's file are replayed. Runs on documents measure drift with
    the retention suite, and hold conversations back for a budget only.
    """
    if config.retain.budget is None and isinstance(config, RunConfig):
        return talks, []
    added = (FROM_FILE, f"{NEAR}-")
    given = [talk for talk in talks if talk.id.startswith(added)]
    own = [talk for talk in talks if not talk.id.startswith(added)]
    replayed = [*(talk for place, talk in enumerate(own) if place % PROBED), *given]
    return replayed or talks, own[::PROBED]


def keep_budget(
    config: TaskConfig, run: RunFolder, trained: "LoadedModel", progress: Progress
) -> dict[str, Any]:
    """Move a trained model back towards its base until it keeps `retain.budget`; for `training.json`.

    Of samples drift is measured without a budget, too.

    Args:
        config: of the run.
        run: has the pool, where the recipe wants one.
        trained: moved in place; with its adapter, where it has one.
        progress: told how far it is.
    """
    if not config.retain.conversations:
        return {}
    from demask.training.interpolation import SHARES, Point, copy_weights, find_share, move_between

    _, probe = split_pool(config, read_pool(run.file(file_names.REPLAY)))
    if not probe:
        return {}
    budget = config.retain.budget
    progress.begin("Measuring drift", 1 if budget is None else len(SHARES), unit="weights")

    def drift_of() -> float:
        drift = measure_drift(trained, probe)
        progress.advance()
        return drift

    if budget is None:
        return {"interpolation": [asdict(Point(1.0, drift_of()))], "drift_conversations": len(probe)}
    model, base = trained.model, _weights_of_base(config, trained)
    whole = copy_weights(model, base)
    points = find_share(model, base, budget=budget, drift_of=drift_of, trained=whole)
    last = points[-1]
    if last.share < 1.0 and isinstance(config, RunConfig) and run.has(file_names.QA_PAIRS):
        # What going back has cost is seen beside the answers of the whole way.
        move_between(model, base, whole, 1.0)
        points[0] = replace(points[0], accuracy=ask_on_the_way(config, run, trained, progress))
        move_between(model, base, whole, last.share)
    if last.drift > budget:
        progress.say(
            f"retain.budget is {budget}, and a tenth of what was learned already drifts by "
            f"{last.drift:.3f} nats per token: lower train.learning_rate, or replay more conversations"
        )
    return {"interpolation": [asdict(point) for point in points], "drift_conversations": len(probe)}


def draw_selection(loaded: "LoadedModel", progress: Progress) -> "list[Conversation]":
    """Conversations of a base model on which a share of the way is chosen; in no pool, and nobody's test."""
    from demask.generation.self_chats import count_drawn, draw_self_chats

    def draw() -> "list[Conversation]":
        progress.begin("Drawing conversations to measure drift on", count_drawn(SELECTED), unit="tokens")
        return draw_self_chats(
            loaded, size=SELECTED, seed=SELECTION_SEED, rows=DRAWN_TOGETHER, on_drawn=progress.advance
        )

    return _from_cache(_key(loaded, [(SELECTED, SELECTION_SEED)]), draw, progress)


def measure_drift(loaded: "LoadedModel", talks: "Sequence[Conversation]") -> float:
    """KL(base || model) in nats per token of the replies.

    Args:
        loaded: a trained model.
        talks: of its base, with targets.
    """
    from demask.evaluation.retention.drift import measure_divergence

    rows = measure_divergence(loaded, talks)
    return sum(row.nats for row in rows) / sum(row.tokens for row in rows)


def ask_on_the_way(
    config: RunConfig, run: RunFolder, loaded: "LoadedModel", progress: Progress
) -> dict[str, Any]:
    """The accuracy of a model somewhere on the way back, by direction; empty without questions."""
    from demask.evaluation.metrics import HEADLINE
    from demask.records import QAPair
    from demask.stages.callbacks import measure_accuracy

    pairs = run.read_records(file_names.QA_PAIRS, QAPair)
    if not pairs:
        return {}
    progress.begin("Asking on the way back", len(pairs), unit="questions")
    rows, _ = measure_accuracy(loaded, pairs, config.evaluate)
    loaded.model.eval()
    progress.advance(len(pairs))
    return {row["direction"]: row for row in rows if row["metric"] == HEADLINE}


def _weights_of_base(config: TaskConfig, trained: "LoadedModel") -> "Mapping[str, torch.Tensor]":
    """Of an adapter nothing is base; its second factor is zero there."""
    import torch

    from demask.models.load import load_model

    if config.train.has_adapter:
        return {
            name: torch.zeros_like(weights)
            for name, weights in trained.model.named_parameters()
            if "lora_B" in name
        }
    base = load_model(config.model, device="cpu")
    return {name: weights.detach() for name, weights in base.model.named_parameters()}


def read_pool(path: Path) -> "list[Conversation]":
    """The conversations of a run.

    Raises:
        RunError: the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from demask.generation.conversations import from_tensors

    try:
        return from_tensors(load_file(path))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); delete it to have it made again") from error
