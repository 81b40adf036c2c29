"""The options by which a command learns of a language model that judges."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from thor_tir.grading.judge import JudgeConfig


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """A judge for answers that the rules leave unscored."""

    judge_model: str = ""
    """A language model, asked about answers that the rules leave unscored; its verdicts are counted apart."""
    judge_url: str = ""
    """Its OpenAI-compatible address, such as http://10.0.0.5:8000/v1; empty for OpenAI's own."""
    judge_key: Annotated[str, tyro.conf.arg(aliases=["--judge-key-env"])] = "OPENAI_API_KEY"
    """Environment variable that holds the judge's key; endpoints without keys need none."""

    def config(self, journal: Path) -> "JudgeConfig | None":
        """The judge, whose opinions `journal` keeps; None where none is wanted. Raises UsageError for no address."""
        if not self.judge_model:
            return None
        from thor_tir.address import check_address
        from thor_tir.grading.judge import JudgeConfig

        address = check_address(self.judge_url) if self.judge_url else ""
        return JudgeConfig(model=self.judge_model, base_url=address, key_variable=self.judge_key, journal=journal)


NO_JUDGE = JudgeOptions()
