import math

import pytest
import torch
from scipy.stats import chisquare

from thor_tir.engines.local.sampling import (
    BLOCKWISE,
    WORDS,
    Draws,
    Uniforms,
    draw,
    invert,
    keep_top_k,
    keep_top_p,
    kept_probabilities,
)
from thor_tir.engines.protocol import Sampling

CPU = torch.device("cpu")
LOGITS = torch.tensor([2.0, -1.0, 0.5, 1.0, 0.0, -3.0, 1.5, 0.2])


def draws_of(*samplings: Sampling) -> Draws:
    return Draws.of(samplings, vocabulary=len(LOGITS), device=CPU)


def one(**settings) -> Sampling:
    return Sampling(max_tokens=1, **settings)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, range(8)),
        ({"temperature": 0.6}, range(8)),
        # in order of likelihood the tokens are 0 6 3 2 7 4 1 5
        ({"top_k": 3}, [0, 6, 3]),
        # probabilities .398 .241 .146 .089 ...: three hold .785, four hold .874, so 0.8 needs four
        ({"top_p": 0.8}, [0, 6, 3, 2]),
        # of the three that top-k keeps, 0 has .507 and 6 has .307, together .814
        ({"top_k": 3, "top_p": 0.8}, [0, 6]),
    ],
)
def test_tokens_are_drawn_in_the_proportions_of_the_cut_and_renormalised_softmax(settings, kept):
    num = 20_000
    uniforms = Uniforms(seed=11)
    uniform_B = torch.tensor([uniforms[i] for i in range(num)], dtype=torch.float64)
    token_B, _ = draw(LOGITS.expand(num, -1), draws_of(*[one(**settings)] * num), uniform_B)
    kept = sorted(kept)
    expected = (LOGITS / settings.get("temperature", 1.0)).softmax(-1)[kept].double()
    counts = torch.bincount(token_B, minlength=8)
    assert counts.sum() == counts[kept].sum()
    assert chisquare(counts[kept].numpy(), (expected / expected.sum() * num).numpy()).pvalue > 0.01


def test_rows_of_one_batch_keep_their_own_settings():
    settings = [one(), one(temperature=0), one(temperature=0.5), one(top_k=1), one(top_p=0.01)]
    uniform_B = torch.full((5,), 0.999, dtype=torch.float64)
    together = draw(LOGITS.expand(5, -1), draws_of(*settings), uniform_B)
    for row, sampling in enumerate(settings):
        token, logp = draw(LOGITS[None], draws_of(sampling), uniform_B[:1])
        assert (together[0][row], together[1][row]) == (token, logp)
    # the last share of the distribution is token 7's; greedy, top-1 and a tiny nucleus leave token 0
    assert together[0].tolist() == [7, 0, 7, 0, 0]


def test_logprobs_are_before_top_k_and_top_p_and_at_the_temperature():
    token_B, logp_B = draw(LOGITS[None], draws_of(one(temperature=0.5, top_k=1)), torch.tensor([0.5]).double())
    expected = 4.0 - math.log(sum(math.exp(2 * x) for x in LOGITS.tolist()))  # logit 2 over temperature 0.5
    assert token_B.item() == 0
    assert logp_B.item() == pytest.approx(expected, abs=1e-6)


def test_greedy_logprobs_are_those_of_temperature_one():
    _, logp_B = draw(LOGITS[None], draws_of(one(temperature=0)), torch.tensor([0.5]).double())
    assert logp_B.item() == pytest.approx(2.0 - math.log(sum(math.exp(x) for x in LOGITS.tolist())), abs=1e-6)


def test_top_k_keeps_each_rows_own_number_and_ties():
    logp_BV = torch.tensor([[0.0, -1.0, -2.0, -3.0], [-1.0, -1.0, -1.0, -5.0]])
    kept_BV = keep_top_k(logp_BV, torch.tensor([2, 1]), most=2).isfinite()
    assert kept_BV.tolist() == [[True, True, False, False], [True, True, True, False]]


def test_top_p_keeps_the_fewest_tokens_that_reach_it_and_always_one():
    logp_BV = torch.tensor([[0.25, 0.5, 0.125, 0.125]]).log().expand(4, -1)
    kept_BV = keep_top_p(logp_BV, torch.tensor([[0.5], [0.6], [1e-9], [1.0]])).isfinite()
    assert kept_BV.sum(dim=1).tolist() == [1, 2, 1, 4]
    assert kept_BV[1].tolist() == [True, True, False, False]


def test_a_token_without_probability_is_never_drawn_even_at_the_edges():
    probability_BV = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]]).expand(3, -1)
    edges = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert invert(probability_BV, edges).tolist() == [1, 3, 3]


def test_work_that_no_row_asks_for_is_left_out():
    plain = draws_of(one(), one(seed=4))
    assert plain.temperature_B1 is plain.top_k_B is plain.top_p_B1 is plain.is_greedy_B is None
    logp_BV = LOGITS[None].log_softmax(-1)
    assert torch.equal(kept_probabilities(logp_BV, plain), logp_BV.exp())


def test_the_numbers_of_a_request_depend_on_seed_and_position_alone():
    forwards, backwards, other = Uniforms(5), Uniforms(5), Uniforms(-6)
    assert backwards[150] == [forwards[i] for i in range(151)][-1]
    assert forwards[0] != other[0]
    assert all(0 <= other[i] < 1 for i in range(200))


def test_a_large_vocabulary_is_searched_by_blocks_with_the_same_tokens():
    draw_ = torch.Generator().manual_seed(0)
    probability_BV = torch.rand(5, BLOCKWISE, generator=draw_, dtype=torch.float64)
    probability_BV[:, ::3] = 0.0  # what top-k or top-p has cut
    probability_BV[:, WORDS : 3 * WORDS] = 0.0
    for uniform in (0.0, 0.3, 0.77, 1 - 2.0**-53):
        uniform_B = torch.full((5,), uniform, dtype=torch.float64)
        token_B = invert(probability_BV, uniform_B)
        assert (probability_BV.gather(1, token_B[:, None]) > 0).all()
        below_B1 = probability_BV.cumsum(dim=1).gather(1, token_B[:, None])
        share_B1 = probability_BV.gather(1, token_B[:, None])
        wanted_B1 = uniform * probability_BV.sum(dim=1, keepdim=True)
        assert ((below_B1 - share_B1 <= wanted_B1 + 1e-9) & (wanted_B1 <= below_B1 + 1e-9)).all()
