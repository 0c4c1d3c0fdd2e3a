"""Steps, learning rates and costs follow from the recipe."""

import math
from itertools import pairwise

import pytest
import torch

from demask.errors import ConfigError
from demask.objectives.sft import Sft
from demask.recipe.fine_tuning import SftTrain
from demask.recipe.sections import DEFAULT_LENGTH, Train
from demask.training.plan import (
    LEARNING_RATES,
    LORA_FACTOR,
    MICRO_BATCH_TOKENS,
    check_ranks,
    choose_accumulation,
    choose_learning_rate,
    estimate_memory,
    make_schedule,
    measure_matrix_rate,
)


def test_steps_are_taken_as_given():
    schedule = make_schedule(Train(steps=50, batch_size=4), passages=10)
    assert (schedule.steps, schedule.batch_size, schedule.exposures) == (50, 4, 20.0)


def test_epochs_become_steps_rounded_up():
    schedule = make_schedule(Train(epochs=3, batch_size=4), passages=10)
    assert schedule.steps == math.ceil(30 / 4)


@pytest.mark.parametrize("epochs", [0.5, 1, 7, 120])
@pytest.mark.parametrize("passages", [1, 8, 33])
def test_every_passage_is_seen_at_least_as_often_as_asked(epochs, passages):
    schedule = make_schedule(Train(epochs=epochs, batch_size=10), passages=passages)
    assert 0 <= schedule.exposures - epochs < schedule.batch_size / passages


def test_neither_steps_nor_epochs_means_the_default():
    default = make_schedule(Train(batch_size=5), passages=10)
    assert default.exposures == DEFAULT_LENGTH.epochs
    few = make_schedule(Train(batch_size=5), passages=4)
    assert (few.steps, few.batch_size) == (DEFAULT_LENGTH.least_steps, 4)
    assert make_schedule(Train(epochs=3), passages=4).steps == 3  # as asked, however few


def test_a_batch_never_holds_more_than_one_epoch():
    assert make_schedule(Train(epochs=5, batch_size=64), passages=8).batch_size == 8


@pytest.mark.parametrize("passages", [1, 5, 8, 33])
@pytest.mark.parametrize("copies", [1, 2, 5])
def test_epochs_count_exposures_however_many_copies_stand_in_a_step(passages, copies):
    schedule = make_schedule(Train(epochs=60, batch_size=10), passages=passages, copies=copies)
    assert 0 <= schedule.exposures - 60 < schedule.batch_size / passages
    assert schedule.exposures == schedule.steps * schedule.batch_size / passages
    assert schedule.batch_size % copies == 0
    assert schedule.batch_size == min(10, passages * copies)


def test_learning_rate_is_the_recipes_where_it_names_one():
    for method in ("full", "lora"):
        train = Train(learning_rate=0.123, method=method)
        assert choose_learning_rate(train, parameters=1e9, batch_size=5) == 0.123


def test_larger_models_never_get_larger_rates():
    sizes = (1e8, 5e8, 1e9, 3e9, 8e9, 7e10)
    rates = [choose_learning_rate(Train(), parameters=size, batch_size=10) for size in sizes]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == LEARNING_RATES[0][1]
    assert rates[-1] == 5e-6  # the paper's


def test_small_batches_take_smaller_steps():
    sizes = (1, 5, 10, 64)
    rates = {size: choose_learning_rate(Train(), parameters=1e8, batch_size=size) for size in sizes}
    assert rates[5] == pytest.approx(4e-4, rel=0.01)  # measured
    assert rates[1] < rates[5] < rates[10] == rates[64] == 5e-4


def test_a_step_with_too_few_examples_for_its_processes_is_refused_and_says_what_would_help():
    check_ranks(Train(batch_size=5), batch_size=2, ranks=2)
    with pytest.raises(ConfigError, match=r"a step has 1 examples.*2 processes; lower launch.processes"):
        check_ranks(Train(batch_size=5), batch_size=1, ranks=2)
    with pytest.raises(ConfigError, match=r"raise train.batch_size or lower launch.processes"):
        check_ranks(Train(batch_size=2), batch_size=2, ranks=3)


def test_adapters_get_a_larger_rate():
    full, lora = (
        choose_learning_rate(Train(method=m), parameters=1e9, batch_size=5) for m in ("full", "lora")
    )
    assert lora == full * LORA_FACTOR


def test_memory_holds_weights_gradients_and_two_moments():
    few, many = (
        estimate_memory(parameters=size, trained=size, micro_batch_tokens=0) for size in (10**8, 2 * 10**8)
    )
    assert many - few == 16 * 10**8


def test_frozen_weights_need_a_quarter_of_it_and_tokens_add_to_it():
    def need(trained, tokens):
        return estimate_memory(parameters=10**9, trained=trained, micro_batch_tokens=tokens)

    assert need(10**9, 0) - need(0, 0) == 12 * 10**9
    assert need(10**9, 2000) > need(10**9, 1000)


def test_matrix_rate_is_measured_within_its_limit():
    assert measure_matrix_rate(torch.device("cpu"), torch.float32, size=64, limit=0.01) > 0


@pytest.mark.parametrize(
    ("wanted", "batch_size", "longest", "cut"),
    [
        (None, 10, 204, 1),  # all at once while it fits
        (None, 10, 205, 2),
        (None, 10, 5000, 10),  # an example is never cut
        (3, 10, 10, 3),  # the recipe has the last word
        (20, 8, 10, 8),
    ],
)
def test_micro_batches_are_as_few_as_keep_within_the_token_budget(wanted, batch_size, longest, cut):
    train, cpu = Train(accumulation=wanted), torch.device("cpu")
    assert choose_accumulation(train, batch_size=batch_size, longest=longest, device=cpu) == cut


@pytest.mark.parametrize("longest", [1, 100, 300, 1024, 2048])
@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_no_micro_batch_has_more_tokens_than_the_budget_whatever_it_is_made_of(batch_size, longest):
    parts = choose_accumulation(Train(), batch_size=batch_size, longest=longest, device=torch.device("cpu"))
    cuts = [round(part * batch_size / parts) for part in range(parts + 1)]
    assert max(high - low for low, high in pairwise(cuts)) * longest <= MICRO_BATCH_TOKENS["cpu"]


def test_fine_tuning_takes_a_fifth_of_the_rate() -> None:
    documents, samples, given = (
        choose_learning_rate(train, parameters=135e6, batch_size=32, rate_share=share)
        for train, share in ((Train(), 1.0), (SftTrain(), Sft.rate_share), (SftTrain(learning_rate=3e-4), 1))
    )
    assert samples == pytest.approx(documents / 5) == pytest.approx(1e-4)
    assert given == 3e-4
