"""From documents to a run: what a person drops, corrects, plans and starts.

    routes = Teaching(pages, jobs, sets, streams, most=200_000_000).routes()

Whatever is done here is a command of `demask`, which the page shows.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from demask.documents.account import LARGE_SHARE, describe_skipped
from demask.documents.paths import SUFFIXES
from demask.errors import ConfigError, RunError
from demask.storage.atomic import write_text
from demask.ui.document_sets import MOST_SHOWN, SHOWN_TEXT, DocumentSet, DocumentSets
from demask.ui.folders import RECIPES, RUNS, check_name
from demask.ui.jobs import Job, Jobs
from demask.ui.pages import Pages, as_command
from demask.ui.plans import Work, describe_job, describe_plan
from demask.ui.recipes import BUDGETS, PRESETS, Recipe, choose_model, find_models, make_recipe
from demask.ui.streams import Streams

_TABS = {"text": "Documents", "questions": "Questions", "teach": "Teach"}
# Of a request that is no file.
_MOST_JSON = 1_000_000
_NOTHING_CHOSEN = dict.fromkeys(("name", "model", "preset", "budget", "questions", "more"), "")


async def read_json(request: Request) -> dict[str, Any]:
    """The object that a script has sent.

    Raises:
        HTTPException: it is none, or too long.
    """
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise HTTPException(415, "expected application/json")
    text = b""
    async for part in request.stream():
        text += part
        if len(text) > _MOST_JSON:
            raise HTTPException(413, "this is too long")
    try:
        value = json.loads(text or b"{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise HTTPException(400, "expected a JSON object")
    return value


class Teaching:
    """The handlers of documents, questions and plans.

    Args:
        pages: that are shown.
        jobs: that do the work.
        sets: of documents.
        streams: for what is shown live.
        most: bytes of a file that is dropped.
    """

    def __init__(self, pages: Pages, jobs: Jobs, sets: DocumentSets, streams: Streams, *, most: int) -> None:
        self.pages, self.jobs, self.sets, self.streams, self.most = pages, jobs, sets, streams, most
        self.workspace = pages.workspace

    def routes(self) -> list[Route]:
        """All addresses of documents."""
        return [
            Route("/documents", self.list_sets),
            Route("/documents/{name}", self.show),
            Route("/live/documents/{name}/{part}", self.live),
            Route("/api/documents", self.make, methods=["POST"]),
            Route("/api/documents/{name}/files", self.upload, methods=["PUT"]),
            Route("/api/documents/{name}/{task}", self.do, methods=["POST"]),
        ]

    def list_sets(self, request: Request) -> Response:
        """All sets, and folders that could be one."""
        return self._html(
            "document_sets.html.jinja",
            sets=self.sets.find_all(),
            folders=self.sets.find_folders(),
            suffixes=SUFFIXES,
        )

    def show(self, request: Request) -> Response:
        """One set: its documents, questions or plan."""
        found, shown = self._find(request), request.query_params.get("show") or "text"
        if shown not in _TABS:
            raise HTTPException(404)
        return self._html(
            "document_set.html.jinja",
            found=found,
            tabs=_TABS.items(),
            shown=shown,
            suffixes=SUFFIXES,
            most=self.most,
            **self._values(found, shown),
        )

    async def live(self, request: Request) -> Response:
        """A part of such a page, each time that it changes."""
        found = await run_in_threadpool(self._find, request)
        part = request.path_params["part"]
        if part not in _TABS:
            raise HTTPException(404)

        def render() -> str:
            again = self.sets.find(found.name)
            if again is None:
                return ""
            return self.pages.render(
                f"set_{part}.html.jinja", found=again, **self._values(again, part, live=True)
            )

        return self.streams.open(render)

    async def make(self, request: Request) -> Response:
        """A new set, of what will be dropped or of a folder that is there."""
        given = await read_json(request)
        if "place" in given:
            name = await run_in_threadpool(self.sets.choose, str(given["place"]))
            await run_in_threadpool(self.sets.read, name)
        else:
            name = await run_in_threadpool(self.sets.make, given.get("name"))
        return JSONResponse({"go": f"/documents/{name}"})

    async def upload(self, request: Request) -> Response:
        """One file, its content as the body."""
        length = request.headers.get("content-length")
        given = request.query_params.get("name", "")
        if length is not None and (not length.isdigit() or int(length) > self.most):
            raise HTTPException(
                413, f"{given[:80]}: larger than {self.most / 1e6:,.0f} MB; copy it into the folder"
            )
        try:
            parts = request.stream()
            name = await self.sets.receive(request.path_params["name"], given, parts, most=self.most)
        except ClientDisconnect:
            raise HTTPException(400, f"{given[:80]}: was not sent to its end") from None
        return JSONResponse({"file": name})

    async def do(self, request: Request) -> Response:
        """A task of a set, by the last part of the address."""
        found = await run_in_threadpool(self._find, request)
        given = await read_json(request)
        task = {
            "read": self._read,
            "remove": self._remove,
            "passages": self._split,
            "make-questions": self._make_questions,
            "audit": self._audit,
            "question": self._save_question,
            "strike": self._strike,
            "recipe": self._show_recipe,
            "plan": self._plan,
            "start": self._start,
        }.get(request.path_params["task"])
        if task is None:
            raise HTTPException(404)
        return JSONResponse(await asyncio.to_thread(task, found, given))

    def _read(self, found: DocumentSet, given: Mapping[str, Any]) -> dict[str, Any]:
        self.sets.read(found.name)
        return {}

    def _remove(self, found: DocumentSet, given: Mapping[str, Any]) -> dict[str, Any]:
        self.sets.remove(found.name, str(given.get("file")))
        again = self.sets.find(found.name)
        if again is not None and again.files:
            self.sets.read(found.name)
        return {}

    def _split(self, found: DocumentSet, given: Mapping[str, Any]) -> dict[str, Any]:
        self.sets.split(found.name, choose_model(given.get("model"), self.workspace))
        return {}

    def _make_questions(self, found: DocumentSet, given: Mapping[str, Any]) -> dict[str, Any]:
        self.sets.ask_for_questions(found.name)
        return {}

    def _audit(self, found: DocumentSet, given: Mapping[str, Any]) -> dict[str, Any]:
        self.sets.audit(found.name)
        return {}

    def _save_question(self, found: DocumentSet, given: Mapping[str, Any]) -> dict[str, Any]:
        answers = [line.strip() for line in str(given.get("answers", "")).splitlines() if line.strip()]
        self.sets.save_question(found.name, {**given, "answers": answers})
        return {"saved": True}

    def _strike(self, found: DocumentSet, given: Mapping[str, Any]) -> dict[str, Any]:
        self.sets.strike(found.name, str(given.get("id")), back=bool(given.get("back")))
        return {}

    def _recipe(self, found: DocumentSet, given: Mapping[str, Any]) -> Recipe:
        qa = self.sets.questions_place(found.name) if self.sets.questions(found.name) else None
        return make_recipe(given, documents=found.place, qa=qa, workspace=self.workspace)

    def _show_recipe(self, found: DocumentSet, given: Mapping[str, Any]) -> dict[str, Any]:
        name = str(given.get("name") or found.name)
        words = ["inject", f"{RECIPES}/{name}.yaml", "--out", f"{RUNS}/{name}"]
        return {"recipe": self._recipe(found, given).text, "command": as_command(["demask", *words])}

    def _plan(self, found: DocumentSet, given: Mapping[str, Any]) -> dict[str, Any]:
        recipe = self._recipe(found, given)
        place = f"{RECIPES}/{found.name}-plan.yaml"
        write_text(self.workspace.inner(place), recipe.text)
        more = {"recipe": recipe.digest, "given": dict(given)}
        self.jobs.add("plan", ["plan", place, "--json"], about=found.name, more=more)
        return {}

    def _start(self, found: DocumentSet, given: Mapping[str, Any]) -> dict[str, Any]:
        if not found.files:
            raise RunError(f"{found.name}: no documents yet; drop some first")
        name, recipe = check_name(given.get("name"), "name"), self._recipe(found, given)
        place = f"{RUNS}/{name}"
        if self.workspace.inner(place).exists() or self.jobs.find_all("run", place):
            raise ConfigError(f"{name}: there is a model of this name already; choose another one")
        file = f"{RECIPES}/{name}.yaml"
        write_text(self.workspace.inner(file), recipe.text)
        plan = self.jobs.latest("plan", found.name, state="done")
        planned = self.jobs.read_result(plan) if plan and plan.more.get("recipe") == recipe.digest else {}
        needs = int((planned or {}).get("memory_bytes") or 0)
        more = {"documents": found.name, "recipe": file}
        self.jobs.add("run", ["inject", file, "--out", place, "--json"], about=place, needs=needs, more=more)
        return {"go": f"/runs/{place}?show=watch"}

    def _values(self, found: DocumentSet, shown: str, *, live: bool = False) -> dict[str, Any]:
        if shown == "text":
            return self._text_values(found)
        return self._question_values(found) if shown == "questions" else self._teach_values(found, live=live)

    def _text_values(self, found: DocumentSet) -> dict[str, Any]:
        read = self.jobs.latest("read", found.name, state="done")
        account = self.sets.account(read) if read else {}
        files = sorted(account.get("files", ()), key=lambda file: file["kept"] - file["characters"])
        split = self.jobs.latest("passages", found.name)
        passages = self.sets.passages(split) if split else []
        return {
            "files": {_below(file["path"], found.place): file for file in files},
            "account": account,
            "skipped": list(describe_skipped(account.get("skipped", ()))),
            "large": LARGE_SHARE,
            "documents": list(self.sets.documents(read)) if read else [],
            "shown_text": SHOWN_TEXT,
            "most_shown": MOST_SHOWN,
            "stale": bool(read and self.sets.is_stale(found, read)),
            "working": self._working("read", found),
            "splitting": self._working("passages", found),
            "passages": passages,
            "split_for": split.more.get("model") if split else "",
            "split": self.jobs.read_result(split) if split and passages else None,
            "models": ["embedded", *find_models(self.workspace)],
        }

    def _question_values(self, found: DocumentSet) -> dict[str, Any]:
        audit = self.jobs.latest("audit", found.name, state="done")
        result = self.jobs.read_result(audit) if audit else None
        findings: dict[str, list[Mapping[str, Any]]] = {}
        for finding in (result or {}).get("findings", ()):
            findings.setdefault(finding["pair_id"], []).append(finding)
        return {
            "questions": self.sets.questions(found.name),
            "struck": self.sets.questions(found.name, struck=True),
            "ids": self.sets.document_ids(found.name),
            "audit": result,
            "findings": findings,
            "place": self.sets.questions_place(found.name),
            "making": self._working("questions", found),
            "auditing": self._working("audit", found),
        }

    def _teach_values(self, found: DocumentSet, *, live: bool) -> dict[str, Any]:
        plan = self.jobs.latest("plan", found.name)
        state = self.jobs.state(plan) if plan else None
        result = self.jobs.read_result(plan) if plan and state == "done" else None
        chosen = {**_NOTHING_CHOSEN, **(plan.more.get("given", {}) if plan else {})}
        values = {
            "planning": self._working("plan", found),
            "plan": describe_plan(result) if isinstance(result, dict) else None,
            "planned": chosen,
        }
        if live:
            return values
        questions = self.sets.questions(found.name)
        return {
            **values,
            "presets": PRESETS,
            "budgets": BUDGETS,
            "models": ["embedded", *find_models(self.workspace)],
            "questions": len(questions),
            "chosen": chosen,
            "free_name": self._free_name(found.name),
        }

    def _free_name(self, name: str) -> str:
        taken, number, free = {place.rsplit("/", 1)[-1] for place in self.workspace.find_runs()}, 1, name
        taken |= {job.about.rsplit("/", 1)[-1] for job in self.jobs.find_all("run")}
        while free in taken:
            number += 1
            free = f"{name}-{number}"
        return free

    def _working(self, kind: str, found: DocumentSet) -> Work | None:
        job: Job | None = self.jobs.latest(kind, found.name)
        return describe_job(self.jobs, job) if job else None

    def _find(self, request: Request) -> DocumentSet:
        found = self.sets.find(request.path_params["name"])
        if found is None:
            raise HTTPException(404, "there are no documents of this name")
        return found

    def _html(self, name: str, **values: Any) -> Response:
        return HTMLResponse(self.pages.render(name, here="documents", **values))


def _below(path: str, place: str) -> str:
    return path.removeprefix(f"{place}/")
