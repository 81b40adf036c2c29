"""Replies of critics as public reports have them: which of them are programs."""

import asyncio
from typing import Any

import pytest

from field_cases import field_cases
from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.prompts import CRITIC
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.tirgen.critic import Critic, CriticConfig, IsolatedStep, Rewriting
from tiny_models import tiny_tokenizer


@pytest.mark.parametrize("case", field_cases("tirgen critic"))
def test_a_critics_reply_is_read_as_the_report_wants_it(case: dict[str, Any]):
    said = case["input"]
    critic = Critic(
        policy=ScriptedPolicy(tiny_tokenizer(), [said["reply"]]),
        dialect=Dialect(tiny_tokenizer(), DialectConfig(style=CRITIC)),
        config=CriticConfig(),
    )
    verdict = asyncio.run(critic.rewrite(IsolatedStep(said["step"]), seed=0)).verdict
    assert isinstance(verdict, Rewriting)
    assert f"Rewriting with code {verdict.code.strip()}" == case["expected"]
