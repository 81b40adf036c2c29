"""THOR from Python: one object that is asked, in a script and inside a running event loop."""

import asyncio
import io
import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from thor_tir import Problem, Thor, cli
from thor_tir.errors import UsageError
from thor_tir.inference.best_of_n import shortest as shortest_score
from thor_tir.rollout.loop import RolloutConfig
from thor_tir.sft.config import SftConfig
from thor_tir.verdict import Outcome

SHORT = RolloutConfig(max_completion_length=120, temperature=0.6, top_k=50)


@pytest.fixture(scope="module")
def thor() -> object:
    with Thor(rollout=SHORT) as opened:
        yield opened


def test_questions_may_be_text_rows_and_problems_and_come_back_in_their_order(thor: Thor) -> None:
    problem = Problem(id="p", question="What is the greatest common divisor of 84 and 36?", answer="12", source="test")
    made = thor.rollout(["Compute 17 * 3.", {"problem": "Compute 2 + 2.", "final_answer": 4}, problem], samples=2)
    assert [a.problem.question for a in made] == [q for q in ("Compute 17 * 3.", "Compute 2 + 2.", problem.question)
                                                  for _ in range(2)]  # fmt: skip
    assert [a.problem.answer for a in made][2:] == ["4", "4", "12", "12"]
    assert made[0].verdict.outcome is Outcome.UNSCORED, "there is nothing to compare with"
    assert len(made[1:3]) == 2
    assert made[1:3].answers == made.answers[1:3]
    assert repr(made).startswith("<6 attempts, answers: ")


def test_the_seed_decides_what_is_sampled() -> None:
    texts = []
    for seed in (3, 3, 4):
        with Thor(rollout=SHORT, seed=seed) as thor:
            texts.append([a.trajectory.response_text for a in thor.rollout("Compute 17 * 3.", samples=4)])
    assert texts[0] == texts[1] != texts[2]


def test_one_of_the_attempts_at_each_question_is_chosen_by_a_selector(thor: Thor) -> None:
    made = thor.rollout(["Compute 17 * 3.", "Compute 12 * 7."], correct=False, samples=4)
    shortest = thor.choose(made, "shortest")
    assert [a.problem.question for a in shortest] == ["Compute 17 * 3.", "Compute 12 * 7."]
    best = max(made[:4], key=shortest_score)
    assert shortest_score(shortest[0]) == shortest_score(best)
    assert thor.choose(made, "random").answers == thor.choose(made, "random").answers
    with pytest.raises(UsageError, match="knows which attempts are right"):
        thor.choose(made, "oracle")


def test_without_tools_no_program_is_run(thor: Thor) -> None:
    made = thor.rollout("Compute 12 * 7.", tools=False, samples=4)
    assert not any(a.trajectory.calls for a in made)


def test_answers_are_compared_and_programs_run(thor: Thor) -> None:
    assert thor.grade("0.5", r"\frac{1}{2}").outcome is Outcome.CORRECT
    assert thor.grade("3", r"\frac{1}{2}").outcome is Outcome.WRONG
    assert thor.grade("the answer is 4", "4", lenient=True).outcome is Outcome.CORRECT
    assert thor.run_code("print(6 * 7)").stdout == "42\n"
    assert thor.run_code("1 / 0").error == "ZeroDivisionError"


def test_it_works_inside_a_running_event_loop_as_a_notebook_has_one(thor: Thor) -> None:
    async def cell() -> str:
        return thor.run_code("print(1)").stdout

    assert asyncio.run(cell()) == "1\n"


def test_attempts_show_themselves_and_hostile_text_stays_text(thor: Thor) -> None:
    made = thor.rollout("Compute 1 + 1. <script>alert(1)</script>\x1b[2J")
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(made)
    assert "answer" in console.export_text()
    html = made._repr_html_()
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert "\x1b" not in html


def test_mistakes_are_said_in_a_sentence(thor: Thor) -> None:
    with pytest.raises(UsageError, match="at least one question"):
        thor.rollout([])
    with pytest.raises(UsageError, match="a question is text"):
        thor.rollout([{"answer": 3}])
    with pytest.raises(UsageError, match="no model at '/nowhere'"):
        Thor("/nowhere")


def test_what_is_closed_says_so_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    thor = Thor()
    thor.close()
    thor.close()
    assert set(threading.enumerate()) <= before  # a thread of another test may end meanwhile
    with pytest.raises(UsageError, match="is closed"):
        thor.run_code("print(1)")


def test_the_same_records_continue_a_training_and_others_are_refused(thor: Thor, tmp_path: Path) -> None:
    made = thor.rollout("Compute 17 * 3.")
    config = SftConfig(train_batch_size=1, learning_rate=1e-3)
    trained = thor.train(made, config, tmp_path / "run")
    assert (tmp_path / "run" / "report.html").exists()  # as every command leaves one
    row = json.loads((tmp_path / "run" / "records.jsonl").read_text())
    assert [i for segment in row["segments"] for i in segment["ids"]] == [
        i for span in [*made[0].trajectory.spans][1:] for i in span.token_ids
    ]
    assert [m["step"] for m in trained.metrics] == [1]
    assert thor.train(made, config, tmp_path / "run") == trained
    chat = [{"question": "Compute 17 * 3.", "solution": "It is 51."}]
    with pytest.raises(UsageError, match="holds a run on other records"):
        thor.train(chat, config, tmp_path / "run")

    async def cell() -> object:
        return thor.train(chat, config, tmp_path / "chat").model

    assert asyncio.run(cell()) == tmp_path / "chat" / "model"
    with pytest.raises(UsageError, match="no records"):
        thor.train([], config, tmp_path / "none")


ROOT = Path(__file__).parents[1]


def blocks(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_ten_lines_of_the_readme_run_and_the_untrained_actor_answers_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names: dict[str, Any] = {}
    exec(blocks("README.md")[0], names)
    assert capsys.readouterr().out.endswith("correct\n42\n\n")
    assert sum(names["attempts"].correct) >= 3, "of 4; the last bit of a logit may differ between machines"
    assert names["question"] == cli.EXAMPLE
    assert names["question"] in (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_page_on_python_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ask, train = blocks("docs/python.md")
    names: dict[str, Any] = {}
    exec(ask, names)
    exec(train, names)
    assert len(names["better"].metrics) == 2
    assert (tmp_path / "runs" / "python" / "rl" / "model" / "model.safetensors").is_file()
