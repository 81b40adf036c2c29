"""Commands for one question, one stored trajectory, one machine."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from thor_tir.app.config import EndTokens, EvalConfig
from thor_tir.commands.options import NANO, PresetOption, check_size
from thor_tir.console import ConsoleReporter
from thor_tir.dialect.observation import ObservationConfig
from thor_tir.inference.best_of_n import USABLE
from thor_tir.inference.self_correction import SelfCorrectionConfig
from thor_tir.rollout.loop import RolloutConfig

SELECTOR_NAMES = f"{{{','.join(USABLE)},FILE.py:FUNCTION}}"
"""The selectors as help shows them."""


@dataclass(frozen=True, kw_only=True)
class Solve:
    """Answer one question with tools and self-correction, and show the whole transcript."""

    question: tyro.conf.Positional[str]
    """Question to be answered."""
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
    seed: int = 0
    """Seed of the attempts and of ties among them."""
    preset: PresetOption = "nano"
    """Name of the values that the options begin from."""
    observation: ObservationConfig = NANO.observation
    """Text that the model reads of a program's end."""
    rollout: RolloutConfig = NANO.eval.rollout
    """Limits and sampling of each attempt."""
    correction: SelfCorrectionConfig = NANO.eval.correction
    """Repair of failed calls in a single attempt."""

    def run(self) -> None:
        """Sample and print."""
        from thor_tir.app.solve import Question, solve
        from thor_tir.engines.openai_api.policy import ServedAs

        served = ServedAs(model=self.model_name, tokenizer=self.model_tokenizer, key_variable=self.model_key)
        task = Question(
            text=self.question,
            model=self.model,
            served=served,
            reasoning=self.reasoning,
            end_tokens=self.end_token,
            chat_template=self.chat_template,
            observation=self.observation,
            attempts=self.attempts,
            select=self.select,
            seed=self.seed,
        )
        config = EvalConfig(rollout=self.rollout, correction=self.correction)
        reporter = ConsoleReporter()
        if self.model:
            limits = (self.rollout.max_completion_length, NANO.eval.rollout.max_completion_length)
            check_size(self.model, {"--rollout.max-completion-length": limits}, reporter.say)
        solve(task, config, reporter)


@dataclass(frozen=True, kw_only=True)
class Show:
    """Look at stored trajectories of a run. `thor view RUN --export FILE.html` writes its page again."""

    folder: tyro.conf.Positional[Path]
    """Folder of a run or of an evaluation."""
    id: tyro.conf.Positional[str] = ""
    """A trajectory's id, or the beginning of one; without it the known ids are listed."""

    def run(self) -> None:
        """Print one transcript, or a list."""
        from thor_tir.app.solve import show

        show(self.folder, self.id, ConsoleReporter())


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Facts about this machine: cores, torch, sandbox layers, embedded models. Exit status 0 if THOR can run."""

    def run(self) -> None:
        """Look and print, one line a finding. Raises MachineFault where programs cannot be run at all."""
        from thor_tir.errors import MachineFault
        from thor_tir.provenance import machine, versions
        from thor_tir.sandbox.local.probe import probe

        say = ConsoleReporter().say
        say(f"machine: {machine()}")
        say("versions: " + ", ".join(f"{name} {found}" for name, found in versions().items()))
        threads, waits = (os.environ.get(name, "not set") for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"))
        say(f"threads: OMP_NUM_THREADS={threads}, OMP_WAIT_POLICY={waits}")
        for name in ("nano/actor", "nano/critic"):
            say(f"{name}: {_how_it_loads(name)}")
        finding = probe()
        for layer in finding.layers:
            say(f"sandbox {layer.name}: {'yes' if layer.is_available else 'NO'} - {layer.detail}")
        for reason in finding.missing:
            say(f"sandbox, why not more: {reason}")
        say(f"sandbox level: {finding.level or 'none'}")
        if not finding.level:
            raise MachineFault(f"programs cannot be confined here: {'; '.join(finding.missing)}")
        say("THOR can run here.")


def _how_it_loads(name: str) -> str:
    from thor_tir.engines.loading import load_model
    from thor_tir.errors import UsageError

    try:
        model, _ = load_model(name)
    except UsageError as error:
        return f"NO - {error}"
    return f"loads, {model.num_parameters():,} parameters"
