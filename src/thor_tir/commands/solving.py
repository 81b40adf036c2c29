"""Commands that answer questions of a person."""

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from thor_tir.app.config import CallConfig, EndTokens
from thor_tir.commands.options import NANO, PresetOption, check_size
from thor_tir.console import ConsoleReporter
from thor_tir.dialect.observation import ObservationConfig
from thor_tir.engines.openai_api.reward_endpoint import RewardOptions
from thor_tir.errors import UsageError
from thor_tir.garbage import uncollected
from thor_tir.inference.best_of_n import REWARDS, USABLE
from thor_tir.inference.self_correction import SelfCorrectionConfig
from thor_tir.rollout.loop import RolloutConfig

if TYPE_CHECKING:
    from thor_tir.app.ask import AskConfig

SELECTOR_NAMES = f"{{{','.join((*USABLE, *REWARDS))}:PLACE,FILE.py:FUNCTION}}"
"""The selectors as help shows them."""
NOT_ANSWERED = 3
"""Exit status where no answer was found."""


@dataclass(frozen=True, kw_only=True)
class AskOptions:
    """Options of commands that answer questions."""

    model: str = ""
    """Hub name, local folder or the address that serves it; by default the newest trained model of runs/quickstart,
    else the embedded one."""
    model_name: str = ""
    """Model at an address that serves several."""
    model_tokenizer: str = ""
    """Tokenizer of a model at an address, a folder or hub name; without it only text is exchanged."""
    model_key: str = "OPENAI_API_KEY"
    """Environment variable that holds the key of an address."""
    reasoning: bool = False
    """A reasoning model: its chat template opens a thinking turn."""
    end_token: EndTokens = ()
    """Token that ends the model's turn beside those that it names itself; may be given several times."""
    chat_template: str = ""
    """Chat template for a model that has none: a Jinja file, or chatml, llama3, gemma, mistral or plain."""
    attempts: int = 1
    """Number of attempts; a single one is made with self-correction, several without, and --select chooses."""
    select: Annotated[str, tyro.conf.arg(metavar=SELECTOR_NAMES)] = "pass-rate"
    """Rule that chooses among several attempts: pass-rate (the paper's) takes the one whose calls ran best."""
    rewards: RewardOptions = field(default_factory=RewardOptions)
    """Reward models behind addresses, for selectors that ask them."""
    seed: int = 0
    """Seed of the attempts and of ties among them."""
    preset: PresetOption = "nano"
    """Name of the values that the options begin from."""
    observation: ObservationConfig = NANO.observation
    """Text that the model reads of a program's end."""
    calls: Annotated[CallConfig, tyro.conf.arg(name="")] = NANO.calls
    """Tools beside Python, and the spelling of calls."""
    rollout: RolloutConfig = NANO.eval.rollout
    """Limits and sampling of each attempt."""
    correction: SelfCorrectionConfig = NANO.eval.correction
    """Repair of failed calls in a single attempt."""

    def config(self) -> "AskConfig":
        """Model and limits as the application takes them. Raises UsageError for a model too large for the limits."""
        from thor_tir.app.ask import AskConfig
        from thor_tir.engines.openai_api.policy import ServedAs

        if self.model:
            limits = (self.rollout.max_completion_length, NANO.eval.rollout.max_completion_length)
            check_size(self.model, {"--rollout.max-completion-length": limits}, ConsoleReporter.of_errors().say)
        return AskConfig(
            model=self.model,
            served=ServedAs(model=self.model_name, tokenizer=self.model_tokenizer, key_variable=self.model_key),
            reasoning=self.reasoning,
            end_tokens=self.end_token,
            chat_template=self.chat_template,
            observation=self.observation,
            calls=self.calls,
            rollout=self.rollout,
            correction=self.correction,
            attempts=self.attempts,
            select=self.select,
            rewards=self.rewards,
        )


@dataclass(frozen=True, kw_only=True)
class Solve(AskOptions):
    """Answer one question with tools and self-correction, and show thoughts, programs and repairs as they happen.

    Exit status 0 with an answer, 3 without one. Into a pipe goes plain text.
    """

    question: tyro.conf.Positional[str] = ""
    """Question to be answered; `-` reads it from standard input, as a pipe without a question does."""
    file: Path | None = None
    """File that holds the question."""
    json: bool = False
    """Print one JSON object when all is done: answer, steps, repairs, candidates, cost."""

    def run(self) -> None:
        """Sample and print. Raises UsageError without a question."""
        with uncollected():
            from thor_tir.app.solve import solve, solve_silently

        question, config = self._question(), self.config()
        if self.json:
            found = solve_silently(question, config, seed=self.seed)
            print(json.dumps(found))
            is_answered = bool((found["answer"] or "").strip())
        else:
            is_answered = bool(solve(question, config, ConsoleReporter(), seed=self.seed).text)
        if not is_answered:
            sys.stdout.flush()
            raise SystemExit(NOT_ANSWERED)

    def _question(self) -> str:
        """The question without blank ends, so that a pipe and an argument ask the same."""
        return self._words().strip()

    def _words(self) -> str:
        if self.file is not None:
            if self.question:
                raise UsageError("a question and --file are two questions; give one of them")
            try:
                return self.file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"--file {self.file} cannot be read: {error}") from error
        if self.question not in ("", "-"):
            if os.path.isfile(self.question):
                raise UsageError(
                    f"{self.question} is a file; `thor solve --file {self.question}` asks what stands in it"
                )
            return self.question
        if not self.question and sys.stdin.isatty():
            raise UsageError('no question: give one as in thor solve "2 + 2?", with --file, or through a pipe')
        return sys.stdin.read()


@dataclass(frozen=True, kw_only=True)
class Chat(AskOptions):
    """Answer questions one after another, with a model that stays loaded; /help lists the commands.

    Each question is answered by itself, unless --remember. Ctrl-C ends an answer, Ctrl-D the chat.
    """

    remember: bool = False
    """Put the earlier questions and answers before each question: for models that were trained on conversations."""

    def run(self) -> None:
        """Read, answer, print."""
        from thor_tir.app.chat import chat

        is_terminal = sys.stdin.isatty()
        if is_terminal:
            import readline  # noqa: F401  (gives input() its keys and its history)
        read = _typed if is_terminal else _piped
        chat(self.config(), ConsoleReporter(), read, seed=self.seed, remembers=self.remember)


def _typed() -> str | None:
    """A line that is typed; Ctrl-C empties the line, Ctrl-D ends."""
    while True:
        try:
            return input("> ")
        except EOFError:
            print()
            return None
        except KeyboardInterrupt as stop:
            if type(stop) is not KeyboardInterrupt:  # SIGTERM
                raise
            print()


def _piped() -> str | None:
    """The next line of standard input."""
    return sys.stdin.readline() or None
