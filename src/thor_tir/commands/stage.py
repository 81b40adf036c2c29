"""A stage of a quickstart that is made longer by itself: the options that the quickstart made it with."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from thor_tir.app.config import CallConfig
from thor_tir.app.stages.own_problems import TRAIN
from thor_tir.problems.columns import ANY_FIELDS
from thor_tir.problems.sources import is_generated
from thor_tir.sft.config import ChatConfig, ChatFields


def whole_run(folder: Path) -> Mapping[str, Any] | None:
    """The configuration of the quickstart whose stage a folder is; None where it is none, or has a run of its own."""
    config = folder.parent / "config.json"
    if not config.is_file() or not (folder / "checkpoints").is_dir():
        return None
    found: Mapping[str, Any] = json.loads(config.read_text(encoding="utf-8"))
    return found if {"actor", "num_rl", "sft", "rl", "eval"} <= found.keys() else None


def rl_options(folder: Path, *, model: str, problems: str, preset: str) -> Mapping[str, Any] | None:
    """The options of `thor rl` that made the stage; model and problems are spelled as given, where they are these."""
    if (whole := whole_run(folder)) is None:
        return None
    if not is_generated(whole["problems"]):
        whole = {
            **whole,
            "problems": _spelled(folder.parent / TRAIN, problems),
            "fields": asdict(ANY_FIELDS),
        }
    same = ("problems", "fields", "choice", "reasoning", "observation", "calls", "rl", "resources")
    return {
        **{name: whole[name] for name in same},
        "model": _spelled(folder.parent / "sft" / "model", model),
        "count": whole["num_rl"],
        "preset": preset,
        "processes": whole.get("num_processes", 1),
    }


def sft_options(folder: Path, *, data: str, preset: str) -> Mapping[str, Any] | None:
    """The options of `thor sft` that made the stage; `data` is the spelling of its data set, if it is that."""
    if (whole := whole_run(folder)) is None:
        return None
    return {
        "model": whole["actor"],
        "data": _spelled(folder.parent / "tirgen" / "dataset.jsonl", data),
        "fields": asdict(ChatFields()),
        "chats": asdict(ChatConfig()),
        "reasoning": whole["reasoning"],
        "calls": {**asdict(CallConfig()), "tool": []},
        "state": "program",
        "sft": {**whole["sft"], "save_dtype": "float32"},  # as the quickstart's RL goes on from it
        "end_token": [],
        "chat_template": "",
        "preset": preset,
        "processes": whole.get("num_processes", 1),
    }


def _spelled(place: Path, given: str) -> str:
    """A place as it was given, where it was given."""
    return given if Path(given).resolve() == place.resolve() else str(place)
