"""A stand-in of the Hugging Face hub: what its client asks for when a repository is made, filled and read again."""

import hashlib
import json
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40
TOKEN = "hf_standin"


class Hub(ThreadingHTTPServer):
    """Repositories in memory."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.private: dict[str, bool] = {}
        """Repositories, as `models/owner/name`."""
        self.files: dict[str, dict[str, bytes]] = {}
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.failures: list[int] = []
        """Status codes with which the next commits fail."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _answer(self, body: bytes | dict[str, Any], status: int = 200, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _handle(self) -> None:
        body, path = self._body(), unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        if path.startswith("/lfs/"):
            assert hashlib.sha256(body).hexdigest() == path.rsplit("/", 1)[1]
            self.server.objects[path.rsplit("/", 1)[1]] = body
            return self._answer({})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and path != "/api/agent-harnesses":
            return self._answer({"error": "Invalid username or password."}, 401)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.startswith("/api/") and path.split("/")[2] in ("models", "datasets"):
            return self._repo(path.split("/", 2)[2], body)
        if path.endswith("/info/lfs/objects/batch"):
            wanted = json.loads(body)["objects"]
            actions = [{"upload": {"href": f"{self.server.url}/lfs/{o['oid']}"}} for o in wanted]
            new = [{**o, "actions": a} for o, a in zip(wanted, actions, strict=True)]
            return self._answer({"transfer": "basic", "objects": new})
        if "/resolve/" in path:
            return self._file(path)
        return self._answer({})

    do_GET = do_HEAD = do_POST = do_PUT = _handle

    def _create(self, asked: dict[str, Any]) -> None:
        kind = f"{asked.get('type') or 'model'}s"
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        place = "" if kind == "models" else f"{kind}/"
        url = {"url": f"{self.server.url}/{place}{name}", "name": name, "id": name}
        if f"{kind}/{name}" in self.server.private:
            return self._answer({**url, "error": "You already created this repo"}, 409)
        self.server.private[f"{kind}/{name}"] = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.server.files[f"{kind}/{name}"] = {}
        return self._answer(url)

    def _repo(self, path: str, body: bytes) -> None:
        kind, owner, name, *rest = path.split("/")
        repo = f"{kind}/{owner}/{name}"
        if repo not in self.server.private:
            return self._answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        if rest[:1] == ["preupload"]:
            modes = {f["path"]: "lfs" if f["path"].endswith((".safetensors", ".parquet", ".png")) else "regular"
                     for f in json.loads(body)["files"]}  # fmt: skip
            files = [{"path": p, "uploadMode": mode, "shouldIgnore": False} for p, mode in modes.items()]
            return self._answer({"files": files})
        if rest[:1] == ["commit"]:
            if self.server.failures:
                return self._answer({"error": "it broke"}, self.server.failures.pop(0))
            for line in body.splitlines():
                value = json.loads(line)["value"]
                if "oid" in value:
                    self.server.files[repo][value["path"]] = self.server.objects[value["oid"]]
                elif "content" in value:
                    self.server.files[repo][value["path"]] = b64decode(value["content"])
            url = f"{self.server.url}/{owner}/{name}/commit/{COMMIT}"
            return self._answer({"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})
        siblings = [{"rfilename": p} for p in self.server.files[repo]]
        info = {"id": f"{owner}/{name}", "private": self.server.private[repo], "sha": COMMIT, "siblings": siblings}
        tree = [
            {"type": "file", "path": p, "size": len(d), "oid": "0" * 40} for p, d in self.server.files[repo].items()
        ]
        if rest[:1] == ["tree"]:
            return self._answer(json.dumps(tree).encode())
        return self._answer({**info, "tags": [], "downloads": 0, "likes": 0})

    def _file(self, path: str) -> None:
        repo, _, rest = path.strip("/").partition("/resolve/")
        name = rest.split("/", 1)[1]
        repo = repo if repo.startswith("datasets/") else f"models/{repo}"
        data = self.server.files.get(repo, {}).get(name)
        if data is None:
            return self._answer({"error": "no such file"}, 404, X_Error_Code="EntryNotFound")
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        return self._answer(data, X_Repo_Commit=COMMIT, ETag=etag, X_Linked_Size=str(len(data)))
