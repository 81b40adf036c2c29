"""Make actor and critic of the small real model: `python -m real_model`, in `tools`. Continues where it was stopped.

The model answers training questions without tools. From these answers come two corpora: the answers themselves with
their values in boxes (`form.py`), which make the actor, and their paragraphs as isolated steps with the programs that
rules write (`labels.py`), which make the critic. Sampling and training are commands of THOR.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from real_model.critic_corpus import write_corpus, write_questions
from real_model.form import write_form
from thor_tir.products import multiplies_halves
from thor_tir.reproduce.precision import IN_FLOAT32

PRESET = "--preset smollm2-135m"
ASKED = "--samples 1 --no-tools --rollout.max-completion-length 224"
TRAINED = "--ask-as data"
FORM = "--num-train-epochs 6 --train-batch-size 8 --learning-rate 1e-4"
REWRITING = "--num-train-epochs 1 --learning-rate 2e-4"


@dataclass(frozen=True, kw_only=True)
class MakeModels:
    """Fine-tune the small real model into an actor that boxes its answers and a critic that writes programs."""

    model: str = "models/smollm2-135m"
    """Model that is fine-tuned, and whose steps are rewritten."""
    actor: Path = Path("models/smollm2-135m-boxed")
    """Folder of the actor."""
    critic: Path = Path("models/smollm2-135m-critic")
    """Folder of the critic."""
    work: Path = Path("runs/actor-and-critic")
    """Folder of what is made on the way."""
    questions: int = 160
    """Training questions on which the model writes its steps."""
    samples: int = 640
    """Steps of the critic's corpus."""
    seed: int = 77
    """Seed of the questions."""

    def run(self) -> None:
        """Sample, write both corpora, train both."""
        if not self.actor.exists() or not self.critic.exists():
            self._sample()
        self._train("form", FORM, self.actor)
        self._train("corpus", REWRITING, self.critic)

    def _sample(self) -> None:
        questions, words = self.work / "questions.jsonl", self.work / "words"
        if not questions.exists():
            write_questions(questions, self.questions, self.seed)
        asked = f"{PRESET} --model {self.model} --problems {questions} {ASKED}"
        _thor("eval", asked, f"--output {words}")
        if not (corpus := self.work / "corpus.jsonl").exists():
            write_corpus(corpus, words / "attempts" / "questions.jsonl", count=self.samples, seed=0)
        if not (form := self.work / "form.jsonl").exists():
            sys.stdout.write(f"{write_form(form, words)} answers with a box\n")

    def _train(self, name: str, options: str, place: Path) -> None:
        if not place.exists():
            data, output = self.work / f"{name}.jsonl", self.work / name
            trained = f"{PRESET} --model {self.model} --data {data} {TRAINED} {options}"
            _thor("sft", trained, f"--output {output}")
            place.parent.mkdir(parents=True, exist_ok=True)
            (output / "model").rename(place)
        sys.stdout.write(f"{place}\n")


def _thor(command: str, *options: str) -> None:
    precision = () if multiplies_halves() else (IN_FLOAT32[command],)
    words = " ".join((command, *options, *precision))
    sys.stdout.write(f"thor {words}\n")
    sys.stdout.flush()
    subprocess.run([sys.executable, "-m", "thor_tir", *words.split()], check=True)


if __name__ == "__main__":
    tyro.cli(MakeModels).run()
