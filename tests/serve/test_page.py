"""The page in a real Chromium: ask, watch the pool grow, open a source, stop, reload, upload, phone, contrast.

Chromium is a Debian package that a fresh machine may not have; then these tests, and no others, cannot run.
Screenshots of each state go to the folder in RAGPOOL_SCREENSHOTS, else to the test's own.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from scripted import CAPITALS, FOUNDERS, question
from served import Served, served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"
)

expect.set_options(timeout=30_000)  # a busy machine may be slow, and a page that is right does not wait
FOUNDER = FOUNDERS[CAPITALS["Ardona"]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, shared: Served) -> Iterator[Page]:
    """A page of its own, that must log no error and ask nobody but the server."""
    yield from _page(browser, shared)


def _page(browser: Browser, running: Served) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1360, "height": 860}, color_scheme="light")
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    said: list[str] = []
    opened.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on(
        "request",
        lambda r: (
            said.append(f"foreign {r.url}") if not r.url.startswith((running.url, "data:", "blob:")) else None
        ),
    )
    opened.goto(running.url)
    yield opened
    context.close()
    # a key that is asked for, a run that is deleted, a turn that is waited for: the browser logs these by itself
    expected = ("401", "404", "429")
    assert [line for line in said if not any(code in line for code in expected)] == []


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("RAGPOOL_SCREENSHOTS", str(tmp_path)))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def ask(page: Page, text: str) -> None:
    page.get_by_label("Question", exact=True).fill(text)
    page.keyboard.press("Enter")


def test_ask_and_watch_the_pool_grow(page: Page, shared: Served, shots: Path) -> None:
    expect(page.get_by_role("heading", name="Ask your documents")).to_be_visible()
    expect(page.locator("#welcome-state")).to_contain_text("documents to ask")
    page.screenshot(path=shots / "1-empty.png")
    shared.chat.gate.close()
    ask(page, question("Ardona"))
    expect(page.get_by_role("status").first).to_be_attached()
    expect(page.locator(".turn .working")).to_contain_text("Reading the question")
    expect(page.locator(".round .passage")).to_have_count(2)  # found before any model was asked
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.screenshot(path=shots / "2-working.png")
    shared.chat.gate.open()
    expect(page.locator(".answer")).to_contain_text(FOUNDER)
    rounds = page.locator(".round h3")
    expect(rounds).to_have_text(["Round 0", "Round 1"])
    assert page.locator(".passage.admitted mark").count() >= 2
    expect(page.locator(".slot.closed")).to_have_count(2)
    expect(page.locator("[role=meter]")).to_have_attribute("aria-valuenow", "1.00")
    expect(page.locator(".stopped")).to_contain_text("the evidence is complete")
    expect(page.locator(".turn-foot")).to_contain_text("answered")
    page.screenshot(path=shots / "3-answered.png")


def test_a_citation_shows_its_passage_and_opens_its_document(page: Page, shots: Path) -> None:
    ask(page, question("Brevia"))
    cite = page.locator(".cite").first
    cite.hover()
    expect(page.locator("#card")).to_contain_text("founder of Port Callan")
    page.screenshot(path=shots / "4-citation.png")
    cite.click()
    expect(page.locator("#document")).to_be_visible()
    expect(page.locator("#document-text mark")).to_contain_text("Bors Tamm")
    page.screenshot(path=shots / "5-document.png")
    page.keyboard.press("Escape")
    expect(page.locator("#document")).to_be_hidden()


def test_sources_by_arrow_and_the_last_question_again(page: Page, shared: Served) -> None:
    shared.chat.words = f"{FOUNDER} [1]. Selwick is the capital of Ardona [2]."
    ask(page, question("Ardona"))
    expect(page.locator(".turn-foot")).to_contain_text("passages")
    sources = page.locator(".sources .source")
    expect(sources).to_have_count(2)
    # Estrel's passage is cited for what it does not say
    expect(page.locator(".passage.used", has_text="Estrel")).to_have_count(0)
    sources.first.click()
    expect(page.locator("#document-at")).to_have_text("Source 1 of 2")
    first = page.locator("#document-title").inner_text()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#document-at")).to_have_text("Source 2 of 2")
    expect(page.locator("#document-title")).not_to_have_text(first)
    page.keyboard.press("ArrowRight")
    expect(page.locator("#document-title")).to_have_text(first)
    page.keyboard.press("Escape")
    expect(page.locator("#document")).to_be_hidden()
    page.locator("#question").focus()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#question")).to_have_value(question("Ardona"))
    page.locator("#documents .entry-main").first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#documents .entry-main").nth(1)).to_be_focused()


def test_what_the_documents_do_not_say_shows_what_came_nearest(page: Page, shots: Path) -> None:
    ask(page, "Who was the founder of the capital of Nowhere?")
    expect(page.locator(".turn-foot .chip")).to_have_text("not in the documents")
    expect(page.locator(".answer.refused")).to_contain_text("The documents do not answer this")
    near = page.locator(".nearest + .sources .source")
    expect(near).not_to_have_count(0)
    page.screenshot(path=shots / "6-refused.png")
    near.first.click()
    expect(page.locator("#document-text")).not_to_be_empty()


def test_a_server_that_is_not_reached(page: Page, shots: Path) -> None:
    page.route("**/v1/ask", lambda route: route.fulfill(status=404, body="gone"))
    ask(page, question("Ardona"))
    expect(page.locator(".turn .error")).to_have_text("the server answered 404")
    page.unroute("**/v1/ask")
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator(".answer")).to_contain_text(FOUNDER)


def test_stop_keeps_what_was_written(page: Page, shared: Served, shots: Path) -> None:
    shared.chat.pause, shared.chat.words = 0.1, " ".join(f"word{n}" for n in range(300))
    ask(page, question("Corvane"))
    expect(page.locator(".answer")).to_contain_text("word3")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".turn-foot .chip")).to_have_text("stopped")
    expect(page.locator(".answer")).to_contain_text("word3")
    page.screenshot(path=shots / "6-stopped.png")
    assert shared.parts.engine.busy == (0, 0)


def test_reload_finds_the_conversation_again(page: Page, shared: Served, shots: Path) -> None:
    ask(page, question("Ardona"))
    expect(page.locator(".turn-foot")).to_contain_text("answered")
    ask(page, question("Brevia"))
    expect(page.locator(".turn")).to_have_count(2)
    expect(page.locator(".turn-foot").nth(1)).to_contain_text("answered")
    page.reload()
    expect(page.locator(".turn")).to_have_count(2)
    expect(page.locator(".answer").first).to_contain_text(FOUNDER)
    assert page.locator(".round").count() >= 1
    page.get_by_role("button", name="New question").click()
    expect(page.locator(".turn")).to_have_count(0)
    page.locator("#conversations .entry-main").first.click()
    expect(page.locator(".turn")).to_have_count(2)
    with page.expect_download() as download:
        page.get_by_role("button", name="Markdown").last.click()
    assert FOUNDERS["Port Callan"] in Path(download.value.path()).read_text("utf-8")
    page.get_by_role("button", name="Ask again").last.click()
    expect(page.locator(".turn")).to_have_count(3)
    expect(page.locator(".turn-foot").nth(2)).to_contain_text("answered")
    page.get_by_text("passages from earlier in this conversation").click()
    expect(page.locator(".known .passage.used .title").first).to_have_text(re.compile("Port Callan|Brevia"))


def test_upload_and_ask_about_the_upload(page: Page, tmp_path: Path, shots: Path) -> None:
    (tmp_path / "Ironvale.txt").write_text("Ironvale is a country. The capital of Ironvale is Rookhaven.")
    (tmp_path / "Rookhaven.txt").write_text(
        "Rookhaven is a town. The founder of Rookhaven was Ines Cole, a smith."
    )
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    page.locator("#file").set_input_files(
        [tmp_path / n for n in ("Ironvale.txt", "Rookhaven.txt", "broken.pdf")]
    )
    expect(page.locator(".upload.failed")).to_have_count(1)
    page.screenshot(path=shots / "7-upload.png")
    expect(page.locator("#documents")).to_contain_text("Rookhaven")
    expect(page.locator("#documents")).to_contain_text("Ironvale")
    ask(page, question("Ironvale"))
    expect(page.locator(".answer")).to_contain_text("Ines Cole")


def test_more_files_than_the_rate_allows_wait_their_turn(
    browser: Browser, store: Path, tmp_path: Path
) -> None:
    files = [tmp_path / f"note{n}.txt" for n in range(14)]
    for file in files:
        file.write_text(f"The {file.stem} is a note.")
    with served(
        store, rate=60, waiting_documents=2
    ) as running:  # a burst of 15: less than half of what is asked
        pages = _page(browser, running)
        page = next(pages)
        page.locator("#file").set_input_files(files)
        for file in files:
            expect(page.locator("#documents")).to_contain_text(file.stem, timeout=120_000)
        expect(page.locator(".upload.failed")).to_have_count(0)
        next(pages, None)


def test_keyboard_alone(page: Page) -> None:
    page.locator("body").press("Tab")
    page.keyboard.press("/")
    page.get_by_label("Question", exact=True).fill("")
    page.keyboard.type(question("Ardona"))
    page.keyboard.press("Enter")
    expect(page.locator(".turn-foot")).to_contain_text("answered")
    page.locator(".cite").first.focus()
    expect(page.locator("#card")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.locator("#document")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#document")).to_be_hidden()


def test_on_a_phone(page: Page, shots: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    ask(page, question("Ardona"))
    expect(page.locator(".turn-foot")).to_contain_text("answered")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.screenshot(path=shots / "8-phone.png")
    page.locator("#show-pool").click()
    expect(page.locator(".round").first).to_be_in_viewport(ratio=0.9)  # it has slid in
    page.screenshot(path=shots / "9-phone-evidence.png")
    page.keyboard.press("Escape")
    page.locator("#menu").click()
    expect(page.get_by_role("button", name="New question")).to_be_in_viewport()


CONTRAST = """
() => {
  const parse = (c) => { const n = c.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3]));
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.unshift(parse(getComputedStyle(e).backgroundColor));
    return layers.reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    const style = getComputedStyle(element), back = ground(element);
    const a = light(over(parse(style.color), back)), b = light(back);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) low.push(`${element.className || element.tagName} ${ratio.toFixed(2)} ${element.textContent.slice(0, 30)}`);
  }
  return low;
}
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_is_wcag_aa(page: Page, theme: str, shots: Path) -> None:
    page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
    ask(page, question("Ardona"))
    expect(page.locator(".turn-foot")).to_contain_text("answered")
    page.locator(".passage summary").first.click()
    page.wait_for_timeout(500)  # the passages fade in
    assert page.evaluate(CONTRAST) == []
    page.screenshot(path=shots / f"10-{theme}.png")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark or light").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.wait_for_timeout(500)
    assert page.evaluate(CONTRAST) == []


def test_every_control_has_a_name(page: Page) -> None:
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea")]
            .filter((e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).map((e) => e.id || e.className)"""
    )
    assert nameless == []


def test_hostile_documents_stay_text(browser: Browser, store: Path) -> None:
    evil = "<img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script><a href='javascript:window.pwned=1'>x</a>"
    with served(store) as running:
        for country, town in (("Ironvale", f"Rook{evil}"),):
            text = f"Ironvale is a country. {evil} The capital of {country} is Rookhaven."
            files = {"file": (f"{evil.replace('/', '')}.txt", text.encode())}
            running.http.post("/v1/documents", files=files)
            name = f"The founder of Rookhaven was Ines Cole, a smith. {evil} {town}"
            running.http.post(
                "/v1/documents", files={"file": ("Rookhaven.md", f"# {evil}\n\n{name}".encode())}
            )
        running.eventually(
            lambda: all(
                u["state"] in ("done", "failed") for u in running.http.get("/v1/documents").json()["uploads"]
            )
        )
        pages = _page(browser, running)
        page = next(pages)
        ask(page, f"{question('Ironvale')} {evil}")
        expect(page.locator(".turn-foot")).to_be_visible()
        page.wait_for_timeout(300)
        page.locator(".passage summary").first.click()
        page.locator(".passage .link").first.click()
        expect(page.locator("#document-text")).not_to_be_empty()
        page.reload()
        expect(page.locator(".turn")).to_have_count(1)
        assert page.evaluate("window.pwned") is None
        assert page.locator("img[src=x], .turn script, .pool script, a[href^=javascript]").count() == 0
        next(pages, None)


def test_a_key_is_asked_for(browser: Browser, store: Path) -> None:
    with served(store) as running:
        key = running.key()
        pages = _page(browser, running)
        page = next(pages)
        expect(page.locator("#key")).to_be_visible()
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#welcome-state")).to_contain_text("documents to ask")
        ask(page, question("Ardona"))
        expect(page.locator(".answer")).to_contain_text(FOUNDER)
        expect(page.locator("#shared")).to_be_visible()
        assert key not in page.url
        next(pages, None)
