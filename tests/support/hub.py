"""A hub of one process: what huggingface_hub asks for to make, fill and read a repository."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

__all__ = ["fake_hub"]


class _Hub(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.unknown: list[str] = []


class _Answer(BaseHTTPRequestHandler):
    server: _Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def _reply(self, body: object, status: int = 200, **headers: str) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(raw)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def _missing(self) -> None:
        self.server.unknown.append(f"{self.command} {self.path}")
        self._reply({"error": "not found"}, 404, X_Error_Code="RepoNotFound")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_POST(self) -> None:
        path, body = urlsplit(self.path).path.strip("/").split("/"), self._body()
        if path == ["api", "repos", "create"]:
            told = json.loads(body)
            name = f"{told.get('organization') or 'me'}/{told['name']}"
            self.server.repositories.setdefault(name, {})
            self._reply({"url": f"http://{self.headers['Host']}/{name}", "id": name})
        elif path[:2] == ["api", "validate-yaml"]:
            self._reply({"errors": [], "warnings": []})
        elif path[:2] == ["api", "models"] and len(path) == 6 and path[4] == "preupload":
            told = {"uploadMode": "regular", "shouldIgnore": False}
            self._reply({"files": [{**file, **told} for file in json.loads(body)["files"]]})
        elif path[:2] == ["api", "models"] and len(path) == 6 and path[4] == "commit":
            name = "/".join(path[2:4])
            for line in filter(None, body.split(b"\n")):
                entry = json.loads(line)
                if entry["key"] == "file":
                    file = entry["value"]
                    content = base64.b64decode(file["content"])
                    self.server.repositories[name][file["path"]] = content
            url = f"http://{self.headers['Host']}/{name}/commit/{self._commit(name)}"
            self._reply({"success": True, "commitOid": self._commit(name), "commitUrl": url})
        else:
            self._missing()

    def _commit(self, name: str) -> str:
        told = json.dumps({k: len(v) for k, v in self.server.repositories[name].items()})
        return hashlib.sha1(told.encode()).hexdigest()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.strip("/").split("/")
        name = "/".join(path[2:4] if path[0] == "api" else path[:2])
        files = self.server.repositories.get(name)
        if files is None:
            self._missing()
        elif path[:2] == ["api", "models"] and path[4:5] in ([], ["revision"]):
            siblings = [{"rfilename": file} for file in sorted(files)]
            self._reply({"id": name, "sha": self._commit(name), "siblings": siblings})
        elif path[:2] == ["api", "models"] and path[4:5] == ["tree"]:
            self._reply(
                [
                    {"type": "file", "path": k, "size": len(v), "oid": hashlib.sha1(v).hexdigest()}
                    for k, v in sorted(files.items())
                ]
            )
        elif path[2:3] == ["resolve"] and "/".join(path[4:]) in files:
            content = files["/".join(path[4:])]
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            self._reply(content, X_Repo_Commit=self._commit(name), ETag=etag)
        else:
            self._missing()

    do_HEAD = do_GET  # noqa: N815


@contextmanager
def fake_hub() -> Generator[tuple[str, _Hub]]:
    """Its address, and what it holds."""
    hub = _Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{hub.server_port}", hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
