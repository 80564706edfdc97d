"""A model hub on this machine: enough of the hub's protocol for huggingface_hub to fetch and to push a repository."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c" * 40


class FakeHub:
    """`files` is the repository owner/tiny; `log` is every request; `cut` files break off halfway, once.

    What is pushed goes into `files`; `made` is what the repositories were asked to be, `tokens` who asked.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.log: list[tuple[str, str, str | None]] = []  # method, file or API path, Range
        self.cut: set[str] = set()
        self.made: list[dict] = []
        self.tokens: set[str | None] = set()
        self.status = 200  # of every answer
        self.url = ""

    def fetched(self) -> list[str]:
        """Files whose content was sent, in order."""
        return [path for method, path, _ in self.log if method == "GET" and path in self.files]

    @contextmanager
    def running(self) -> Iterator[FakeHub]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(self))
        self.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


def handler_for(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    """The request handler of one hub."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hub.log.append(("POST", self.path, None))
            hub.tokens.add(self.headers.get("Authorization"))
            if hub.status != 200:
                return self.send(hub.status, b"{}", True)
            self.send(200, json.dumps(self.pushed(body)).encode(), True)

        def pushed(self, body: bytes) -> dict:
            """Of a new repository, of what is about to be sent, of the card's head, of a commit."""
            if self.path == "/api/repos/create":
                hub.made.append(json.loads(body))
                return {"url": f"{hub.url}/owner/tiny"}
            if self.path == "/api/models/owner/tiny/preupload/main":
                names = [file["path"] for file in json.loads(body)["files"]]
                return {"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]}
            if self.path == "/api/validate-yaml":
                return {"errors": [], "warnings": []}
            for entry in map(json.loads, body.splitlines()):
                if entry["key"] == "file":
                    hub.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            return {"commitUrl": f"{hub.url}/owner/tiny/commit/{COMMIT}", "commitOid": COMMIT}

        def answer(self, with_body: bool) -> None:
            if hub.status != 200:
                return self.send(hub.status, b"{}", with_body)
            if api := re.fullmatch(r"/api/models/(owner/tiny)(/revision/\w+)?(\?.*)?", self.path):
                hub.log.append((self.command, self.path, None))
                siblings = [{"rfilename": name} for name in hub.files]
                info = {"id": api[1], "modelId": api[1], "sha": COMMIT, "siblings": siblings, "tags": []}
                return self.send(200, json.dumps(info).encode(), with_body)
            name = self.path.removeprefix(f"/owner/tiny/resolve/{COMMIT}/")
            hub.log.append((self.command, name, self.headers.get("Range")))
            if name not in hub.files:
                return self.send(404, b"", with_body, {"X-Error-Code": "RepoNotFound"})
            return self.send_file(name, with_body)

        def send_file(self, name: str, with_body: bool) -> None:
            body, headers = hub.files[name], {"ETag": f'"{hashlib.sha256(hub.files[name]).hexdigest()}"'}
            headers |= {"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            status, start = 200, 0
            if (wanted := self.headers.get("Range")) and with_body:
                start = int(re.match(r"bytes=(\d+)-", wanted)[1])
                status, headers["Content-Range"] = 206, f"bytes {start}-{len(body) - 1}/{len(body)}"
            if with_body and name in hub.cut:
                hub.cut.discard(name)
                self.send(status, body[start:], True, headers, sent=len(body) // 2)
                self.close_connection = True
                return
            self.send(status, body[start:], with_body, headers)

        def send(self, status: int, body: bytes, with_body: bool, headers: dict | None = None, sent: int | None = None):
            self.send_response(status)
            for field, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
                self.send_header(field, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body[:sent])

        def log_message(self, *_: object) -> None:
            """Quiet."""

    return Handler
