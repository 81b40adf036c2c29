"""Rounds as discrete events: times that can be worked out by hand."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

import simulate as simulate_command
from simulation import Cluster, Costs, Outcome, Round, Turn, simulate, turns_of


def flat(rows: int, held: int) -> float:
    """Steps that cost a tenth of a second, whatever they hold."""
    return 0.1


def run(*rounds: Round, train_s: float = 0.0, costs: Costs | None = None, cluster: Cluster | None = None) -> Outcome:
    """A run whose training takes so long each time."""
    costs = costs or Costs(step=flat, train=lambda number: train_s)
    return simulate(rounds, costs, cluster or Cluster())


def rows(count: int, *turns: Turn) -> Round:
    """A round of equal rows."""
    return Round(trajectories=[list(turns)] * count)


def test_a_row_without_tools_takes_its_tokens_times_a_step() -> None:
    assert run(rows(1, Turn(tokens=50))).trained_at == [pytest.approx(5.0)]


def test_the_steps_of_rows_that_are_decoded_together_cost_what_so_many_cost() -> None:
    costs = Costs(step=lambda count, held: 0.1 * count)  # two rows for 10 steps, then one for 20
    two = Round(trajectories=[[Turn(tokens=10)], [Turn(tokens=30)]])
    assert run(two, costs=costs).round_s == pytest.approx(10 * 0.2 + 20 * 0.1)


def test_rows_beyond_the_most_of_a_replica_wait_and_a_second_replica_halves_that() -> None:
    work = rows(4, Turn(tokens=10))
    assert run(work, cluster=Cluster(max_rows=1)).round_s == pytest.approx(4.0)
    assert run(work, cluster=Cluster(max_rows=1, replicas=2)).round_s == pytest.approx(2.0)


def test_programs_run_side_by_side_where_there_are_sandboxes() -> None:
    work = rows(6, Turn(tokens=10, tool_s=3.0), Turn(tokens=5))
    assert run(work).round_s == pytest.approx(1.0 + 3.0 + 0.5)
    # Three pairs of programs one after the other, the rest of a row while others wait.
    assert run(work, cluster=Cluster(sandboxes=2)).round_s == pytest.approx(1.0 + 9.0 + 0.5)


def test_programs_in_flight_are_their_rate_times_their_time() -> None:
    """Little's law: a row decodes 1 s and waits 3 s, so of 40 rows on a replica of 10, 30 wait in the mean."""
    turns = [Turn(tokens=10, tool_s=3.0)] * 50
    found = run(Round(trajectories=[turns] * 40), cluster=Cluster(max_rows=10))
    programs = 40 * 50
    assert programs / found.round_s * 3.0 == pytest.approx(30, rel=0.02)
    assert found.engine_idle_s == pytest.approx(3.0, abs=0.2)  # behind the last program alone


def test_a_row_that_comes_in_the_middle_joins_at_the_end_of_a_step() -> None:
    costs = Costs(step=lambda count, held: 1.0 if count == 1 else 2.0)
    late = Round(trajectories=[[Turn(tokens=10)], [Turn(tokens=1, tool_s=1.5), Turn(tokens=1)]])
    # Step 1 of both takes 2 s, the program ends at 3.5 and its row joins at 4 for a step of 2 s: 6 of 10 are left.
    assert run(late, costs=costs).round_s == pytest.approx(2 + 2 + 2 + 6)


def test_reading_takes_its_tokens_and_the_context_is_what_was_read_and_drawn() -> None:
    held: list[int] = []

    def step(count: int, tokens: int) -> float:
        held.append(tokens)
        return 0.0

    costs = Costs(step=step, read_token=0.01)
    found = run(rows(1, Turn(tokens=10, read=100, tool_s=0.0), Turn(tokens=10, read=20)), costs=costs)
    assert found.round_s == pytest.approx(1.2)
    assert held == [100 + 5, 130 + 5]


def test_repairs_begin_when_all_trajectories_have_ended() -> None:
    both = Round(trajectories=[[Turn(tokens=10)], [Turn(tokens=40)]], repairs=[[Turn(tokens=20)]] * 3)
    assert run(both, train_s=1.0).round_s == pytest.approx(4.0 + 2.0 + 1.0)


def test_in_turn_a_round_is_sampling_and_training_and_ahead_they_overlap() -> None:
    work = [rows(2, Turn(tokens=30))] * 10  # 3 s each
    assert run(*work, train_s=2.0).round_s == pytest.approx(5.0)
    # Rounds 1 and 2 begin together; each update lets the next round but one begin. So two rounds take 2 + 3 s.
    ahead = run(*work, train_s=2.0, cluster=Cluster(max_staleness=1)).trained_at
    assert [later - earlier for earlier, later in pairwise(ahead)] == pytest.approx([2.0, 3.0, 2.0, 3.0] * 2 + [2.0])
    slow = run(*work, train_s=4.0, cluster=Cluster(max_staleness=1))
    assert slow.trained_at[-1] == pytest.approx(3.0 + 10 * 4.0)  # training alone, from the first round on


def test_no_round_begins_more_than_the_bound_ahead() -> None:
    work = [rows(1, Turn(tokens=10))] * 5  # 1 s each, and training 10 s
    found = run(*work, train_s=10.0, cluster=Cluster(max_staleness=2))
    # Rounds 1 to 3 are sampled in the first seconds; the others as the learner lets them: it is never idle again.
    assert found.trained_at[-1] == pytest.approx(found.learner_idle_s + 50.0)
    assert found.learner_idle_s == pytest.approx(1.0)


def test_a_row_whose_program_ran_while_weights_came_is_read_anew() -> None:
    costs = Costs(step=flat, read_token=0.01, train=lambda number: 1.0)
    slow = Round(trajectories=[[Turn(tokens=10, read=50, tool_s=3.0), Turn(tokens=10)]])
    # The first round's weights come after 2 s, while the program runs; 60 tokens take 0.6 s at 4.5 s.
    found = run(rows(1, Turn(tokens=10)), slow, costs=costs, cluster=Cluster(max_staleness=1)).trained_at
    assert found[1] == pytest.approx(0.5 + 1.0 + 3.0 + 0.6 + 1.0 + 1.0)


def test_a_checkpoint_is_written_once_the_engines_have_the_weights() -> None:
    costs = Costs(step=flat, train=lambda number: 1.0, save_s=0.5)
    work = [rows(1, Turn(tokens=10))] * 3
    assert run(*work, costs=costs).trained_at == pytest.approx([2.5, 5.0, 7.5])
    # Ahead, the third round is sampled from 2.0 s on, while the first one's checkpoint is written.
    assert run(*work, costs=costs, cluster=Cluster(max_staleness=1)).trained_at == pytest.approx([2.5, 4.0, 5.5])


def test_processes_have_shares_of_a_round_and_tell_each_other_rounds_in_order() -> None:
    long, short = Turn(tokens=30), Turn(tokens=10)
    two = Cluster(replicas=2, processes=2, max_rows=1)
    shares = Round(trajectories=[[long], [long], [short], [short]])
    assert run(shares, cluster=two).round_s == pytest.approx(6.0)  # the first has both long rows
    assert run(shares, cluster=replace(two, processes=1)).round_s == pytest.approx(4.0)
    told = Costs(step=flat, tell_s=0.25)  # after trajectories and after repairs
    assert run(shares, costs=told, cluster=two).round_s == pytest.approx(6.5)
    # Of the second round no repair begins before the first round is complete.
    work = [Round(trajectories=[[long]], repairs=[[long]]), Round(trajectories=[[short]], repairs=[[long]])]
    ahead = Cluster(max_staleness=1)
    assert run(*work, cluster=ahead).trained_at == pytest.approx([6.0, 6.0])
    assert run(*work, cluster=replace(ahead, processes=2, replicas=2)).trained_at == pytest.approx([6.0, 9.0])


def test_what_shares_a_processor_takes_longer_together() -> None:
    costs = Costs(step=flat, train=lambda number: 2.0, contention=2.0)
    work = [rows(1, Turn(tokens=20))] * 3
    # Two rounds are sampled in 2 s, the first is trained alone. Then 2 s of the third's decoding and 2 s of training go
    # on together at half the rate, and the third is trained alone.
    trained = run(*work, costs=costs, cluster=Cluster(max_staleness=1)).trained_at
    assert trained == pytest.approx([4.0, 8.0, 10.0])


def test_new_weights_are_waited_for_and_rows_under_way_are_read_anew() -> None:
    costs = Costs(step=flat, read_token=0.01, train=lambda number: 1.0, transfer_s=0.5)
    assert run(rows(1, Turn(tokens=10)), costs=costs).round_s == pytest.approx(1.0 + 1.0 + 0.5)
    # The second round's row has drawn 25 tokens when the new weights are there after 2.5 s; reading them takes 0.25 s.
    work = [rows(1, Turn(tokens=10)), rows(1, Turn(tokens=100))]
    found = run(*work, costs=costs, cluster=Cluster(max_staleness=1))
    assert found.trained_at == pytest.approx([2.5, 10.0 + 0.25 + 1.0 + 0.5])


def test_the_turns_of_a_journal_are_its_steps() -> None:
    def step(thought: int, action: int, observed: int | None, seconds: float = 0.0) -> dict[str, object]:
        result = None if observed is None else {"ids": [1] * observed, "result": {"seconds": seconds}}
        call = {"ids": [1] * action} if action else None
        return {"thought": {"ids": [1] * thought}, "action": call, "observation": result}

    trajectory = {"prompt": {"ids": [1] * 7}, "steps": [step(3, 4, 5, 0.5), step(6, 0, None)]}
    assert turns_of(trajectory) == [Turn(tokens=7, read=7, tool_s=0.5), Turn(tokens=6, read=5)]


PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"


@pytest.mark.parametrize(
    "table",
    [
        simulate_command.Table(models=("qwen2.5-math-1.5b",), gpus=(1,)),
        pytest.param(simulate_command.Table(), marks=pytest.mark.slow),  # 25 s
    ],
    ids=["a line", "all"],
)
def test_the_page_has_the_table_that_the_command_prints(table: simulate_command.Table) -> None:
    page = PAGE.read_text(encoding="utf-8").splitlines()
    for line in simulate_command.table_lines(table):
        assert line in page
