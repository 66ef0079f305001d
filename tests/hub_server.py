"""A stand-in of the Hugging Face Hub: real HTTP, the few calls with which huggingface_hub makes, fills and fetches a model."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub:
    """models: name -> path -> content. private: names that need the token."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.models: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.asked: list[str] = []
        self.url = ""

    def sha(self, name: str) -> str:
        """The commit: of all content."""
        return hashlib.sha1(repr(sorted(self.models[name].items())).encode()).hexdigest()


@contextlib.contextmanager
def hub_server(token: str = "hf_secret") -> Iterator[Hub]:
    """A hub at `url` of what it gives, on a port of this machine."""
    hub = Hub(token)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _say(self, content: Any, status: int = 200, **headers: str) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _missing(self) -> None:
            self._say({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")

        def _may(self) -> bool:
            return self.headers.get("Authorization") == f"Bearer {hub.token}"

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def do_GET(self) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            if found := re.match(r"/api/models/([\w.-]+/[\w.-]+)/tree/", self.path):
                if found[1] not in hub.models or (found[1] in hub.private and not self._may()):
                    return self._missing()
                rows = [
                    {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for path, content in hub.models[found[1]].items()
                ]
                return self._say(rows)
            if found := re.match(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/\w+)?(?:\?|$)", self.path):
                name = found[1]
                if name not in hub.models or (name in hub.private and not self._may()):
                    return self._missing()
                files = [{"rfilename": path} for path in hub.models[name]]
                return self._say({"id": name, "modelId": name, "sha": hub.sha(name), "siblings": files})
            if found := re.match(r"/([\w.-]+/[\w.-]+)/resolve/(\w+)/(.+)", self.path):
                name, _, path = found.groups()
                if name not in hub.models or path not in hub.models[name]:
                    return self._missing()
                content = hub.models[name][path]
                etag = f'"{hashlib.sha1(content).hexdigest()}"'
                return self._say(content, ETag=etag, X_Repo_Commit=hub.sha(name))
            return self._missing()

        do_HEAD = do_GET

        def do_POST(self) -> None:
            hub.asked.append(f"POST {self.path}")
            body = self._body()
            if self.path == "/api/validate-yaml":
                return self._say({"errors": [], "warnings": []})
            if not self._may():
                return self._say({"error": "Invalid username or password."}, 401)
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
                hub.models.setdefault(name, {})
                if asked.get("private") or asked.get("visibility") == "private":
                    hub.private.add(name)
                return self._say({"url": f"{hub.url}/{name}"})
            found = re.match(r"/api/models/([\w.-]+/[\w.-]+)/(preupload|commit)/", self.path)
            if found is None or found[1] not in hub.models:
                return self._missing()
            if found[2] == "preupload":
                files = [
                    {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for one in json.loads(body)["files"]
                ]
                return self._say({"files": files})
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    hub.models[found[1]][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            sha = hub.sha(found[1])
            return self._say({"success": True, "commitOid": sha, "commitUrl": f"{hub.url}/{found[1]}/commit/{sha}"})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
