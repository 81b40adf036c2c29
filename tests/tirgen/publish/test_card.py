"""The data-set card: numbers that were counted by hand, and pages that no sample can break out of."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from thor_tir.app.stages.tirgen_data import filter_raw
from thor_tir.errors import UsageError
from thor_tir.tirgen.publish.card import card_facts, write_card
from thor_tir.tirgen.selection import FilterConfig
from tirgen_samples import WRONG, candidate, raw_row, without_calls, write_lines

pytest.importorskip("matplotlib", reason="matplotlib is not installed; it comes with the extra report")

CODE = "print(1 + 1)"
HOSTILE = "</pre><script>alert(1)</script> | ~~~~ \ud800"


def data_set(folder: Path) -> Path:
    """Two samples of one call, one of two, one of five; and raw attempts that were wrong or made no call."""
    chosen = [candidate(question="a"), candidate(question="b"), candidate(CODE, CODE, question="c")]
    chosen += [candidate(*[CODE] * 5, question="d", answer=f"So {HOSTILE} \\boxed{{77}}.")]
    others = [candidate(question="e", verdict=WRONG), replace(without_calls(), question="f")]
    rows = [raw_row(sample) for sample in chosen]
    rows += [raw_row(others[0], critic={"failed: runtime": 3})]
    rows += [raw_row(replace(others[1], trajectory=replace(others[1].trajectory, id="f/0", problem_id="f")))]
    write_lines(folder / "raw.jsonl", rows)
    (folder / "provenance.json").write_text(json.dumps({"abc": {"actor": "nano/actor", "note": HOSTILE}}))
    return filter_raw([folder], FilterConfig(max_share=1), folder).parent


def test_the_facts_are_what_counting_gives(tmp_path: Path):
    facts = card_facts(data_set(tmp_path))
    assert facts.num_samples == 4
    assert facts.calls == {"1": 2, "2": 1, "3": 0, "4+": 1}
    assert facts.raw_calls == {"0": 1, "1": 3, "2": 1, "3": 0, "4+": 1}
    assert facts.raw_code_ratio == pytest.approx(5 / 6)
    # each call is three tokens (thought, program, output) and the answer one more
    assert sorted(facts.tokens) == [4, 4, 7, 16]
    assert facts.parts == {"thought": 9 + 4, "code": 9, "output": 9}
    assert (facts.quantile(0), facts.quantile(0.5), facts.quantile(1)) == (4, 7, 16)
    assert facts.sources == {"made/a": 1, "made/b": 1, "made/c": 1, "made/d": 1}
    assert facts.strata == {("1", 3): 2, ("2", 3): 1, ("4+", 3): 1}
    assert facts.fates == {"rewritten": 9, "failed: runtime": 3}
    assert [stage["kept"] for stage in facts.stages][:3] == [6, 5, 4]


def test_the_card_shows_numbers_and_figures_and_names_its_table_for_the_hub(tmp_path: Path):
    page = write_card(data_set(tmp_path), tmp_path / "out", title="A | title", licence="apache-2.0")
    readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    head = readme.split("---\n")[1]
    assert 'pretty_name: "A | title"\nlicense: apache-2.0\n' in head
    assert "size_categories:\n- n<1K\n" in head
    assert "path: data/train.parquet" in head
    assert "| samples | 2 | 1 | 0 | 1 |" in readme
    assert "| calls | 4 | 80.0 % | no call 1 |" in readme
    assert "| code ratio: attempts with a call, raw and chosen | 83.3 %, 100.0 % |" in readme
    figures = sorted(path.name for path in (tmp_path / "out" / "figures").iterdir())
    assert figures == ["calls.png", "fates.png", "funnel.png", "lengths.png", "sources.png"]
    for name in figures:
        assert f"](figures/{name})" in readme
        assert (tmp_path / "out" / "figures" / name).read_bytes().startswith(b"\x89PNG")
    assert page.read_text(encoding="utf-8").count("data:image/png;base64,") == 5


def test_text_of_models_stays_text_on_the_page(tmp_path: Path):
    text = write_card(data_set(tmp_path), tmp_path, title=HOSTILE).read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "default-src 'none'" in text


def test_a_folder_without_a_filtered_data_set_is_a_mistake(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no funnel\.json at .*; `thor tirgen filter` writes it"):
        card_facts(tmp_path)
    (tmp_path / "funnel.json").write_text('{"stages": [{"name": "answer"}]}')
    with pytest.raises(UsageError, match="is no account of TIRGen's filter: 'kept'"):
        card_facts(tmp_path)
    data_set(tmp_path)
    write_lines(tmp_path / "dataset.jsonl", [])
    with pytest.raises(UsageError, match=r"holds no samples; funnel\.json tells"):
        card_facts(tmp_path)
