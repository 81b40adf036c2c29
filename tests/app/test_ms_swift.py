"""ms-swift reads the chats as they are and trains what they promise (needs `pip install ms-swift`).

In a process of its own, since it patches transformers and TRL.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from test_tirgen_export import ANSWER, PROGRAM, data_set
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from thor_tir.app.stages.tirgen_data import export_dataset
from tiny_models import tiny_tokenizer
from tirgen_samples import read_lines, write_lines

END = "<|im_end|>\n"
SCRIPT = """
import json, sys
from swift import SftArguments, get_processor, get_template, load_dataset, sft_main
model, rows, out = sys.argv[1:]
processor = get_processor(model, model_type="qwen2")
template = get_template(processor, template_type="qwen2_5")
template.set_mode("train")
table, _ = load_dataset(rows, load_from_cache_file=False)
row = template.encode(dict(table[0]))
learnt = [id for id, label in zip(row["input_ids"], row["labels"]) if label != -100]
trained = sft_main(SftArguments(
    model=model, model_type="qwen2", template="qwen2_5", dataset=[rows], tuner_type="full", torch_dtype="float32",
    max_steps=2, per_device_train_batch_size=2, gradient_accumulation_steps=1, learning_rate=1e-2, logging_steps=1,
    lr_scheduler_type="constant", warmup_ratio=0.0, max_length=2048, output_dir=out, gradient_checkpointing=False,
    report_to=[], save_strategy="no", load_from_cache_file=False, check_model=False, add_version=False,
))
losses = [entry["loss"] for entry in trained["log_history"] if "loss" in entry]
print("FOUND " + json.dumps({"learnt": processor.decode(learnt), "losses": losses}))
"""


def chatml_model(folder: Path) -> Path:
    """A random Qwen2 with the control tokens of ms-swift's own template."""
    tiny_tokenizer().save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    controls = ["<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": controls, "eos_token": "<|im_end|>"})
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=2048, **shape)
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.reference
@pytest.mark.slow
@pytest.mark.skipif(find_spec("swift") is None, reason="ms-swift is not installed; pip install ms-swift to try it")
@pytest.mark.parametrize(
    ("form", "learnt"),
    [
        ("messages", f"{PROGRAM}```output\n77\n```\n{ANSWER}{END}"),  # the whole answer, output included
        ("turns", f"{PROGRAM}{END}{ANSWER}{END}"),  # the assistant's turns
    ],
)
def test_ms_swift_trains_two_steps_on_the_assistants_turns_and_nothing_else(tmp_path: Path, form, learnt):
    (path,) = export_dataset(data_set(tmp_path), tmp_path, [form], model="nano/actor")
    write_lines(path, [row for row in read_lines(path) for _ in range(4)])
    command = [sys.executable, "-c", SCRIPT, chatml_model(tmp_path / "model"), path, tmp_path / "out"]
    offline = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | offline, check=False)
    told = [line for line in ended.stdout.splitlines() if line.startswith("FOUND ")]
    assert told, ended.stderr[-2000:]
    found = json.loads(told[0].removeprefix("FOUND "))
    assert found["learnt"] == learnt
    first, second = map(float, found["losses"])
    assert second < first  # the same row, again
