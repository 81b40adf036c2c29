"""A Python environment of a test's own, whose packages lie in another folder."""

import sys
from pathlib import Path


def environment_that_borrows(folder: Path, **modules: str) -> Path:
    """A virtual environment whose packages lie in another one, found through a .pth file; returns its interpreter.

    `modules` are the sources of further packages there, by name.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own, lent, project = (folder / "own", folder / "lender/lib" / version / "site-packages", folder / "project/src")
    for each in (own / "bin", own / "lib" / version / "site-packages", lent, project):
        each.mkdir(parents=True)
    for name, source in {"lent": "NAME = 'lent'", **modules}.items():
        (lent / f"{name}.py").write_text(source)
    (project / "private.py").write_text("NAME = 'private'")
    (own / "lib" / version / "site-packages" / "borrows.pth").write_text(f"{lent}\n{project}\n")
    home = Path(sys.base_prefix) / "bin"
    (own / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    (own / "bin/python").symlink_to(home / version)
    return own / "bin/python"
