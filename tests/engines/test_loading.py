import contextlib
import io
import json
from importlib import import_module
from typing import get_args

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from thor_tir.engines import loading
from thor_tir.engines.loading import load_model
from thor_tir.engines.options import ENGINES, EngineName
from thor_tir.errors import UsageError
from tiny_models import tiny_model, tiny_tokenizer


def test_a_saved_model_comes_back_with_the_same_logits_in_the_asked_precision(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    loaded, tokenizer = load_model(str(tmp_path), device="cpu")
    ids = torch.tensor([tokenizer.encode("What is the sum?")])
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert not loaded.training
    assert load_model(str(tmp_path), device="cpu", dtype=torch.bfloat16)[0].dtype is torch.bfloat16


def test_a_path_that_does_not_exist_is_named():
    with pytest.raises(UsageError, match="there is no model at '/no/such/folder'"):
        load_model("/no/such/folder")


def test_a_file_an_empty_folder_and_a_mistyped_address_are_no_models(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name in "file", "empty":
        with pytest.raises(UsageError, match="is no folder with a model in it: give a folder, or a hub name"):
            load_model(str(tmp_path / name))
    with pytest.raises(UsageError, match=r"'http:/10.0.0.5' is no model's name: .* or an address like http://"):
        load_model("http:/10.0.0.5")


def test_a_hub_name_that_cannot_be_reached_is_named(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="there is no folder 'nobody/nothing', and as a name on the hub"):
        load_model("nobody/nothing")


def test_a_folder_with_a_tokenizer_and_no_model_is_refused(tmp_path):
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="is no causal language model"):
        load_model(str(tmp_path))


def test_a_folder_with_a_model_and_no_tokenizer_is_refused(tmp_path):
    tiny_model().save_pretrained(tmp_path / "model")
    (tmp_path / "model/chat_template.jinja").write_text("{{ messages[0].content }}", "utf-8")
    with pytest.raises(UsageError, match="has no tokenizer files"):
        load_model(str(tmp_path / "model"))
    with pytest.raises(UsageError, match=r"is the folder of a run: its model is .*model"):
        load_model(str(tmp_path))


def test_a_tokenizer_without_chat_template_is_refused(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(UsageError, match="has no chat template: give"):
        load_model(str(tmp_path))


def test_an_embedded_model_that_is_missing_is_said_to_be_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(loading.EMBEDDED, "nano/actor", tmp_path / "nowhere")
    with pytest.raises(UsageError, match="install the package again"):
        load_model("nano/actor")


def test_every_engine_of_the_table_has_a_function_that_opens_it() -> None:
    assert set(ENGINES) == set(get_args(EngineName))
    assert [name for name, place in ENGINES.items() if not callable(import_module(place).open_engine)] == []


def test_no_code_of_a_model_folder_is_run_whatever_stands_in_standard_input(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 100))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\nclass OwnConfig: pass\n")
    own = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own", "AutoTokenizer": ["own.Own", None]}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": own}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"auto_map": own}))
    with pytest.raises(UsageError, match=str(tmp_path)):
        load_model(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_a_pickle_are_refused_in_one_sentence(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"its weights are a pickle \(.bin\), which could run code of its own"):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", b"no weights"),
        ("model.safetensors", b"\xff" * 64),
        ("config.json", b"{"),
        ("config.json", b'{"model_type": "qwen3", "hidden_size": "wide"}'),
        ("config.json", b'{"model_type": "qwen3", "hidden_size": 8}'),  # of another shape than the weights
        ("config.json", b"[]"),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"[1"),
        ("tokenizer_config.json", b'"x"'),
        ("chat_template.jinja", b"{{ messages.__class__ }}"),
        ("chat_template.jinja", b"{% for i in range(10 ** 9) %}x{% endfor %}"),
        ("chat_template.jinja", b"{% for %}"),
    ],
)
def test_a_damaged_or_hostile_file_of_a_model_is_one_sentence(tmp_path, file, content):
    tiny_model().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UsageError) as fault:
        load_model(str(tmp_path))
    assert "\n" not in str(fault.value)


def tied_or_not(*, is_tied):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tiny_tokenizer()), tie_word_embeddings=is_tied, **sizes))


@pytest.mark.parametrize("lost", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight", "lm_head.weight"])
def test_weights_that_are_not_in_the_files_are_named_and_not_drawn_at_random(tmp_path, lost, capfd):
    from safetensors.torch import load_file, save_file

    model = tied_or_not(is_tied=False)
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights[lost]
    save_file(
        {**weights, "evil\x1b]0;x\x07": torch.zeros(1)}, tmp_path / "model.safetensors", metadata={"format": "pt"}
    )
    with pytest.raises(UsageError, match=f"lacks 1 weights of its own architecture.*{lost}"):
        load_model(str(tmp_path))
    assert "\x1b" not in "".join(capfd.readouterr())


def test_tied_weights_that_the_files_leave_out_are_no_lost_weights(tmp_path):
    model = tied_or_not(is_tied=True)
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    load_model(str(tmp_path))


@pytest.mark.parametrize(
    "damage",
    [
        {"num_attention_heads": 0},
        {"rope_scaling": {"rope_type": "zork"}, "rope_parameters": {"rope_type": "zork"}},
        {"dtype": "float99"},
        {"model_type": "nothing-known"},
        {"hidden_size": "many"},
    ],
)
def test_a_damaged_configuration_is_a_sentence_wherever_it_is_read(tmp_path, damage):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    for read in (load_model, loading.num_parameters):
        with pytest.raises(UsageError, match=r"is no causal language model|has no tokenizer that loads|lacks"):
            read(str(tmp_path))
    with contextlib.suppress(UsageError):
        loading.stored_dtype(str(tmp_path))
