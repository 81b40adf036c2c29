"""The cold start as a stage: what it is given, whatever tokens the data set is in."""

import json
from io import StringIO
from pathlib import Path

from rich.console import Console
from test_tirgen_export import data_set, generated, row_of

from thor_tir.app.stages.sft import fine_tune
from thor_tir.console import ConsoleReporter
from thor_tir.engines.openai_api.text_codec import TextTokenizer
from thor_tir.sft.config import SftConfig
from tirgen_samples import write_lines


def losses(folder: Path, dataset: Path) -> tuple[list[float], str]:
    said = StringIO()
    config = SftConfig(num_train_epochs=2, train_batch_size=1, learning_rate=1e-3)
    fine_tune("nano/actor", dataset, config, folder, ConsoleReporter(Console(file=said, width=200)))
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines], said.getvalue()


def test_a_data_set_of_an_actor_that_was_reached_by_text_alone_trains_as_one_in_other_tokens_does(tmp_path: Path):
    text = write_lines(tmp_path / "text.jsonl", [row_of(generated(TextTokenizer()))])
    by_text, said = losses(tmp_path / "text", text)
    by_tokens, _ = losses(tmp_path / "tokens", data_set(tmp_path))
    assert "1 of 1 samples are not in nano/actor's own tokens: their text is encoded anew" in said
    assert by_text == by_tokens
    assert by_text[1] < by_text[0]
