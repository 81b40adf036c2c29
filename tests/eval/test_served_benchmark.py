"""A benchmark run of a model behind an address: the same folder, and a record that says how it was reached."""

import asyncio
import json
from pathlib import Path

from endpoint_server import Server, completion, says, serving
from scripted_benchmark import Quiet, right, set_of
from thor_tir.app.config import EvalConfig, ResourceConfig, RunConfig
from thor_tir.app.stages.evaluate import EvalRun, EvalSpec, evaluate, write_results
from thor_tir.eval.folder import EvalFolder
from thor_tir.grading.judge import JudgeConfig
from thor_tir.problem import Problem
from thor_tir.rollout.loop import RolloutConfig
from thor_tir.storage.journal import WHOLE

SUM = Problem(id="sum/1", question="What is 2 plus 2?", answer="4", source="mine")


def test_a_served_model_is_asked_and_scored_and_its_run_continues(tmp_path: Path) -> None:
    asked = set_of(SUM)
    run = EvalRun(
        spec=EvalSpec(name="tools", model="", samples=2),
        sets=(asked,),
        config=RunConfig(
            eval=EvalConfig(rollout=RolloutConfig(max_completion_length=200)), resources=ResourceConfig(concurrency=2)
        ),
        folder=EvalFolder(path=tmp_path / "run"),
        shard=WHOLE,
    )

    async def work(server: Server) -> int:
        from dataclasses import replace

        spec = replace(run.spec, model=server.address)
        before = len(server.asked)
        await evaluate(replace(run, spec=spec), Quiet())
        return len(server.asked) - before

    async def both() -> tuple[int, int]:
        async with serving() as server:
            server.usual = says(completion(right(SUM)[0], stop_reason=None))
            return await work(server), await work(server)

    first, second = asyncio.run(both())
    assert first == second + 2  # the second only found out again how to speak: both attempts were on disk
    results = write_results(run.folder, Quiet())
    assert results is not None
    assert results["sets"][0]["avg"]["value"] == 1.0
    known = run.folder.manifest
    assert (known["weights_sha256"], known["served"]["key_variable"]) == (None, "OPENAI_API_KEY")
    record = json.loads((tmp_path / "run" / "endpoint.json").read_text())
    assert record["address"].startswith("http://127.0.0.1:")
    assert record["calls"] == {"begun": 2, "ended": 2}
    assert record["spent"]["calls"] == 2  # those of the first call are not forgotten by the second


def test_a_judge_is_asked_only_about_what_stays_unscored_and_counted_apart(tmp_path: Path) -> None:
    unread = Problem(id="odd/1", question="Which?", answer="}{", source="mine")  # no rule reads this reference
    asked = set_of(SUM, unread)

    async def work() -> None:
        async with serving() as model, serving() as judge:
            model.usual = says(completion(right(SUM)[0], stop_reason=None))
            judge.usual = says(
                {"choices": [{"index": 0, "message": {"role": "assistant", "content": "On reflection:\nSAME"}}]}
            )
            run = EvalRun(
                spec=EvalSpec(name="tools", model=model.address, samples=1),
                sets=(asked,),
                config=RunConfig(
                    eval=EvalConfig(rollout=RolloutConfig(max_completion_length=200)), resources=ResourceConfig()
                ),
                folder=EvalFolder(path=tmp_path / "run"),
                shard=WHOLE,
                judge=JudgeConfig(model="referee", base_url=judge.address, journal=tmp_path / "run" / "judge.jsonl"),
            )
            await evaluate(run, Quiet())
            assert len(judge.asked) == 1

    asyncio.run(work())
    folder = EvalFolder(path=tmp_path / "run")
    results = write_results(folder, Quiet())
    assert results is not None
    entry = results["sets"][0]
    assert (entry["judged"], entry["ends"]["correct"], entry["ends"]["unscored"]) == (1, 2, 0)
    assert "Verdicts that a language model gave" in (folder.path / "results.md").read_text()
    assert folder.manifest["judge"]["model"] == "referee"
