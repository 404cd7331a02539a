"""The search page in a real browser: Debian's Chromium, `make test-browser`."""

import json
import shutil
from collections.abc import Callable
from importlib.resources import files
from urllib.parse import quote

import pytest
from checkouts import DATA, GERMAN, PICTURES
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait
from test_search import RUN, ranked, served

pytestmark = pytest.mark.browser
GERMAN_RUN = f"results/runs/{GERMAN}/seed0"
SCREENS = [(width, height, scheme) for width, height in ((1400, 900), (390, 844)) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def browser():
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver):
        pytest.fail("no browser here: apt-get install chromium chromium-driver (`make test-browser` needs them)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as found:
        yield found


@pytest.fixture(scope="module")
def page(made, tmp_path_factory):
    project = made.copy(tmp_path_factory.mktemp("page") / "project")
    with served(project) as address:
        yield project, address


@pytest.fixture(scope="module")
def german_page(german, tmp_path_factory):
    project = german.copy(tmp_path_factory.mktemp("german") / "project")
    with served(project, GERMAN_RUN, f"data/{PICTURES}/features/descriptor.parquet") as address:
        yield project, address


def screen(browser, width: int, height: int, scheme: str) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def until(browser, condition: Callable):
    return WebDriverWait(browser, 20).until(lambda _: condition())


def opened(browser, address: str, text: str = "") -> None:
    browser.get("about:blank")  # otherwise only the fragment changes
    browser.get(address)
    until(browser, lambda: browser.find_element(By.ID, "about").text)
    if text:
        browser.find_element(By.ID, "text").send_keys(text)
        until(browser, lambda: columns(browser))


def columns(browser) -> list[list[str]]:
    """The ids found by each run, in order."""
    found = browser.find_elements(By.CSS_SELECTOR, "#answers > div")
    return [[hit.text for hit in column.find_elements(By.CSS_SELECTOR, ".hit .id")] for column in found]


def seen(browser) -> bool:
    """Whether the first picture is shown instead of an empty frame."""
    return browser.execute_script(
        "const [m] = document.querySelectorAll('.hit img, .hit video');"
        "return m && (m.naturalWidth || (m.readyState > 1 && m.videoWidth)) > 0"
    )


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_the_right_picture_stands_first_where_the_table_says_so(browser, page, monkeypatch, lang):
    project, address = page
    monkeypatch.chdir(project.folder)
    table = ranked(RUN)
    first = table[table["rank"] == 1].iloc[0]
    text = first["text"] if lang == "zh" else english(first["item_id"])
    screen(browser, 1400, 900, "light")
    opened(browser, address, text)
    one, other = columns(browser)
    assert len(one) == len(other) > 3
    said = [element.text for element in browser.find_elements(By.CSS_SELECTOR, "#answers > div > p")]
    assert len(said) == 2 and all("stands at rank" in line for line in said)
    if lang == "zh":
        assert one[0] == first["item_id"]
        framed = browser.find_elements(By.CSS_SELECTOR, "#answers > div:first-child .hit.right .id")
        assert [element.text for element in framed] == [first["item_id"]]
    until(browser, lambda: seen(browser))


def test_a_german_caption_finds_its_picture(browser, german_page, monkeypatch):
    project, address = german_page
    monkeypatch.chdir(project.folder)
    table = ranked(GERMAN_RUN, PICTURES)
    caption = table[table["text"].str.contains("[äöüß]")].sort_values("rank").iloc[0]
    opened(browser, address, caption["text"])
    [found] = columns(browser)
    assert found.index(caption["item_id"]) + 1 == caption["rank"]
    framed = browser.find_elements(By.CSS_SELECTOR, ".hit.right .id")
    assert [element.text for element in framed] == [caption["item_id"]]
    assert f"stands at rank {caption['rank']}" in browser.find_element(By.CSS_SELECTOR, "#answers > div > p").text
    until(browser, lambda: seen(browser))


def english(item: str) -> str:
    import pandas as pd

    captions = pd.read_parquet(f"data/{DATA}/captions.parquet")
    return captions[(captions["item_id"] == item) & (captions["lang"] == "en")]["text"].iloc[0]


def test_a_picture_is_dropped(browser, page):
    project, address = page
    opened(browser, address)
    clip = next((project.folder / "data/raw" / DATA / "videos").glob("*_test_00003.mp4"))
    browser.find_element(By.ID, "file").send_keys(str(clip))
    until(browser, lambda: columns(browser))
    assert columns(browser)[0][0] == clip.stem
    assert browser.find_elements(By.CSS_SELECTOR, ".captions li")


def test_the_keyboard_alone_is_enough(browser, page):
    opened(browser, page[1])
    press = webdriver.ActionChains(browser)
    press.send_keys("red").perform()  # the field has the focus from the start
    until(browser, lambda: columns(browser))
    summary = "document.activeElement.closest('.hit') && document.activeElement.tagName === 'SUMMARY'"
    for _ in range(30):
        webdriver.ActionChains(browser).send_keys(Keys.TAB).perform()
        if browser.execute_script(f"return {summary}"):
            break
    webdriver.ActionChains(browser).send_keys(Keys.ENTER).perform()
    until(browser, lambda: browser.execute_script("return document.activeElement.closest('details').open"))
    until(browser, lambda: browser.find_element(By.CSS_SELECTOR, ".hit details[open] .why").text)


@pytest.mark.parametrize(
    ("words", "direction"), [(["🟥", "a", "red", "star"], "ltr"), (["نجمة", "حمراء"], "rtl"), (["ดำ", "น้ำ"], "ltr")]
)
def test_words_of_any_script_are_marked_whole(browser, page, words, direction):
    text = ("" if "ดำ" in words else " ").join(words)
    browser.get("about:blank")
    browser.get(f"{page[1]}#{quote(text)}")
    until(browser, lambda: columns(browser))
    browser.find_element(By.CSS_SELECTOR, ".hit summary").click()
    why = browser.find_element(By.CSS_SELECTOR, ".hit .why")
    until(browser, lambda: why.text)
    assert [mark.text for mark in why.find_elements(By.TAG_NAME, "mark")] == words
    assert why.get_attribute("textContent") == text
    for shown in (why, browser.find_element(By.ID, "text")):
        assert shown.value_of_css_property("direction") == direction


@pytest.mark.parametrize(("width", "height", "scheme"), SCREENS)
def test_everybody_can_read_it_on_every_screen(browser, page, width, height, scheme):
    """No WCAG A or AA rule that axe-core can check is broken, contrast included; nothing overflows sideways."""
    screen(browser, width, height, scheme)
    opened(browser, page[1], "a red star")
    browser.find_element(By.CSS_SELECTOR, "#samples summary").click()
    browser.find_element(By.CSS_SELECTOR, ".hit summary").click()
    until(browser, lambda: browser.find_element(By.CSS_SELECTOR, ".hit .why").text)
    browser.execute_script(files("axe_core_python").joinpath("axe.min.js").read_text())
    rules = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21aa"]}}
    run = "const done = arguments[1]; axe.run(document, arguments[0]).then(done, error => done({error: String(error)}))"
    found = browser.execute_async_script(run, rules)
    assert "error" not in found
    assert [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in found["violations"]] == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_the_table_of_a_report_is_sorted_by_a_click(browser, page):
    project, _ = page
    assert project.ccr("report", "tiny").returncode == 0
    browser.get(f"file://{project.folder}/results/report/tiny.html")

    def methods() -> list[str]:
        return [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, "table.sortable td:first-child")]

    table = json.loads(project.read("results/tiny.json"))
    by_map = {method: table[f"vatex/lexicon/descriptor/zh/{method}"]["t2v_map"] for method in ("baseline", "cl2cm")}
    best_first = sorted(by_map, key=by_map.get, reverse=True)
    assert len(set(by_map.values())) == 2
    head = next(x for x in browser.find_elements(By.CSS_SELECTOR, "table.sortable th button") if x.text == "t2v mAP")
    head.click()
    assert methods() == best_first
    head.click()
    assert methods() == best_first[::-1]


def test_no_request_leaves_the_machine_and_nothing_fails(browser, page):
    _, address = page
    browser.get_log("performance"), browser.get_log("browser")
    opened(browser, address, "a blue ring")
    until(browser, lambda: seen(browser))
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert len(asked) > 5
    assert [url for url in asked if not url.startswith((address, "about:"))] == []
    assert [entry["message"] for entry in browser.get_log("browser")] == []
