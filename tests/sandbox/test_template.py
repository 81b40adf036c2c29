"""The clean-up after programs: the one place where a planted link could make this package delete the user's files."""

from pathlib import Path

import pytest

from thor_tir.sandbox.template import empty_folder, remove_tree


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("text")
    return tmp_path / "precious" / "file"


def test_links_inside_the_folder_are_removed_and_what_they_point_to_is_not(tmp_path: Path, precious: Path) -> None:
    top = tmp_path / "home"
    (top / "a" / "b").mkdir(parents=True)
    for name in ("link", "a/link", "a/b/link"):
        (top / name).symlink_to(precious.parent)
    empty_folder(str(top))
    assert list(top.iterdir()) == []
    assert precious.read_text() == "text"


def test_a_folder_that_was_replaced_by_a_link_is_not_emptied(tmp_path: Path, precious: Path) -> None:
    (tmp_path / "work").symlink_to(precious.parent)
    with pytest.raises(NotADirectoryError, match="replaced its own folder"):
        empty_folder(str(tmp_path / "work"))
    remove_tree(str(tmp_path / "work"))
    assert not (tmp_path / "work").is_symlink()
    assert precious.read_text() == "text"


def test_folders_without_any_permission_are_removed(tmp_path: Path) -> None:
    inner = tmp_path / "home" / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    for folder in (inner, inner.parent, inner.parent.parent):
        folder.chmod(0)
    remove_tree(str(tmp_path / "home"))
    assert list(tmp_path.iterdir()) == []
