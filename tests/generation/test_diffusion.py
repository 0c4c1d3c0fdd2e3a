"""Masks become tokens block by block, and a row says the same whatever stands beside it."""

import dataclasses
from collections import Counter

import pytest
import torch

from demask.errors import ConfigError, ModelError
from demask.generation.diffusion import (
    Canvas,
    Decoding,
    choose_places,
    fill_masks,
    generate_diffusion,
    pick_tokens,
    plan_blocks,
    share_out,
)
from demask.models.diffusion import predict_masked
from demask.objectives.prompts import encode_question

QUESTIONS = [
    "Who founded it?",
    "Tell me a fact about the bridge over the river at the lower end of the old town.",
    "Ems",
    "Which river does the bridge cross, and when was it built?",
]
NEW = 10
SETTINGS = {
    "one token a step": Decoding(block_length=4),
    "several tokens a step": Decoding(block_length=4, steps=5),
    "any order": Decoding(block_length=4, transfer="random", steps=7),
    "drawn in any order": Decoding(block_length=4, transfer="random", temperature=1.0, seed=3),
    "drawn, the surest kept": Decoding(block_length=8, steps=6, temperature=0.7),
    "all that are sure enough": Decoding(block_length=4, transfer="threshold", threshold=0.4),
    "one block": Decoding(block_length=64),
    "read once": Decoding(block_length=4, prefix_cache=True),
    "sure enough, read once": Decoding(
        block_length=4, transfer="threshold", threshold=0.4, prefix_cache=True
    ),
}
every_setting = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
both_alignments = pytest.mark.parametrize("alignment", [0, 1])


@pytest.fixture
def prompts(tiny_loaded):
    return [encode_question(tiny_loaded.tokenizer, question) for question in QUESTIONS]


def decode(loaded, prompts, settings, *, new=NEW, batch_size=8):
    found = generate_diffusion(loaded, prompts, max_new_tokens=new, batch_size=batch_size, settings=settings)
    return [(one.text, one.tokens, one.stopped) for one in found]


def mask_of(loaded):
    return loaded.model.config.diffusion["mask_token_id"]


@torch.no_grad()
def predict(loaded, ids):
    """Brute force: all logits of one row, the prediction for place i at i."""
    logits = loaded.model(input_ids=torch.tensor([ids])).logits[0].float()
    alignment = loaded.model.config.diffusion["alignment"]
    logits = logits.roll(alignment, dims=0)
    logits[:, mask_of(loaded)] = -torch.inf
    return logits


def write_alone(loaded, prompt, settings, blocks, new=NEW):
    """Brute force, greedy: as in the paper, one row and one block of known steps after the other."""
    mask = mask_of(loaded)
    ids = [*prompt, *[mask] * new]
    for start, end, steps in blocks:
        window = range(len(prompt) + start, len(prompt) + end)
        base, rest = divmod(end - start, steps)
        for step in range(steps):
            chances = predict(loaded, ids).softmax(dim=1)
            best = sorted((-float(chances[i].max()), i) for i in window if ids[i] == mask)
            least = base + (step < rest)
            for rank, (minus, place) in enumerate(best):
                if rank < least or (settings.transfer == "threshold" and -minus >= settings.threshold):
                    ids[place] = int(chances[place].argmax())
    return ids[len(prompt) :]


def make_stop(loaded, token):
    """The same model, whose turns end with a token that it does say."""
    loaded.tokenizer.eos_token = loaded.tokenizer.convert_ids_to_tokens(token)
    return dataclasses.replace(loaded, chat=dataclasses.replace(loaded.chat, end=(token,)))


def words(loaded, ids):
    return loaded.tokenizer.decode(ids, skip_special_tokens=True).strip()


BLOCKS = {
    "one token a step": [(0, 4, 4), (4, 8, 4), (8, 10, 2)],
    "several tokens a step": [(0, 4, 2), (4, 8, 2), (8, 10, 1)],
    "all that are sure enough": [(0, 4, 4), (4, 8, 4), (8, 10, 2)],
    "one block": [(0, 10, 10)],
}


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@both_alignments
@pytest.mark.parametrize("name", BLOCKS)
def test_texts_are_those_of_brute_force(make_diffusion, prompts, name, alignment, kind):
    loaded = make_diffusion(alignment, kind=kind)
    expected = [write_alone(loaded, prompt, SETTINGS[name], BLOCKS[name]) for prompt in prompts]
    found = decode(loaded, prompts, SETTINGS[name])
    assert [text for text, _, _ in found] == [words(loaded, ids) for ids in expected]
    assert len({text for text, _, _ in found}) == len(prompts)


@every_setting
@both_alignments
def test_ragged_prompts_together_say_what_each_says_alone(make_diffusion, prompts, settings, alignment):
    loaded = make_diffusion(alignment)
    together = decode(loaded, prompts, settings)
    # A prompt's draws are its own, by its number: the others must be there, but need not be in its batch.
    assert decode(loaded, prompts, settings, batch_size=1) == together
    assert decode(loaded, prompts, settings, batch_size=3) == together


@pytest.mark.parametrize("prefix_cache", [False, True])
def test_a_model_that_knows_absolute_positions_says_the_same_beside_others(
    make_diffusion, prompts, prefix_cache
):
    loaded = make_diffusion(kind="gpt2", num_hidden_layers=1)
    found = decode(loaded, prompts, Decoding(block_length=4, prefix_cache=prefix_cache))
    expected = [write_alone(loaded, prompt, Decoding(), BLOCKS["one token a step"]) for prompt in prompts]
    assert [text for text, _, _ in found] == [words(loaded, ids) for ids in expected]


def test_the_longest_prompts_come_first(make_diffusion, prompts, columns_read):
    loaded = make_diffusion()
    sizes = columns_read(loaded)
    decode(loaded, prompts, Decoding(block_length=4, steps=3), batch_size=2)
    longest, _, third, _ = sorted(map(len, prompts), reverse=True)
    assert sizes == [(2, longest + NEW)] * 3 + [(2, third + NEW)] * 3


def test_a_prompt_that_comes_twice_is_drawn_twice(make_diffusion, prompts):
    drawn = Decoding(transfer="random", temperature=1.0)
    one, other = decode(make_diffusion(), prompts[:1] * 2, drawn)
    assert one != other


def test_a_prompt_without_tokens_is_written_beside_others(make_diffusion, prompts):
    # A step a block: behind nothing all places are alike, and rounding would say which is the surest.
    loaded, settings = make_diffusion(), Decoding(block_length=4, steps=3)
    together = decode(loaded, [(), *prompts], settings)
    assert together == decode(loaded, [(), *prompts], settings, batch_size=1)
    cached = decode(loaded, [(), *prompts], dataclasses.replace(settings, prefix_cache=True), batch_size=1)
    assert cached == together


def test_a_prompt_without_tokens_is_refused_where_a_token_is_read_before_its_place(make_diffusion, prompts):
    loaded = make_diffusion(1)
    with pytest.raises(ModelError, match=r"prompt 1: is empty, expected a token at least; tiny reads"):
        decode(loaded, [prompts[0], ()], Decoding())


def test_an_autoregressive_model_is_refused(tiny_loaded, prompts):
    with pytest.raises(ModelError, match="autoregressive, expected a masked-diffusion model"):
        decode(tiny_loaded, prompts, Decoding())


def test_no_prompts_no_texts(make_diffusion):
    assert decode(make_diffusion(), [], Decoding()) == []


def test_every_finished_batch_is_told(make_diffusion, prompts):
    counts: list[int] = []
    generate_diffusion(
        make_diffusion(),
        prompts,
        max_new_tokens=2,
        batch_size=3,
        settings=Decoding(),
        on_done=counts.append,
    )
    assert counts == [3, 1]


def fill(loaded, prompts, settings, *, new=NEW, stops=(), watch=lambda ids, places: None):
    """The ids of rows without padding in between, and what every step has seen."""
    mask, width = mask_of(loaded), max(map(len, prompts)) + new
    rows = [[*[0] * (width - new - len(prompt)), *prompt, *[mask] * new] for prompt in prompts]
    real = [[*[0] * (width - new - len(prompt)), *[1] * (len(prompt) + new)] for prompt in prompts]
    canvas = Canvas(torch.tensor(rows), torch.tensor(real), width - new, mask)

    def denoise(ids_RT, real_RT, places_N, rows_R):
        watch(ids_RT, places_N)
        return predict_masked(loaded.model, ids_RT, real_RT, places_N)

    generators = [torch.Generator().manual_seed(row) for row in range(len(prompts))]
    fill_masks(canvas, lambda start: denoise, settings, generators, torch.tensor(stops, dtype=torch.int64))
    return canvas.ids_BT


@every_setting
def test_what_is_written_stays_and_only_masks_of_the_block_are_predicted(make_diffusion, prompts, settings):
    loaded, seen = make_diffusion(), []
    mask = mask_of(loaded)
    final_BT = fill(loaded, prompts, settings, watch=lambda ids, places: seen.append((ids.clone(), places)))
    assert len(seen) > 1
    first = final_BT.shape[1] - NEW
    for ids_BT, places_N in seen:
        assert (ids_BT.flatten()[places_N] == mask).all()
        if len(ids_BT) == len(prompts):
            written = ids_BT != mask
            assert (ids_BT[written] == final_BT[written]).all()
            # The leftmost block that has masks, and nothing right of it.
            columns = places_N % ids_BT.shape[1] - first
            length = settings.block_length
            open_blocks = ((ids_BT[:, first:] == mask).any(dim=0).nonzero()[:, 0] // length).min()
            assert (columns // length == open_blocks).all()
    assert not (final_BT == mask).any()


@every_setting
def test_no_mask_survives_even_where_the_model_loves_it(make_diffusion, prompts, settings):
    loaded = make_diffusion()
    mask = mask_of(loaded)

    def love(module, inputs, logits):
        logits[..., mask] += 1e4

    loaded.model.lm_head.register_forward_hook(love)
    assert predict(loaded, prompts[0])[0].isfinite().sum() == loaded.model.config.vocab_size - 1
    assert not (fill(loaded, prompts, settings) == mask).any()
    said = decode(loaded, prompts, settings)
    assert [tokens for _, tokens, _ in said] == [NEW] * len(prompts)


def test_logits_of_visible_tokens_change_nothing(make_diffusion, prompts):
    loaded = make_diffusion()
    before = fill(loaded, prompts[:1], SETTINGS["several tokens a step"])
    seen = []

    def spoil(model, arguments, keywords, out):
        ids_BT = keywords["input_ids"]
        seen.append(ids_BT.shape)
        assert out.logits.shape[0] == int((ids_BT == mask_of(loaded)).sum() - later[len(seen) - 1])

    later = [6, 6, 2, 2, 0]  # masks right of the block
    loaded.model.register_forward_hook(spoil, with_kwargs=True)
    assert torch.equal(fill(loaded, prompts[:1], SETTINGS["several tokens a step"]), before)
    assert len(seen) == 5


@pytest.fixture
def columns_read(monkeypatch):
    """Watch a model: rows and columns that it was given, one entry a call."""

    def watch(loaded):
        sizes, forward = [], loaded.model.forward

        def count(*args, **inputs):
            sizes.append(tuple(inputs["input_ids"].shape))
            return forward(*args, **inputs)

        monkeypatch.setattr(loaded.model, "forward", count)
        return sizes

    return watch


@every_setting
@both_alignments
def test_a_text_ends_at_its_first_stop_and_is_not_computed_any_more(
    make_diffusion, prompts, settings, alignment, columns_read
):
    loaded = make_diffusion(alignment)
    whole = decode_ids(loaded, prompts, settings)
    stop = whole[0][2]
    loaded = make_stop(loaded, stop)
    sizes = columns_read(loaded)
    found = decode(loaded, prompts, settings)
    for (text, tokens, stopped), ids in zip(found, whole, strict=True):
        end = ids.index(stop) if stop in ids else None
        assert text == words(loaded, ids[:end])
        assert stopped == (end is not None)
        assert tokens == (NEW if end is None else end + 1)
    assert found[0][2]
    if settings.block_length < NEW:
        assert sizes[-1][0] < len(prompts)


def decode_ids(loaded, prompts, settings):
    """The new ids, by a tokenizer that writes numbers."""

    class Numbers:
        eos_token_id = None
        pad_token_id = loaded.pad_id

        @staticmethod
        def decode(ids, *, skip_special_tokens):
            return " ".join(map(str, ids))

    found = decode(dataclasses.replace(loaded, tokenizer=Numbers()), prompts, settings)
    return [[int(word) for word in text.split()] for text, _, _ in found]


def test_a_row_whose_block_goes_on_leaves_when_its_text_is_decided(make_toy):
    # Words are written from the left; the row that says 0 first is decided after one step of four.
    toy = make_toy(0, consistent=True)
    rows = []

    def denoise(ids, real, places, numbers):
        rows.append(numbers.tolist())
        logits = toy(ids, real, places)
        logits[:] = torch.tensor([0.0, 0.0, 0.0, -torch.inf])
        logits[torch.arange(len(places)), numbers[places // 4]] += 9.0 - places % 4
        return logits

    ids = torch.full((2, 4), 3)
    canvas = Canvas(ids, torch.ones_like(ids), 0, 3)
    fill_masks(canvas, lambda start: denoise, Decoding(), [torch.Generator()] * 2, torch.tensor([0]))
    assert rows == [[0, 1], [1], [1], [1]]
    assert ids.tolist() == [[0, 3, 3, 3], [1, 1, 1, 1]]


def sample(toy, settings, count):
    ids = torch.full((count, 4), 3)
    canvas = Canvas(ids, torch.ones_like(ids), 0, 3)
    generators = [torch.Generator().manual_seed(row) for row in range(count)]
    fill_masks(canvas, lambda start: toy, settings, generators, torch.tensor([], dtype=torch.int64))
    return Counter(map(tuple, ids.tolist()))


def chance_of(toy, texts):
    """Of so unlikely a count or a less likely one, when texts come from the joint distribution."""
    from scipy.stats import chisquare

    expected = toy.joint.flatten() * texts.total()
    observed = [texts[tuple(text)] for text in torch.cartesian_prod(*[torch.arange(3)] * 4).tolist()]
    return chisquare(observed, expected.numpy()).pvalue


def test_any_order_one_token_a_step_draws_from_the_exact_joint(make_toy):
    toy = make_toy(0, consistent=True)
    texts = sample(toy, Decoding(transfer="random", temperature=1.0), 4000)
    assert chance_of(toy, texts) > 0.01


def test_the_surest_kept_does_not_draw_from_the_joint(make_toy):
    toy = make_toy(0, consistent=True)
    assert chance_of(toy, sample(toy, Decoding(temperature=1.0), 2000)) < 1e-9


def test_a_temperature_sharpens_what_is_drawn():
    logits = torch.tensor([[0.2, -1.0, 1.1, -torch.inf]]).repeat(20000, 1)
    found, chances = pick_tokens(logits, [20000], [torch.Generator().manual_seed(0)], 0.5)
    expected = (logits[0] / 0.5).softmax(dim=0)
    shares = found.bincount(minlength=4) / 20000
    assert (shares - expected).abs().max() < 4 * (0.25 / 20000) ** 0.5
    # How sure the model is has nothing to do with the temperature.
    assert torch.allclose(chances, logits[0].softmax(dim=0)[found])


def test_other_seeds_say_something_else_and_the_same_seed_the_same(make_diffusion, prompts):
    loaded = make_diffusion()
    one, again, other = (
        decode(loaded, prompts, Decoding(transfer="random", temperature=1.0, seed=seed)) for seed in (0, 0, 1)
    )
    assert one == again
    assert one != other


def test_transfers_of_a_block_sum_to_its_masks_and_are_even():
    for masks in range(1, 40):
        for steps in range(1, masks + 1):
            counts = share_out(masks, steps)
            assert sum(counts) == masks
            assert len(counts) == steps
            assert max(counts) - min(counts) <= 1
            assert counts == sorted(counts, reverse=True)


def test_blocks_cover_the_text_and_share_the_steps():
    for new in range(1, 40):
        for length in range(1, new + 2):
            count = -(-new // length)
            for steps in (None, *range(count, new + 3)):
                blocks = plan_blocks(new, Decoding(block_length=length, steps=steps))
                assert [place for b in blocks for place in range(b.start, b.end)] == list(range(new))
                assert all(1 <= b.steps <= b.end - b.start <= length for b in blocks)
                assert sum(b.steps for b in blocks) == min(steps or new, new)
                assert len(blocks) == count


def test_the_steps_of_a_text_are_divided_by_the_lengths_of_its_blocks():
    blocks = plan_blocks(80, Decoding(block_length=32, steps=20))
    assert [(b.end - b.start, b.steps) for b in blocks] == [(32, 8), (32, 8), (16, 4)]


def test_forward_passes_are_as_many_as_steps(make_diffusion, prompts, columns_read):
    loaded = make_diffusion()
    sizes = columns_read(loaded)
    decode(loaded, prompts, Decoding(block_length=4, steps=6))
    assert len(sizes) == 6


def test_places_of_equal_value_are_chosen_from_the_left():
    value = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.1, 0.9, 0.3, 0.95]])
    open_places = torch.tensor([[False, True, True, True], [True, True, True, False]])
    assert choose_places(value, open_places, 2).int().tolist() == [[0, 1, 1, 0], [0, 1, 1, 0]]
    assert choose_places(value, open_places, 1, 0.3).int().tolist() == [[0, 1, 1, 1], [0, 1, 1, 0]]
    assert choose_places(value, open_places, 1, 0.99).int().tolist() == [[0, 1, 0, 0], [0, 1, 0, 0]]
    assert choose_places(value, open_places, 9).equal(open_places)


@both_alignments
def test_read_once_is_exact_when_a_block_has_one_step(make_diffusion, prompts, alignment):
    loaded = make_diffusion(alignment)
    exact = Decoding(block_length=4, steps=3)
    cached = dataclasses.replace(exact, prefix_cache=True)
    assert decode(loaded, prompts, cached) == decode(loaded, prompts, exact)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@both_alignments
def test_read_once_is_exact_where_keys_know_their_own_token_alone(make_diffusion, prompts, alignment, kind):
    # With one layer, keys and values come from embeddings, which nothing that is written later changes.
    loaded = make_diffusion(alignment, kind=kind, num_hidden_layers=1)
    for name in ("one token a step", "all that are sure enough", "drawn in any order"):
        cached = dataclasses.replace(SETTINGS[name], prefix_cache=True)
        assert decode(loaded, prompts, cached) == decode(loaded, prompts, SETTINGS[name])


@both_alignments
def test_read_once_computes_what_stands_before_a_block_at_its_first_step(
    make_diffusion, prompts, alignment, columns_read
):
    loaded = make_diffusion(alignment)
    sizes = columns_read(loaded)
    decode(loaded, prompts, Decoding(block_length=5, prefix_cache=True))
    width = max(map(len, prompts)) + NEW
    behind = [width, *[10 + alignment] * 4, width, *[5 + alignment] * 4]
    assert sizes == [(len(prompts), columns) for columns in behind]


def test_read_once_is_approximate_and_no_default(make_diffusion, prompts):
    loaded, exact = make_diffusion(), SETTINGS["one token a step"]
    cached = dataclasses.replace(exact, prefix_cache=True)
    assert not Decoding().prefix_cache
    found = decode(loaded, prompts, cached)
    assert [tokens for _, tokens, _ in found] == [NEW] * len(prompts)
    assert found != decode(loaded, prompts, exact)


def test_an_adapter_in_training_decodes_too(make_diffusion, prompts):
    from demask.training.export import add_adapter

    loaded = make_diffusion()
    for settings in (Decoding(block_length=4, steps=5), Decoding(block_length=4, prefix_cache=True)):
        before = decode(loaded, prompts, settings)
        adapted = dataclasses.replace(loaded, model=add_adapter(loaded.model, rank=2, seed=0).eval())
        assert decode(adapted, prompts, settings) == before
        loaded = dataclasses.replace(loaded, model=adapted.model.unload())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"block_length": 0}, "block_length 0, steps None: expected at least 1"),
        ({"steps": 0}, "block_length 32, steps 0: expected at least 1"),
        ({"threshold": 0.0}, "threshold: 0.0, expected a probability above 0"),
        ({"threshold": 1.5}, "threshold: 1.5, expected a probability above 0"),
        ({"temperature": -1.0}, "temperature: -1.0, expected 0 or more"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        Decoding(**wrong)


def test_fewer_steps_than_blocks_are_refused(make_diffusion):
    with pytest.raises(ConfigError, match="steps: 2 for 10 tokens in blocks of 4, expected 3 at least"):
        decode(make_diffusion(), [], Decoding(block_length=4, steps=2))
