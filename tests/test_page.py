"""The page to draw on, in a real browser before the real server, by mouse, by keyboard and with pictures.

The picture of it in docs/ is taken here: `pytest tests/test_page.py --screenshots docs`.
"""

from __future__ import annotations

import base64
import io
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import Checkout, answering, free_port, lacking
from PIL import Image, ImageDraw, ImageFilter
from playwright.sync_api import Browser, Page, expect
from strokes import drawings

from mnistflow.data import datasets

pytestmark = pytest.mark.xdist_group("page")  # one server and one browser for all

FAST, MLP = "fast.safetensors", "mlp.safetensors"
SHOWN = "body[data-state=shown]"


@pytest.fixture(scope="module")
def address(serving: Checkout) -> Iterator[str]:
    """Where `mnistflow serve` answers, with two networks."""
    port = free_port()
    command = [sys.executable, "-m", "mnistflow", "serve", "--port", str(port), "--model", FAST, "--model", MLP]
    environment = {**serving.environment, "PYTHONPATH": "src"}
    with answering(command, f"http://127.0.0.1:{port}/healthz", serving.folder, environment):
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 1200, "height": 900}) as context:
        yield opened(context.new_page(), address)


def opened(page: Page, address: str) -> Page:
    page.goto(address)
    page.wait_for_selector(SHOWN)
    expect(page.locator(".column")).to_have_count(2)
    return page


MOVES = """(sheet, places) => {
    for (const [clientX, clientY] of places)
        sheet.dispatchEvent(new PointerEvent("pointermove", { pointerId: 1, isPrimary: true, clientX, clientY }));
}"""


def draw(page: Page, strokes: Sequence[np.ndarray], *, quick: bool = False) -> None:
    """Draw with the mouse; ``quick``: so fast that all its moves come within one frame; they usually take one each."""
    area = page.locator("#sheet").bounding_box()
    assert area is not None
    for stroke in strokes:
        places = stroke * [area["width"], area["height"]] + [area["x"], area["y"]]
        page.mouse.move(*places[0])
        page.mouse.down()
        if quick:
            page.locator("#sheet").evaluate(MOVES, places[1:].tolist())
        else:
            for place in places[1:]:
                page.mouse.move(*place)
        page.mouse.up()


def read(page: Page, model: str = FAST) -> str:
    """What a network is shown to have read, once it is."""
    page.wait_for_selector(SHOWN)
    return "".join(page.locator(f".column[data-model='{model}'] .digit b").all_inner_texts())


SEVEN = [np.array([[0.3, 0.25], [0.5, 0.25], [0.72, 0.24], [0.6, 0.45], [0.5, 0.65], [0.44, 0.8]])]


def test_what_people_draw_is_recognised(page: Page) -> None:
    """Twenty drawings of each digit; each of its shapes is drawn slowly at first."""
    every = list(drawings(20, seed=0))
    assert len(every) == 200
    page.get_by_role("checkbox", name=MLP).uncheck()
    wrong: list[tuple[int, int, str]] = []
    for number, drawing in enumerate(every):
        draw(page, drawing.strokes, quick=number >= 40)
        if (found := read(page)) != str(drawing.digit):
            wrong.append((number, drawing.digit, found))
        page.locator("#clear").click()
    print(f"{200 - len(wrong)} of 200 recognised; number, digit, read as: {wrong}")
    assert len(wrong) <= 10, wrong


def test_two_networks_read_the_same_stroke(page: Page, pytestconfig: pytest.Config, tmp_path: Path) -> None:
    draw(page, SEVEN)
    for model in (FAST, MLP):
        assert read(page, model) == "7"
        column = page.locator(f".column[data-model='{model}']")
        expect(column.locator(".bars li")).to_have_count(10)
        expect(column.locator(".bars li.first .name")).to_have_text("7")
        shares = [float(text.rstrip("\u00a0%")) for text in column.locator(".bars .value").all_inner_texts()]
        assert sum(shares) == pytest.approx(100, abs=1)
        seen = column.locator(".seen canvas")
        assert seen.evaluate("canvas => [canvas.width, canvas.height]") == [28, 28]
        assert len(set(seen.evaluate("canvas => [...canvas.getContext('2d').getImageData(0, 0, 28, 28).data]"))) > 10
    assert page.locator(f".column[data-model='{FAST}'] .maps").count() >= 2
    expect(page.locator(f".column[data-model='{MLP}']")).to_contain_text("No convolutions")
    expect(page.get_by_role("status")).to_contain_text(f"{FAST} reads 7")
    page.get_by_role("checkbox", name=FAST).uncheck()
    expect(page.locator(".column")).to_have_count(1)
    assert read(page, MLP) == "7"
    page.get_by_role("checkbox", name=FAST).check()
    folder = pytestconfig.getoption("screenshots")
    if folder:
        assert read(page) == "7"
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)  # until the bars have moved
        picture = Path(folder) / "draw.png"
        page.screenshot(path=picture, full_page=True)
        assert picture.stat().st_size < 150_000


def test_undo_and_clear(page: Page) -> None:
    draw(page, SEVEN)
    assert read(page) == "7"
    draw(page, [np.array([[0.05, 0.2], [0.05, 0.5], [0.05, 0.8]])])
    assert read(page) == "17"
    expect(page.locator(".box")).to_have_count(2)
    page.get_by_role("button", name="Undo").click()
    assert read(page) == "7"
    page.get_by_role("button", name="Clear").click()
    assert read(page) == ""
    expect(page.get_by_role("button", name="Clear")).to_be_disabled()
    page.keyboard.press("Control+z")
    assert read(page) == "7"


def test_another_of_several_digits_can_be_looked_into(page: Page) -> None:
    draw(page, [SEVEN[0] * 0.6, np.array([[0.8, 0.2], [0.8, 0.5], [0.8, 0.8]])])
    assert read(page) == "71"
    first = page.locator(f".column[data-model='{FAST}']")
    expect(first.locator(".bars li.first .name")).to_have_text("7")
    first.locator(".digit").nth(1).click()
    expect(first.locator(".bars li.first .name")).to_have_text("1")
    page.wait_for_selector(SHOWN)
    assert first.locator(".maps").count() >= 2


def photograph(image: np.ndarray) -> bytes:
    """A test image as ink on paper under a lamp, photographed."""
    random = np.random.default_rng(3)
    ink = (
        Image.fromarray(image)
        .resize((420, 420), Image.Resampling.BICUBIC)
        .rotate(6)
        .filter(ImageFilter.GaussianBlur(2))
    )
    down, across = np.mgrid[0:600, 0:800] / 600
    light = 210 - 70 * across + 25 * down
    light[90:510, 200:620] *= 1 - 0.75 * np.asarray(ink) / 255
    noisy = np.clip(light + random.normal(0, 4, light.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).convert("RGB").save(file, "JPEG", quality=85)
    return file.getvalue()


HANDED_OVER = """([kind, name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  const event = kind === "drop"
    ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
    : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true });
  document.querySelector("#sheet").dispatchEvent(event);
}"""


@pytest.mark.parametrize("way", ["drop", "paste", "choose"])
def test_a_photograph_is_recognised(page: Page, mnist_folder: Path, way: str) -> None:
    test = datasets.build("mnist", {}).read(mnist_folder.parents[1])[1]
    for number in (0, 1, 4):
        data = photograph(np.asarray(test.images[number]))
        if way == "choose":
            page.locator("#file").set_input_files({"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": data})
        else:
            page.evaluate(HANDED_OVER, [way, "photo.jpg", "image/jpeg", base64.b64encode(data).decode()])
        page.wait_for_selector("body[data-state=asking]", timeout=2000, state="attached")
        expect(page.locator(f".column[data-model='{FAST}'] .digit b")).to_have_text(str(int(test.labels[number])))
        expect(page.locator(".box")).to_have_count(1)
        page.locator("#clear").click()
        assert read(page) == ""


def test_error_messages_of_the_server_are_shown(page: Page) -> None:
    page.evaluate(HANDED_OVER, ["drop", "words.txt", "text/plain", base64.b64encode(b"no picture").decode()])
    expect(page.get_by_role("alert")).to_contain_text("the image is not a supported image")
    draw(page, SEVEN)
    assert read(page) == "7"
    expect(page.get_by_role("alert")).to_be_hidden()


def test_an_empty_picture_is_said_to_be_one(page: Page) -> None:
    file = io.BytesIO()
    Image.new("L", (300, 200), 255).save(file, "PNG")
    page.locator("#file").set_input_files({"name": "x.png", "mimeType": "image/png", "buffer": file.getvalue()})
    expect(page.locator(".column").first).to_contain_text("Nothing is written there.")


def test_what_is_no_digit_is_said_to_be_none(page: Page) -> None:
    page.get_by_role("checkbox", name=MLP).uncheck()
    cross = ([[0.3, 0.2], [0.48, 0.5], [0.65, 0.8]], [[0.65, 0.2], [0.48, 0.5], [0.3, 0.8]])
    draw(page, [np.array(stroke) for stroke in cross])
    assert read(page) == "?"
    expect(page.locator(".digit i")).to_have_text("no digit")
    expect(page.get_by_role("status")).to_contain_text(f"{FAST} reads no digit.")
    page.get_by_role("button", name="Clear").click()
    draw(page, SEVEN)
    assert read(page) == "7"
    expect(page.locator(".digit i")).to_have_count(0)


def test_a_page_of_numbers_has_a_box_for_each_digit(page: Page, mnist_folder: Path) -> None:
    """Two lines of three test digits each, in printed boxes."""
    test = datasets.build("mnist", {}).read(mnist_folder.parents[1])[1]
    sheet = Image.new("L", (420, 320), 245)
    pen = ImageDraw.Draw(sheet)
    for place in range(6):
        left, top = 30 + 120 * (place % 3), 30 + 140 * (place // 3)
        pen.rectangle((left, top, left + 110, top + 120), outline=120, width=2)
        digit = Image.fromarray(np.asarray(test.images[place])).resize((84, 84), Image.Resampling.BICUBIC)
        sheet.paste(20, (left + 13, top + 18), digit)
    file = io.BytesIO()
    sheet.save(file, "PNG")
    page.locator("#file").set_input_files({"name": "x.png", "mimeType": "image/png", "buffer": file.getvalue()})
    expect(page.locator(".box")).to_have_count(6)
    assert read(page) == "".join(str(int(label)) for label in test.labels[:6])
    tops = page.locator(".box").evaluate_all("boxes => boxes.map(box => Math.round(box.getBoundingClientRect().top))")
    assert max(tops[:3]) < min(tops[3:]), "line by line"


def test_it_can_be_drawn_on_by_keyboard(page: Page) -> None:
    sheet = page.get_by_role("application", name="Sheet to draw on")
    for _ in range(3):
        page.keyboard.press("Tab")
        if sheet.evaluate("sheet => sheet === document.activeElement"):
            break
    expect(sheet).to_be_focused()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    expect(page.get_by_role("status")).to_have_text("The pen is down.")
    for key, times in (("ArrowRight", 16), ("ArrowDown", 20)):
        for _ in range(times):
            page.keyboard.press(key)
    page.keyboard.press("Space")
    assert read(page) == "7"
    expect(page.get_by_role("status")).to_contain_text("reads 7")
    page.keyboard.press("Delete")
    assert read(page) == ""
    for name in ("Undo", "Picture", "Width of the pen", FAST, MLP):  # everything else can be reached as well
        page.get_by_label(name).or_(page.get_by_role("button", name=name)).first.focus()
        assert page.evaluate("document.activeElement !== document.body"), name


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1200])
def test_it_fits_and_needs_nothing_from_elsewhere(browser: Browser, address: str, width: int, scheme: str) -> None:
    with browser.new_context(
        viewport={"width": width, "height": 740}, color_scheme="dark" if scheme == "dark" else "light"
    ) as context:
        page = context.new_page()
        asked: list[str] = []
        messages: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        opened(page, address)
        draw(page, SEVEN)
        assert read(page) == "7"
        assert page.evaluate("document.documentElement.scrollWidth") == width
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, paper[4:-1].split(","))) > 384) == (scheme == "light")
        page.goto(f"{address}docs")
        page.wait_for_selector(SHOWN)
        expect(page.locator(".opblock-summary-control", has_text="/predict")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == width
    assert len(asked) > 5
    assert all(url.startswith((address, f"blob:{address}")) for url in asked), asked
    assert messages == []


def test_animations_respect_prefers_reduced_motion(browser: Browser, address: str) -> None:
    with browser.new_context(reduced_motion="reduce") as context:
        page = opened(context.new_page(), address)
        assert page.locator(".fill").first.evaluate("bar => getComputedStyle(bar).transitionDuration") == "0s"


def test_only_the_last_answer_counts(page: Page) -> None:
    """The first answer is held back until the second one has been shown."""
    held = []

    def hold(route: object) -> None:
        held.append(route)

    page.route("**/predict?*", hold, times=1)
    with page.expect_request("**/predict?*"):
        draw(page, SEVEN)
    while not held:  # which comes a moment after the request
        page.wait_for_timeout(10)
    page.locator("#clear").click()
    draw(page, [np.array([[0.5, 0.2], [0.5, 0.5], [0.5, 0.8]])])
    assert read(page) == "1"
    held[0].continue_()  # type: ignore[attr-defined]
    page.wait_for_timeout(400)
    assert read(page) == "1"


# ---------------------------------------------------------------------------------------------------------------------
# Behind a reverse proxy

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location /proxy/8000/ {{ proxy_pass http://127.0.0.1:{stripped}/; proxy_set_header Host $http_host; }}
        location /own-host/ {{ proxy_pass http://127.0.0.1:{stripped}/; }}
        location /whole/ {{ proxy_pass http://127.0.0.1:{whole}; proxy_set_header Host $http_host; }}
    }}
}}
"""


@pytest.fixture(scope="module")
def proxy(serving: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where nginx answers, before two servers: one that sees paths without the prefix, and one with it."""
    nginx = shutil.which("nginx", path=f"{serving.environment['PATH']}:/usr/sbin")
    if nginx is None:
        lacking("needs nginx, as a reverse proxy; on Debian: apt-get install nginx-light")
    folder, port, stripped, whole = tmp_path_factory.mktemp("nginx"), free_port(), free_port(), free_port()
    (folder / "nginx.conf").write_text(
        NGINX.format(folder=folder, port=port, stripped=stripped, whole=whole), encoding="utf-8"
    )
    serve = [sys.executable, "-m", "mnistflow", "serve", "--model", FAST, "--model", MLP]
    environment = {**serving.environment, "PYTHONPATH": "src"}
    with (
        answering(
            [*serve, "--port", str(stripped), "--allowed-host", f"localhost:{port}"],
            f"http://127.0.0.1:{stripped}/healthz",
            serving.folder,
            environment,
        ),
        answering(
            [*serve, "--port", str(whole), "--root-path", "/whole"],
            f"http://127.0.0.1:{whole}/healthz",
            serving.folder,
            environment,
        ),
        answering(
            [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")],
            f"http://127.0.0.1:{port}/proxy/8000/healthz",
            folder,
            environment,
        ),
    ):
        yield f"http://localhost:{port}"


@pytest.mark.parametrize("prefix", ["/proxy/8000/", "/own-host/", "/whole/"])
def test_the_pages_work_behind_a_reverse_proxy(browser: Browser, proxy: str, prefix: str) -> None:
    with browser.new_context(viewport={"width": 1200, "height": 900}) as context:
        page = opened(context.new_page(), f"{proxy}{prefix}")
        draw(page, SEVEN)
        assert read(page) == "7"
        page.get_by_role("link", name="The API behind it").click()
        page.wait_for_selector(SHOWN)
        page.locator(".opblock-summary-control", has_text="/healthz").click()
        page.get_by_role("button", name="Try it out").click()
        with page.expect_response(f"{proxy}{prefix}healthz") as answer:
            page.get_by_role("button", name="Execute").click()
        assert answer.value.status == 200
        page.get_by_role("link", name="Draw a digit").click()
        page.wait_for_selector(SHOWN)
        assert page.url == f"{proxy}{prefix}"
