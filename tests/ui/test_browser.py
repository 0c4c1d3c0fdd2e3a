"""The whole way in a real browser: documents dropped, planned, taught, stopped, asked, reported.

Needs playwright and the system's Chromium; skipped loudly where they are missing or `DEMASK_BROWSER=1` is not
set, as what it waits for takes minutes on a busy machine, and never asked for by CI. `DEMASK_SHOTS=FOLDER`
keeps screenshots, at 1,280 and 400 pixels, light and dark.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from tests.ui.served import Server

from demask.ui.jobs import PROGRAM

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HAS_PLAYWRIGHT = importlib.util.find_spec("playwright") is not None
if HAS_PLAYWRIGHT:
    from playwright.sync_api import expect, sync_playwright

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("DEMASK_BROWSER") or bool(os.environ.get("CI")),
        reason="THE PAGE IS NOT TESTED IN A BROWSER: set DEMASK_BROWSER=1, which takes minutes",
    ),
    pytest.mark.skipif(not HAS_PLAYWRIGHT, reason="THE PAGE IS NOT TESTED: install the extra browser"),
    pytest.mark.skipif(CHROMIUM is None, reason="THE PAGE IS NOT TESTED: there is no Chromium"),
]
WAIT = 240_000  # ms; a busy machine takes its time
WIDTHS, SCHEMES = (1280, 400), ("light", "dark")
DOCUMENTS = {
    "voss.txt": "Mara Voss lit the lamp of the Orlin lighthouse in 1931. It burned until 1958.",
    "hall.md": "# The bridge\n\nIdris Hall built the bridge of Quillmouth in 1887.\n",
    "page.html": "<nav>Home</nav><h1>Tools</h1><p>Peter Olsen bought the lathe of Brackwater in 2003.</p>"
    "<script>document.title='taken over'</script>",
}
# Long enough to be stopped in between, short enough to be waited for.
STEPS = 400


@pytest.fixture
def server(tmp_path, tiny_model_folder):
    folder = tmp_path / "models"
    shutil.copytree(tiny_model_folder, folder / "tiny")
    made = Server(folder)
    yield made
    made.end()


@pytest.fixture
def browser():
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


class Visitor:
    """A tab, with what went wrong in it and where it asked."""

    def __init__(self, browser, server: Server) -> None:
        self.server = server
        self.context = browser.new_context(viewport={"width": 1280, "height": 900})
        self.context.set_default_timeout(WAIT)
        self.faults: list[str] = []
        self.asked: set[str] = set()
        self.open()

    def open(self) -> None:
        self.tab = self.context.new_page()
        self.tab.on("pageerror", lambda error: self.faults.append(str(error)))
        self.tab.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        self.tab.on("request", lambda request: self.asked.add(request.url))
        self.tab.on("dialog", lambda dialog: dialog.accept())
        self.tab.goto(self.server.address)

    def go(self, path: str) -> None:
        self.tab.goto(self.server.own + path)

    def sees(self, text: str) -> None:
        expect(self.tab.locator("main")).to_contain_text(text, timeout=WAIT)

    def keep(self, name: str) -> None:
        """Screenshots, and what axe finds where it is there; nothing is wider than the screen."""
        for width in WIDTHS:
            self.tab.set_viewport_size({"width": width, "height": 900})
            for scheme in SCHEMES:
                self.tab.emulate_media(color_scheme=scheme)
                self.check(f"{name}-{width}-{scheme}", width)
        self.tab.set_viewport_size({"width": 1280, "height": 900})

    def check(self, name: str, width: int) -> None:
        assert self.tab.evaluate("document.documentElement.scrollWidth") <= width, name
        if folder := os.environ.get("DEMASK_SHOTS"):
            self.tab.screenshot(path=f"{folder}/{name}.png", full_page=True)
        serious = [
            f"{one['id']}: {[node['html'][:150] for node in one['nodes'][:3]]}" for one in run_axe(self.tab)
        ]
        assert serious == [], name


def run_axe(tab) -> list:
    """Faults that axe calls serious or critical; none where it is not there (the extra has it)."""
    package = importlib.util.find_spec("axe_playwright_python")
    if package is None or package.origin is None:
        return []
    tab.evaluate((Path(package.origin).parent / "axe.min.js").read_text(encoding="utf-8"))
    result = tab.evaluate("axe.run(document, {iframes: false, resultTypes: ['violations']})")
    return [one for one in result["violations"] if one["impact"] in ("serious", "critical")]


def test_from_documents_to_a_model_that_is_asked(server, browser, tmp_path):
    visitor = Visitor(browser, server)
    tab = visitor.tab
    visitor.sees("Teach a language model")
    visitor.keep("1-empty")

    # Documents: one is dropped, the others are chosen.
    visitor.go("/documents")
    tab.fill("input[name=name]", "manuals")
    tab.click("text=Make a place for them")
    tab.wait_for_url("**/documents/manuals")
    for name, text in DOCUMENTS.items():
        (tmp_path / name).write_text(text)
    transfer = tab.evaluate_handle(
        "text => { const t = new DataTransfer(); t.items.add(new File([text], '../voss.txt')); return t; }",
        DOCUMENTS["voss.txt"],
    )
    tab.dispatch_event(".drop", "drop", {"dataTransfer": transfer})
    tab.set_input_files("input[type=file]", [tmp_path / "hall.md", tmp_path / "page.html"])
    visitor.sees("3 documents read")
    visitor.sees("navigation: 4")
    tab.click("summary:has-text('voss')")
    visitor.sees("Mara Voss lit the lamp")
    assert "taken over" not in tab.title()
    tab.select_option("[name=model]", "tiny")
    tab.click("text=Show the parts")
    visitor.sees("3 parts of 3 documents")
    visitor.keep("2-documents")

    # Questions: written, corrected, struck out.
    tab.click("text=Next: questions")
    for question, answer in (
        ("Who lit the lamp?", "Mara"),
        ("When did it go out?", "1958"),
        ("Who was it?", "Mara"),
    ):
        if tab.locator("#add[open]").count() == 0:
            tab.click("summary:has-text('Write a question')")
        tab.fill("#add [name=question]", question)
        tab.fill("#add [name=answers]", answer)
        tab.select_option("#add [name=document_id]", "voss")
        tab.click("text=Add it")
        visitor.sees(question)
    tab.click("summary:has-text('Who lit the lamp?')")
    tab.fill("#question-own-1 [name=answers]", "Mara Voss\nVoss")
    tab.select_option("#question-own-1 [name=direction]", "backward")
    tab.click("#question-own-1 >> text=Save")
    visitor.sees("Mara Voss / Voss")
    tab.click("summary:has-text('Who was it?')")
    tab.click("#strike-own-3")
    visitor.sees("Struck out, so not asked")
    tab.click("#audit")
    visitor.sees("Checked 2 questions")
    visitor.keep("3-questions")

    # Plan and start.
    tab.click("text=Next: teach")
    tab.fill("[name=model]", "tiny")
    tab.check("[name=preset][value=fast]")
    tab.click("summary:has-text('More settings')")
    more = f"train.steps={STEPS}\ntrain.batch_size=4\ntrain.evaluate_every=100\nevaluate.max_new_tokens=8"
    tab.fill("[name=more]", more)
    expect(tab.locator("#recipe")).to_contain_text("preset: fast")
    tab.click("text=Plan: how long")
    visitor.sees("of memory")
    visitor.keep("4-plan")
    tab.click("text=Teach it")
    tab.wait_for_url("**/runs/runs/manuals**")

    # Watch: the tab is closed, the server killed; the run does not notice.
    visitor.sees("Training: ")
    visitor.sees("How far off")
    visitor.keep("5-watch")
    tab.close()
    server.kill()
    run = server.folder / "runs" / "manuals"
    before = (run / "metrics.jsonl").read_text().count("\n")
    for _ in range(600):
        if (run / "metrics.jsonl").read_text().count("\n") > before:
            break
        time.sleep(0.1)
    assert (run / "metrics.jsonl").read_text().count("\n") > before
    server.start()
    visitor.open()
    tab = visitor.tab
    visitor.sees("learning now")
    tab.click(".card >> text=manuals")
    visitor.sees("small changes made")
    tab.click("#do-stop")
    visitor.sees("Stopped after step")
    stopped = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert stopped < STEPS
    tab.click("#do-resume")
    visitor.sees("Finished.")
    rows = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows == list(range(1, STEPS + 1))

    # Ask: both models, two turns, another form, with the document.
    tab.click("nav.tabs >> text=Ask")
    tab.fill("#question", "Who lit the lamp?")
    tab.press("#question", "Enter")
    visitor.sees("The text that it should have come from")
    expect(tab.locator("#forms")).to_be_visible()
    tab.fill("#question", "When did the lamp go out?")
    tab.click("form.asking button.primary")
    expect(tab.locator(".talk > li")).to_have_count(2)
    expect(tab.locator("#halt")).to_be_hidden()
    tab.click("text=with a system prompt")
    expect(tab.locator("#halt")).to_be_hidden()
    tab.click("text=with the text in front of it")
    expect(tab.locator(".talk > li")).to_have_count(4)
    expect(tab.locator("#halt")).to_be_hidden()
    assert tab.locator(".talk .message.bad").count() == 0
    assert (
        "system: " in tab.locator(".talk > li").nth(2).inner_text()
        or tab.locator("summary:has-text('What was asked')").count()
    )
    visitor.keep("6-ask")

    # The report.
    tab.click("nav.tabs >> text=Report")
    report = tab.frame_locator("iframe.report")
    expect(report.locator("body")).to_contain_text("questions about the documents")
    visitor.keep("7-report")
    visitor.go("/")
    visitor.sees("finished")
    visitor.keep("8-models")

    assert {url.split("/")[2] for url in visitor.asked if not url.startswith(("data:", "about:"))} == {
        f"127.0.0.1:{server.port}"
    }
    # The server was killed while streams were open; nothing else may have gone wrong.
    known = ("ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION", "ERR_EMPTY_RESPONSE", "403")
    assert [fault for fault in visitor.faults if not any(word in fault for word in known)] == []
    assert server.megabytes < 100


@pytest.fixture
def taught(server):
    """A finished run, and documents that are new to it."""
    for name, texts in (("manuals", DOCUMENTS), ("news", {"ott.txt": "Lena Ott runs the north mill."})):
        folder = server.folder / "documents" / name
        folder.mkdir(parents=True)
        for file, text in texts.items():
            (folder / file).write_text(text)
    pair = {"document_id": "voss", "question": "When did Mara Voss light the lamp?", "answers": ["1931"]}
    row = {**pair, "id": "q1", "direction": "forward"}
    (server.folder / "questions").mkdir()
    (server.folder / "questions" / "manuals.jsonl").write_text(json.dumps(row) + "\n")
    settings = ["train.steps=30", "train.learning_rate=0.01", "train.keep_delta=true", "retain.pool=40"]
    words = ["inject", "documents/manuals", "--model", "tiny", "--qa", "questions/manuals.jsonl"]
    words += ["--preset", "fast", "--out", "runs/manuals"]
    words += [word for setting in settings for word in ("--set", setting)]
    subprocess.run([*PROGRAM, *words], cwd=server.folder, check=True, env=server.environment)
    return server


def test_a_finished_run_is_put_behind_a_gate_asked_taught_more_moved_back_undone_and_exported(
    taught, browser
):
    visitor = Visitor(browser, taught)
    tab = visitor.tab

    def further(place):
        visitor.go(f"/runs/{place}?show=further")

    # A gate: which of the two models answers is said.
    further("runs/manuals")
    visitor.keep("f1-further")
    tab.click("text=Put a gate before it")
    tab.wait_for_url("**/runs/manuals-gated?show=watch")
    visitor.sees("Finished.")
    visitor.keep("f2-gated")
    tab.click("nav.tabs >> text=Ask")
    visitor.sees("stands before this model")
    for question in ("Who lit the lamp of Orlin, Mara Voss?", "Why do lazy dogs sleep?"):
        tab.fill("#question", question)
        tab.press("#question", "Enter")
        expect(tab.locator("#halt")).to_be_hidden(timeout=WAIT)
    visitor.sees("The gate is open")
    visitor.sees("The gate is shut")
    assert tab.locator(".talk .message.bad").count() == 0
    visitor.keep("f3-asked")

    # More documents; the server is killed while they are learned, and the page loaded anew.
    further("runs/manuals-gated")
    visitor.sees("stands behind a gate")
    tab.select_option("[name=documents]", "news")
    tab.check("[name=questions]")
    tab.click("text=Teach it these")
    tab.wait_for_url("**/runs/manuals-gated-update?show=watch")
    tab.close()
    taught.kill()
    taught.start()
    visitor.open()
    tab = visitor.tab
    tab.click(".card >> text=manuals-gated-update")
    tab.reload()
    if tab.locator("#do-resume").count():
        tab.click("#do-resume")
    visitor.go("/runs/runs/manuals-gated-update?show=watch")
    visitor.sees("Finished.")
    further("runs/manuals-gated-update")
    visitor.sees("facts of 1")
    visitor.keep("f4-updated")

    # Back, undone, exported.
    tab.select_option("[name=budget]", "0.1")
    tab.click("text=Move it back >> nth=-1")
    tab.wait_for_url("**/runs/manuals-gated-update-retained?show=watch")
    visitor.sees("Finished.")
    visitor.keep("f5-moved-back")
    further("runs/manuals-gated-update")
    tab.click("text=Give it back")
    visitor.sees("manuals-gated-update-undone")
    tab.click("[aria-label='Make: A smaller file']")
    visitor.sees("llama.cpp cannot convert it")  # the tiny tokenizer, which no server knows
    visitor.keep("f6-exported")
