"""A server on this machine that speaks the Hub's protocol for folders laid out like repositories.

Files are read and committed by the protocol of git LFS; it never offers Xet.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "9d9c45c18f8c3cf1b23a3c27917b60cbf28f3289"


@dataclass
class LoopbackHub:
    """Serves repositories; a context manager.

    Attributes:
        repositories: Folder by kind and name, as ("datasets", "fancyzhx/amazon_polarity").
        moved: Former names and the ones they redirect to.
        gated: Names that ask for access first.
        requests: What was asked for: method, path, and bytes sent.
        dying: Names whose files break off after half of what was asked for, unless that is at their end.
        root: Where repositories are made, of models alone.
        private: Names of those that were made so.
        refusing: Status and message by a pattern of paths, to which nothing but these is answered.
        commits: The operations of each commit, by their kind and path.
    """

    repositories: dict[tuple[str, str], Path]
    moved: dict[str, str] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    dying: set[str] = field(default_factory=set)
    root: Path | None = None
    private: set[str] = field(default_factory=set)
    refusing: dict[str, tuple[int, str]] = field(default_factory=dict)
    commits: list[list[tuple[str, str]]] = field(default_factory=list)
    large_files: dict[str, bytes] = field(default_factory=dict)

    def __enter__(self) -> "LoopbackHub":
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT must be."""
        return f"http://127.0.0.1:{self.server.server_port}"

    def sent(self, path: str) -> int:
        """Bytes of file content sent for paths that end so."""
        return sum(size for method, asked, size in self.requests if method == "GET" and asked.endswith(path))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        for pattern, (status, message) in self.hub.refusing.items():
            if re.fullmatch(pattern, path):
                self._body()
                return self._fail(status, "", message)
        if path == "/api/validate-yaml":
            self._body()
            return self._send_json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create(**json.loads(self._body()))
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path)
        if found:
            return self._preupload() if found[2] == "preupload" else self._commit(found[1])
        if re.fullmatch(r"/[^/]+/[^/]+\.git/info/lfs/objects/batch", path):
            return self._offer_uploads(json.loads(self._body())["objects"])
        return self.do_GET()

    def do_PUT(self) -> None:
        content = self._body()
        self.hub.large_files[hashlib.sha256(content).hexdigest()] = content
        self._send_json({})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _create(self, name: str, organization: str, private: bool = False, **_: object) -> None:
        full_name = f"{organization}/{name}"
        assert self.hub.root
        folder = self.hub.root / full_name
        folder.mkdir(parents=True)
        (folder / ".gitattributes").write_text("*.safetensors filter=lfs\n")
        self.hub.repositories["models", full_name] = folder
        self.hub.private |= {full_name} if private else set()
        self._send_json({"url": f"{self.hub.endpoint}/{full_name}"})

    def _preupload(self) -> None:
        files = json.loads(self._body())["files"]
        modes = {True: "lfs", False: "regular"}
        answers = [
            {"path": file["path"], "uploadMode": modes[self._is_large(file)], "shouldIgnore": False} for file in files
        ]
        self._send_json({"files": answers})

    @staticmethod
    def _is_large(file: dict[str, str | int]) -> bool:
        return str(file["path"]).endswith((".safetensors", ".onnx", ".png"))

    def _offer_uploads(self, objects: list[dict[str, str | int]]) -> None:
        actions = [
            file | {"actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{file['oid']}"}}} for file in objects
        ]
        self._send_json({"transfer": "basic", "objects": actions})

    def _commit(self, name: str) -> None:
        folder, done = self.hub.repositories["models", name], []
        for operation in map(json.loads, self._body().splitlines()):
            kind, value = operation["key"], operation["value"]
            if kind == "header":
                continue
            file = folder / value["path"]
            if kind == "deletedFile":
                file.unlink()
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                large = kind == "lfsFile"
                file.write_bytes(self.hub.large_files[value["oid"]] if large else base64.b64decode(value["content"]))
            done.append((kind, value["path"]))
        self.hub.commits.append(done)
        self._send_json({"commitUrl": f"{self.hub.endpoint}/{name}/commit/{COMMIT}", "commitOid": COMMIT})

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        for old, new in self.hub.moved.items():
            if re.search(rf"/(datasets|models)/{old}/", path):
                return self._redirect(self.path.replace(f"/{old}/", f"/{new}/", 1))
        api = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/(revision|tree|paths-info)/([^/]+)/?(.*)", path)
        if api:
            return self._answer_api(*api.groups())
        newest = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)", path)
        if newest:
            return self._answer_api(newest[1], newest[2], "revision", "main", "")
        file = re.fullmatch(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if file:
            return self._answer_file(file[1] or "models", *file.groups()[1:])
        return self._fail(404, "EntryNotFound")

    do_HEAD = do_GET

    def _answer_api(self, kind: str, name: str, what: str, revision: str, inside: str) -> None:
        folder = self._folder(kind, name, revision)
        if folder is None:
            return
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        entries = [self._entry(folder, path) for path in files]
        if what == "revision":
            sizes = [{"size": entry["size"]} if "blobs=" in self.path else {} for entry in entries]
            siblings = [{"rfilename": entry["path"]} | size for entry, size in zip(entries, sizes, strict=True)]
            answer = {"id": name, "sha": COMMIT, "siblings": siblings, "gated": False, "tags": []}
            return self._send_json(answer | {"private": name in self.hub.private})
        if what == "tree":
            return self._send_json(self._children(entries, inside))
        body = self._body().decode()
        wanted = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
        every = [*entries, *self._directories(entries)]
        return self._send_json([entry for entry in every if entry["path"] in wanted])

    def _answer_file(self, kind: str, name: str, revision: str, path: str) -> None:
        folder = self._folder(kind, name, revision)
        if folder is None:
            return
        if not (folder / path).is_file():
            return self._fail(404, "EntryNotFound")
        size = (folder / path).stat().st_size
        start, end = 0, size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            start, end = int(asked[1]), min(int(asked[2] or size - 1) + 1, size)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(f"{path} {size}".encode()).hexdigest()}"')
        with (folder / path).open("rb") as file:
            file.seek(start)
            content = file.read(end - start)
        self._send_body(content, breaks_off=name in self.hub.dying and start < size // 2 and size > 10**6)

    def _folder(self, kind: str, name: str, revision: str) -> Path | None:
        if name in self.hub.gated:
            self._fail(403, "GatedRepo")
        elif (kind, name) not in self.hub.repositories:
            self._fail(404, "RepoNotFound")
        elif revision not in ("main", COMMIT):
            self._fail(404, "RevisionNotFound")
        else:
            return self.hub.repositories[kind, name]
        return None

    def _children(self, entries: list[dict[str, str | int]], inside: str) -> list[dict[str, str | int]]:
        """The files below a folder; those right in it, and its folders, unless `recursive` was asked for."""
        prefix = f"{inside}/" if inside else ""
        below = [entry for entry in entries if str(entry["path"]).startswith(prefix)]
        if "recursive=True" in self.path or "recursive=true" in self.path:
            return below
        every = [*below, *self._directories(below)]
        return [entry for entry in every if "/" not in str(entry["path"]).removeprefix(prefix)]

    @staticmethod
    def _directories(entries: list[dict[str, str | int]]) -> list[dict[str, str | int]]:
        paths = {str(parent) for entry in entries for parent in Path(str(entry["path"])).parents} - {"."}
        return [{"type": "directory", "path": path, "oid": "0" * 40} for path in sorted(paths)]

    @staticmethod
    def _entry(folder: Path, path: Path) -> dict[str, str | int]:
        return {
            "type": "file",
            "path": str(path.relative_to(folder)),
            "size": path.stat().st_size,
            "oid": hashlib.sha1(str(path).encode()).hexdigest(),
        }

    def _send_json(self, content: object) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self._send_body(json.dumps(content).encode())

    def _send_body(self, body: bytes, breaks_off: bool = False) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            body = b""
        if breaks_off:
            body, self.close_connection = body[: len(body) // 2], True
        sent = 0
        try:
            for start in range(0, len(body), 1 << 16):
                self.wfile.write(body[start : start + (1 << 16)])
                sent += min(1 << 16, len(body) - start)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # The reader has what it wanted; what lies unread in buffers counts as sent.
        self.hub.requests.append((self.command, urlsplit(self.path).path, sent))

    def _redirect(self, target: str) -> None:
        self.send_response(307)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _fail(self, status: int, code: str, message: str = "") -> None:
        self.hub.requests.append((self.command, urlsplit(self.path).path, 0))
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""
