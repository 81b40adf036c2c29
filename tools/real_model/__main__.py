"""Make the critic of the small real model: `python -m real_model`, in `tools`. Continues where it was stopped.

The model writes answers to training questions without tools; each paragraph of them is an isolated step, for which
rules write the program (`labels.py`); on these, and on what the embedded critic was pretrained on, the same model is
fine-tuned. Sampling and training are commands of THOR.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from real_model.critic_corpus import write_corpus, write_questions

TRAINING = "--ask-as data --num-train-epochs 1 --learning-rate 2e-4"


@dataclass(frozen=True, kw_only=True)
class MakeCritic:
    """Fine-tune the small real model into a critic that rewrites its steps as programs."""

    model: str = "models/smollm2-135m"
    """Model that is fine-tuned, and whose steps are rewritten."""
    output: Path = Path("models/smollm2-135m-critic")
    """Folder of the critic."""
    work: Path = Path("runs/critic")
    """Folder of what is made on the way."""
    questions: int = 160
    """Training questions on which the model writes its steps."""
    samples: int = 640
    """Steps of the corpus."""
    seed: int = 77
    """Seed of the questions."""

    def run(self) -> None:
        """Sample, write the corpus, train."""
        if self.output.exists():
            sys.stdout.write(f"critic: {self.output} is there\n")
            return
        questions, corpus = self.work / "questions.jsonl", self.work / "corpus.jsonl"
        if not corpus.exists():
            write_questions(questions, self.questions, self.seed)
            asked = f"--problems {questions} --samples 1 --no-tools --rollout.max-completion-length 160"
            _thor(f"eval --preset smollm2-135m --model {self.model} {asked} --output {self.work / 'words'}")
            write_corpus(corpus, self.work / "words" / "attempts" / "questions.jsonl", count=self.samples, seed=0)
        trained = f"sft --preset smollm2-135m --model {self.model} --data {corpus} {TRAINING}"
        _thor(f"{trained} --output {self.work / 'sft'}")
        (self.work / "sft" / "model").rename(self.output)
        sys.stdout.write(f"critic: {self.output}\n")


def _thor(words: str) -> None:
    sys.stdout.write(f"thor {words}\n")
    sys.stdout.flush()
    subprocess.run([sys.executable, "-m", "thor_tir", *words.split()], check=True)


if __name__ == "__main__":
    tyro.cli(MakeCritic).run()
