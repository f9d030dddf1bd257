"""A Hugging Face hub for tests: one server on this machine that takes commits and gives files back."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "a" * 40


class Hub(ThreadingHTTPServer):
    """Repositories in memory. calls: method and path of each request, in order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.large: dict[str, bytes] = {}
        self.calls: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def hub() -> Iterator[Hub]:
    """A running server."""
    server = Hub()
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        path, body = self._begin()
        if path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            told = json.loads(body)
            name = f"{told['organization']}/{told['name']}" if told.get("organization") else told["name"]
            self.server.repositories.setdefault(name, {})
            return self._answer({"url": f"{self.server.url}/{name}", "name": name, "id": name})
        if path.endswith(".git/info/lfs/objects/batch"):
            entries = [
                {"oid": each["oid"], "size": each["size"], "actions": self._places(each["oid"])}
                for each in json.loads(body)["objects"]
            ]
            return self._answer({"transfer": "basic", "objects": entries})
        if path == "/verify":
            told = json.loads(body)
            found = self.server.large.get(told["oid"])
            return self._answer({}, 200 if found is not None and len(found) == told["size"] else 404)
        parts = path.split("/")  # /api/models/USER/NAME/(preupload|commit)/REVISION
        name = "/".join(parts[3:5])
        if parts[5] == "preupload":
            files = [
                {
                    "path": each["path"],
                    "uploadMode": "lfs" if each["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for each in json.loads(body)["files"]
            ]
            return self._answer({"files": files})
        assert parts[5] == "commit", path
        for line in body.splitlines():
            entry = json.loads(line)
            told = entry["value"]
            if entry["key"] == "file":
                self.server.repositories[name][told["path"]] = base64.b64decode(told["content"])
            elif entry["key"] == "lfsFile":
                self.server.repositories[name][told["path"]] = self.server.large[told["oid"]]
        where = f"{self.server.url}/{name}/commit/{COMMIT}"
        return self._answer({"commitUrl": where, "commitOid": COMMIT, "success": True})

    def do_PUT(self) -> None:
        path, body = self._begin()
        assert hashlib.sha256(body).hexdigest() == path.rpartition("/")[2]
        self.server.large[path.rpartition("/")[2]] = body
        self._answer({})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, _ = self._begin()
        parts = path.split("/")
        if parts[1:3] == ["api", "models"]:
            files = self.server.repositories.get("/".join(parts[3:5]))
            siblings = [{"rfilename": name} for name in files or {}]
            told = {"id": "/".join(parts[3:5]), "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}
            known = files is not None and parts[5:6] in ([], ["revision"])
            return self._answer(told if known else {}, 200 if known else 404, known or "EntryNotFound")
        files = self.server.repositories.get("/".join(parts[1:3]))  # /USER/NAME/resolve/REVISION/FILE
        if files is None:
            return self._answer({}, 404, "RepoNotFound")
        data = files.get("/".join(parts[5:]))
        if data is None:
            return self._answer({}, 404, "EntryNotFound")
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        return self._send(200, data, headers)

    def _begin(self) -> tuple[str, bytes]:
        path = self.path.partition("?")[0]
        self.server.calls.append(f"{self.command} {path}")
        return path, self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _places(self, oid: str) -> dict[str, Any]:
        return {
            "upload": {"href": f"{self.server.url}/upload/{oid}"},
            "verify": {"href": f"{self.server.url}/verify"},
        }

    def _answer(self, content: Any, status: int = 200, error: str | bool = True) -> None:
        headers = {"Content-Type": "application/json"}
        if isinstance(error, str):
            headers["X-Error-Code"] = error
        self._send(status, json.dumps(content).encode(), headers)

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass
