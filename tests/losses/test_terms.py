"""Terms of a loss: sums that add up, one division, and each about its own source."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from demask.losses.cross_entropy import cross_entropy
from demask.losses.kl_to_base import TopTargets, divergence, kl_to_base, lumped_divergence
from demask.losses.terms import ScoredTokens, Term, apply_terms, combine
from demask.records import SOURCES, Source

pytestmark = pytest.mark.smoke

V = 11
CROSS_ENTROPY = Term("cross-entropy", cross_entropy())


def draw_scored(sources: Sequence[int], *, seed: int = 0, rows: Sequence[int] | None = None) -> ScoredTokens:
    rng = torch.Generator().manual_seed(seed)
    count = len(sources)
    return ScoredTokens(
        torch.randn(count, V, generator=rng, requires_grad=True),
        torch.randint(0, V, (count,), generator=rng),
        torch.rand(count, generator=rng) + 0.5,
        torch.ones(count, dtype=torch.bool),
        torch.rand(count, generator=rng),
        torch.tensor(sources),
        torch.tensor(rows if rows is not None else [-1] * count),
    )


def present(scored: ScoredTokens) -> frozenset[Source]:
    return frozenset(SOURCES[source] for source in scored.sources_N.tolist())


def loss_of(terms: Sequence[Term], scored: ScoredTokens, tokens: Sequence[int]) -> Tensor:
    return combine(terms, apply_terms(terms, scored, only=present(scored)), torch.tensor(tokens))


def test_one_term_is_the_weighted_mean() -> None:
    scored = draw_scored([0] * 5)
    nats = torch.nn.functional.cross_entropy(scored.logits_NV, scored.labels_N, reduction="none")
    assert torch.equal(loss_of([CROSS_ENTROPY], scored, [7, 0]), (nats * scored.weights_N).sum() / 7)


def test_each_term_is_about_its_own_source_by_its_weight_and_its_own_count() -> None:
    scored = draw_scored([0, 1, 0, 1, 1])
    other = Term("other", cross_entropy(), on="replay", weight=3.0)
    nats = torch.nn.functional.cross_entropy(scored.logits_NV, scored.labels_N, reduction="none")
    weighted = nats * scored.weights_N
    expected = weighted[[0, 2]].sum() / 2 + 3 * weighted[[1, 3, 4]].sum() / 4
    assert loss_of([CROSS_ENTROPY, other], scored, [2, 4]).item() == pytest.approx(expected.item())


def test_micro_batches_add_up_whatever_sources_they_hold() -> None:
    scored = draw_scored([0, 0, 1, 1, 0, 1])
    terms = [CROSS_ENTROPY, Term("other", cross_entropy(), on="replay", weight=0.5)]
    parts = [scored.at(torch.tensor(places)) for places in ([0, 1], [2, 3], [4, 5])]
    apart = sum(loss_of(terms, part, [3, 3]) for part in parts)
    assert loss_of(terms, scored, [3, 3]).item() == pytest.approx(apart.item())


@pytest.mark.parametrize("sources", [[0, 0], [1, 1]])
def test_a_source_that_is_not_there_adds_nothing_and_breaks_nothing(sources: list[int]) -> None:
    scored = draw_scored(sources)
    loss = loss_of([CROSS_ENTROPY, Term("other", cross_entropy(), on="replay")], scored, [2, 0])
    loss.backward()
    assert torch.isfinite(loss)
    assert scored.logits_NV.grad is not None
    assert torch.isfinite(scored.logits_NV.grad).all()


def test_a_term_gives_no_gradient_to_tokens_of_other_sources() -> None:
    scored = draw_scored([0, 1, 0])
    loss_of([CROSS_ENTROPY], scored, [2, 1]).backward()
    assert scored.logits_NV.grad is not None
    assert scored.logits_NV.grad[1].abs().sum() == 0
    assert (scored.logits_NV.grad[[0, 2]].abs().sum(dim=1) > 0).all()


def targets_of(base_NV: Tensor, drawn_N: Tensor, *, k: int) -> TopTargets:
    logp = base_NV.log_softmax(dim=1)
    top = logp.topk(k, dim=1)
    return TopTargets(top.indices, top.values, logp.gather(1, drawn_N[:, None])[:, 0])


def test_with_all_tokens_kept_it_is_the_divergence() -> None:
    rng = torch.Generator().manual_seed(1)
    base, tuned = torch.randn(2, 4, V, generator=rng)
    drawn = torch.randint(0, V, (4,), generator=rng)
    found = divergence(tuned.log_softmax(dim=1), drawn, targets_of(base, drawn, k=V))
    expected = torch.nn.functional.kl_div(
        tuned.log_softmax(dim=1), base.log_softmax(dim=1), log_target=True, reduction="none"
    ).sum(dim=1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("k", [1, 3])
def test_with_few_tokens_kept_its_mean_over_draws_and_its_gradient_are_those_of_the_divergence(
    k: int,
) -> None:
    rng = torch.Generator().manual_seed(2)
    base, tuned = torch.randn(2, 1, V, generator=rng)
    tuned.requires_grad_()
    every = torch.arange(V)  # each token that could be drawn, weighted by its chance
    chance = base.softmax(dim=1)[0]
    rows = targets_of(base.expand(V, V), every, k=k)
    mean = (chance * divergence(tuned.log_softmax(dim=1).expand(V, V), every, rows)).sum()
    mean.backward()
    whole = tuned.detach().clone().requires_grad_()
    exact = torch.nn.functional.kl_div(
        whole.log_softmax(dim=1), base.log_softmax(dim=1), log_target=True, reduction="sum"
    )
    exact.backward()
    torch.testing.assert_close(mean, exact)
    torch.testing.assert_close(tuned.grad, whole.grad)


def test_what_is_minimised_cannot_be_lowered_by_learning_the_drawn_tokens_by_heart() -> None:
    base = torch.zeros(6, V)  # every token as likely: most of what is drawn is none of the likeliest
    drawn = torch.arange(6)
    rows = targets_of(base, drawn, k=2)
    tuned = base.clone().requires_grad_()
    optimizer = torch.optim.SGD([tuned], lr=1.0)
    for _ in range(20):  # the estimate without bias, on the same draws: it falls below any divergence
        optimizer.zero_grad()
        divergence(tuned.log_softmax(dim=1), drawn, rows).sum().backward()
        optimizer.step()
    logp = tuned.detach().log_softmax(dim=1)
    assert divergence(logp, drawn, rows).sum() < -0.1
    assert lumped_divergence(logp, rows).min() > -1e-6
    assert lumped_divergence(base.log_softmax(dim=1), rows).abs().max() < 1e-6
    exact = torch.nn.functional.kl_div(logp, base.log_softmax(dim=1), log_target=True, reduction="none").sum(
        dim=1
    )
    assert (lumped_divergence(logp, rows) <= exact + 1e-6).all()


def test_the_term_reads_each_tokens_own_row_and_is_zero_for_the_base_itself() -> None:
    scored = draw_scored([1, 1, 1], rows=[2, 0, 1])
    order = torch.tensor([1, 2, 0])  # row r stands for token order[r]
    rows = targets_of(scored.logits_NV.detach()[order], scored.labels_N[order], k=4)
    assert kl_to_base(rows)(scored).abs().max() < 1e-6
    wrong = scored._replace(rows_N=torch.tensor([0, 1, 2]))
    assert kl_to_base(rows)(wrong).abs().max() > 0.1


@pytest.mark.parametrize("k", [1, 3, V])
def test_what_is_minimised_is_the_divergence_of_the_likeliest_and_one_class_of_the_rest(k: int) -> None:
    rng = torch.Generator().manual_seed(4)
    base, tuned = (torch.randn(5, V, generator=rng) * 2 for _ in range(2))
    rows = targets_of(base, torch.zeros(5, dtype=torch.int64), k=k)
    expected = []
    for p, q, top in zip(base.softmax(dim=1), tuned.softmax(dim=1), rows.ids_MK, strict=True):
        classes = [[share[top], share.sum() - share[top].sum()] for share in (p, q)]
        ps, qs = (torch.cat([kept, rest[None].clamp_min(1e-6)]) for kept, rest in classes)
        expected.append((ps * (ps / qs).log()).sum())
    found = lumped_divergence(tuned.log_softmax(dim=1), rows)
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-4, rtol=1e-4)


def test_the_term_does_not_look_at_the_token_that_was_drawn() -> None:
    scored = draw_scored([1, 1, 1], rows=[0, 1, 2])
    rows = targets_of(torch.zeros_like(scored.logits_NV), scored.labels_N, k=1)
    other = scored._replace(labels_N=(scored.labels_N + 1) % V)
    torch.testing.assert_close(kl_to_base(rows)(scored), kl_to_base(rows)(other))
    assert torch.equal(kl_to_base(rows)(scored), lumped_divergence(scored.logits_NV.log_softmax(dim=1), rows))
