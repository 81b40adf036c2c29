"""Figures that several processes counted, as one record has them."""

from thor_tir.engines.figures import united, united_record


def counts(requests: int, prompt: int, cached: int) -> dict:
    return {"requests": requests, "prompt_tokens": prompt, "cached_tokens": cached, "prefix_hit_rate": 0.9}


def test_counts_of_a_server_are_summed_and_its_rate_is_of_the_sums() -> None:
    one, two = {"a": counts(2, 10, 4)}, {"a": counts(3, 30, 6), "b": counts(0, 0, 0)}
    assert united([one, two]) == {
        "a": {"requests": 5, "prompt_tokens": 40, "cached_tokens": 10, "prefix_hit_rate": 0.25},
        "b": {"requests": 0, "prompt_tokens": 0, "cached_tokens": 0, "prefix_hit_rate": None},
    }
    assert united([]) == {}


def test_the_record_of_a_model_has_the_counts_of_all_who_asked_it() -> None:
    first = {"model": "m", "spent": {"requests": 2, "tokens": 50}, "events": {"retries": 1}}
    second = {"model": "m", "spent": {"requests": 1, "tokens": 7}, "events": {"errors": 2}}
    assert united_record([first, second]) == {
        "model": "m",
        "spent": {"requests": 3, "tokens": 57},
        "events": {"retries": 1, "errors": 2},
    }
    parts = [{"model": "m", "engines": {"a": counts(2, 10, 5)}}, {"model": "m", "engines": {"a": counts(1, 10, 0)}}]
    assert united_record(parts)["engines"]["a"]["requests"] == 3
