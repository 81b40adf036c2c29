"""The files of the page, and all of them as one text for a page that stands alone."""

import re
from importlib import resources

TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "txt": "text/plain"}
"""Content types by ending; files of other endings are not sent."""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of everything that is sent to a browser; the first lets a page load its own files and nothing else."""
KATEX = "vendor/katex/katex.min.js"
_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class) (\w+))", re.MULTILINE)


def asset(name: str) -> str | None:
    """A file of the page by its name below `page/`; None where there is none."""
    parts = name.split("/")
    if any(part.startswith(".") or not part for part in parts) or parts[-1].rpartition(".")[2] not in TYPES:
        return None
    found = resources.files("thor_tir.view").joinpath("page", *parts)
    return found.read_text(encoding="utf-8") if found.is_file() else None


def bundle() -> str:
    """The page's modules as one: each a function that returns what it exports, after those that it imports from."""
    parts: dict[str, str] = {}
    _add("main", parts)
    return "".join(parts.values())


def _add(name: str, parts: dict[str, str]) -> None:
    text = asset(f"{name}.js")
    assert text is not None, f"{name}.js is imported and not there"
    for found in _IMPORT.finditer(text):
        if found[2] not in parts:
            _add(found[2], parts)
    exports = [found[1] for found in _EXPORT.finditer(text)]
    body = _EXPORT.sub("", _IMPORT.sub(lambda found: f"const {{{found[1]}}} = ${found[2]};\n", text))
    parts[name] = f"const ${name} = await (async () => {{\n{body}return {{ {', '.join(exports)} }};\n}})();\n"
