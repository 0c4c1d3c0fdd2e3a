"""A hub of one's own on this machine: takes what huggingface_hub pushes, and gives it back.

with serving_hub() as hub: os.environ["HF_ENDPOINT"] = hub.url
"""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40


@dataclass
class Hub:
    url: str = ""
    private: dict = field(default_factory=dict)  # by repo
    files: dict = field(default_factory=dict)  # by repo and path
    objects: dict = field(default_factory=dict)  # by sha256
    cards: list = field(default_factory=list)  # that were to be validated


def answers(hub, method, path, body):
    """Status, headers and body."""
    path = path.partition("?")[0]
    parts = path.strip("/").split("/")
    missing = 404, {"X-Error-Code": "EntryNotFound"}, b"{}"
    if path == "/api/repos/create":
        asked = json.loads(body)
        repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
        hub.private[repo] = asked.get("private", asked.get("visibility") == "private")
        return 200, {}, {"url": f"{hub.url}/{repo}", "name": repo}
    if path == "/api/validate-yaml":
        hub.cards.append(json.loads(body)["content"])
        return 200, {}, {"errors": [], "warnings": []}
    if path == "/api/whoami-v2":
        return 200, {}, {"name": "me", "type": "user", "orgs": []}
    if parts[0] == "objects":
        hub.objects[parts[1]] = body
        return 200, {}, {}
    if path.endswith(".git/info/lfs/objects/batch"):
        found = [
            {**one, "actions": {"upload": {"href": f"{hub.url}/objects/{one['oid']}"}}}
            for one in json.loads(body)["objects"]
        ]
        return 200, {}, {"transfer": "basic", "objects": found}
    if parts[:2] == ["api", "models"]:
        return answer_repo(hub, "/".join(parts[2:4]), parts[4:], body)
    repo, file = "/".join(parts[:2]), "/".join(parts[4:])
    if parts[2:3] == ["resolve"] and (repo, file) in hub.files:
        data = hub.files[repo, file]
        tag = f'"{hashlib.sha256(data).hexdigest()}"'
        return 200, {"ETag": tag, "X-Repo-Commit": COMMIT}, data
    return missing


def answer_repo(hub, repo, rest, body):
    if repo not in hub.private:
        return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
    if rest[:1] == ["preupload"]:
        files = [
            {"path": one["path"], "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular"}
            for one in json.loads(body)["files"]
        ]
        return 200, {}, {"files": [{**one, "shouldIgnore": False} for one in files]}
    if rest[:1] == ["commit"]:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                hub.files[repo, value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "lfsFile":
                hub.files[repo, value["path"]] = hub.objects[value["oid"]]
        return (
            200,
            {},
            {"commitUrl": f"{hub.url}/{repo}/commit/{COMMIT}", "commitOid": COMMIT, "success": True},
        )
    if rest[:1] == ["tree"]:
        return 404, {"X-Error-Code": "EntryNotFound"}, b"{}"
    return 200, {}, {"id": repo, "sha": COMMIT, "private": hub.private[repo], "siblings": []}


@contextmanager
def serving_hub():
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, found = answers(hub, self.command, self.path, body)
            data = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815

        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        hub.url = f"http://127.0.0.1:{server.server_port}"
        yield hub
        server.shutdown()
