"""Models that give a response a number: the interface, and sequence classifiers that transformers loads.

Higher is better; numbers of one model compare with each other and with nothing else.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from thor_tir.engines.loading import silent_transformers
from thor_tir.errors import UsageError
from thor_tir.pretrained import Tokenizer

REWARD_FILE = "reward.json"
"""Figures of a reward model that `thor reward train` made, and the problems that it was trained on."""
MAX_BATCH_TOKENS = 8192
"""Tokens of one forward call, padding included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response that is to be judged."""

    question: str
    """Text of the question."""
    steps: tuple[str, ...]
    """Text of each step: thought, program and output."""
    prompt_ids: tuple[int, ...] = ()
    """Tokens of the prompt, in the policy's vocabulary."""
    step_ids: tuple[tuple[int, ...], ...] = ()
    """Tokens of each step, in the policy's vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewards:
    """Numbers that a model gave to one response."""

    numbers: tuple[float, ...]
    """One for the whole response, or one for each step; empty where the model gave none that can be used."""
    tokens: int
    """Tokens that the model read."""


class RewardModel(Protocol):
    """A model that judges responses."""

    async def rewards(self, responses: Sequence[Response], *, is_process: bool) -> list[Rewards]:
        """Judge each response as a whole, or each of its steps. Raises EngineFault and RequestFault."""
        ...


class LocalRewardModel:
    """A sequence classifier in this process: a folder of `thor reward train`, or any other that transformers loads.

    A response in the classifier's own vocabulary is judged token by token as it was sampled; another one as a
    conversation in the classifier's chat template. A step is judged by the response up to its end.
    """

    def __init__(self, model: Any, tokenizer: Any, policy_tokenizer: Tokenizer | None) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._has_ids = policy_tokenizer is not None and vocabulary(policy_tokenizer) == vocabulary(tokenizer)
        self._turn = asyncio.Lock()
        self._longest = int(getattr(model.config, "max_position_embeddings", 0) or 2**31)

    async def rewards(self, responses: Sequence[Response], *, is_process: bool) -> list[Rewards]:
        """See `RewardModel`. A response that is longer than the classifier's context gets no number."""
        rows = [self._rows(response, is_process=is_process) for response in responses]
        flat = [row for of_one in rows for row in of_one if len(row) <= self._longest]
        async with self._turn:  # one after another: forward calls at once would share memory and gain nothing
            given = iter(await asyncio.to_thread(scores, self._model, flat))
        found = []
        for of_one in rows:
            fits = [len(row) <= self._longest for row in of_one]
            numbers = [next(given) for fit in fits if fit]
            found.append(Rewards(numbers=tuple(numbers) if all(fits) else (), tokens=sum(map(len, of_one))))
        return found

    def _rows(self, response: Response, *, is_process: bool) -> list[list[int]]:
        """Tokens of the whole response, or of the response up to the end of each step."""
        num = len(response.steps)
        return [self._row(response, end) for end in (range(1, num + 1) if is_process and num else [num])]

    def _row(self, response: Response, end: int) -> list[int]:
        if self._has_ids and response.prompt_ids:
            return [*response.prompt_ids, *(i for step in response.step_ids[:end] for i in step)]
        text = "".join(response.steps[:end])
        if self._tokenizer.chat_template is None:
            return list(self._tokenizer(f"{response.question}\n{text}")["input_ids"])
        turns = [{"role": "user", "content": response.question}, {"role": "assistant", "content": text}]
        written = self._tokenizer.apply_chat_template(turns, tokenize=False)
        return list(self._tokenizer(written, add_special_tokens=False)["input_ids"])


def vocabulary(tokenizer: Tokenizer) -> dict[str, int]:
    """All tokens and their ids; empty where a tokenizer has no vocabulary of its own."""
    return dict(tokenizer.get_vocab()) if hasattr(tokenizer, "get_vocab") else {}


def scores(model: Any, rows: Sequence[Sequence[int]]) -> list[float]:
    """The logit of each row, or of several classes the probability of the last one; like lengths share a batch."""
    import torch

    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    found = [0.0] * len(rows)
    with torch.no_grad():
        for batch in batches([rows[place] for place in order], MAX_BATCH_TOKENS):
            inputs = padded([rows[order[i]] for i in batch], model.config.pad_token_id)
            logits_BC = model(**{name: value.to(model.device) for name, value in inputs.items()}).logits.float()
            one = logits_BC[:, 0] if logits_BC.shape[1] == 1 else logits_BC.softmax(dim=1)[:, -1]
            for place, value in zip(batch, one.tolist(), strict=True):
                found[order[place]] = value
    return found


def batches(rows: Sequence[Sequence[int]], most_tokens: int) -> list[range]:
    """Places of neighbouring rows that fit into one batch with their padding; at least one each."""
    found, start = [], 0
    for end in range(1, len(rows) + 1):
        is_full = end < len(rows) and (end + 1 - start) * max(map(len, rows[start : end + 1])) > most_tokens
        if is_full or end == len(rows):
            found.append(range(start, end))
            start = end
    return found


def padded(rows: Sequence[Sequence[int]], pad: int | None) -> dict[str, Any]:
    """Rows as a classifier takes them, padded on the right."""
    import torch

    longest = max(map(len, rows))
    ids_BT = torch.full((len(rows), longest), pad or 0)
    mask_BT = torch.zeros_like(ids_BT)
    for place, row in enumerate(rows):
        ids_BT[place, : len(row)] = torch.tensor(row)
        mask_BT[place, : len(row)] = 1
    return {"input_ids": ids_BT, "attention_mask": mask_BT}


def reward_folder(place: str) -> Path:
    """The folder of a classifier's files. Raises UsageError where there are none."""
    folder = Path(place).expanduser()
    folder = folder / "model" if (folder / REWARD_FILE).is_file() else folder
    if not (folder / "config.json").is_file():
        raise UsageError(f"there is no reward model in {place}; give a folder of `thor reward train`, or an address")
    return folder


def load_reward_model(place: str, policy_tokenizer: Tokenizer | None) -> LocalRewardModel:
    """The classifier in a folder. Raises UsageError for what is none."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = reward_folder(place)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        with silent_transformers():
            model, found = AutoModelForSequenceClassification.from_pretrained(
                folder, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
    except Exception as error:  # the files are foreign, and each may be damaged in its own way
        reason = str(error).strip().split("\n")[0][:300] or type(error).__name__
        raise UsageError(f"{place} is no sequence classifier: {reason}") from error
    if found["missing_keys"]:
        raise UsageError(
            f"{place} has no head that scores ({', '.join(sorted(found['missing_keys']))[:200]} would be drawn at "
            "random); `thor reward train` makes one"
        )
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    return LocalRewardModel(model.eval(), tokenizer, policy_tokenizer)
