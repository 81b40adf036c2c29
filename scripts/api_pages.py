"""Pages of every module from its docstrings, by pdoc: python scripts/api_pages.py [FOLDER] (by default build/api)."""

import sys
from pathlib import Path
from pkgutil import walk_packages

import pdoc
import pdoc.render

import thor_tir

LEFT_OUT = ("thor_tir.__main__", "thor_tir.engines.vllm.in_server", "thor_tir.sandbox.jail")
"""Modules that run when they are imported, or need what only a server of vLLM or a jail has."""


def modules() -> list[str]:
    """The package and all that can be imported in it."""
    found = (module.name for module in walk_packages(thor_tir.__path__, "thor_tir."))
    return ["thor_tir", *(name for name in found if not name.startswith(LEFT_OUT))]


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/api")
    pdoc.render.configure(show_source=False)
    pdoc.pdoc(*modules(), output_directory=folder)
    print(f"pages: {folder / 'index.html'}")
