"""The report page: nothing of the data is markup, nothing asks the network, and it works."""

import base64
import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kopwijzer.figures import Outcome, choose_thresholds, measure
from kopwijzer.page import render

LABELS = ["interview", "match_report", "other", "transfer_rumour"]
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;{{ 7 * 7 }}{% raw %}$x$"


def outcome(n: int = 300, labels: list[str] = LABELS, seed: int = 0, **changes: Any) -> Outcome:
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.full(len(labels), 0.3), n)
    truth = [labels[rng.choice(len(labels), p=row)] for row in proba]
    best = [labels[i] for i in proba.argmax(axis=1)]
    reasons = [
        "out_of_scope" if label == "other" else "low_confidence" if sure < 0.5 else None
        for label, sure in zip(best, proba.max(axis=1), strict=True)
    ]
    clubs = ("Genk", "Ajax", "Zulte", "NEC", "Sparta")
    return replace(
        Outcome(
            truth=truth,
            proba=proba,
            classes=labels,
            predicted=[
                "other" if reason else label for label, reason in zip(best, reasons, strict=True)
            ],
            reasons=reasons,
            sources=[f"krant {i % 3}" for i in range(n)],
            headlines=[f"{clubs[i % 5]} wint duel nummer {i}" for i in range(n)],
            teasers=[f"De trainer van {clubs[(i + 1) % 5]} zag het." for i in range(n)],
        ),
        **changes,
    )


def page(own: Outcome | None = None, **changes: Any) -> str:
    own = own or outcome()
    found = measure(own, n_bootstrap=50)
    arguments: dict[str, Any] = {
        "facts": {
            "version": "football-nl v3",
            "created": "2026-11-25",
            "written by": "kopwijzer 1",
        },
        "figures": {"random": found, "grouped": found},
        "honest": "grouped",
        "outcome": own,
        "thresholds": {"interview": 0.5},
        "sentences": ["interview: 96.0% right above 0.500"],
        "strongest": {"interview": [("ik ben", 3.0), ("zegt", 1.5)]},
        "curve": [(50, found), (100, found), (200, found)],
        "language": "nl",
    }
    return render(**{**arguments, **changes})


@cache
def plain() -> str:
    """The page as it is without changes; drawn once."""
    return page()


class _Reader(HTMLParser):
    """Elements with their attributes, and all text outside of script and style."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"{tag} has an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input", "br", "use", "path", "img", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            assert tag == "path", f"</{tag}> closes {self.open[-1:]}"

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.text += data


def parsed(html: str) -> _Reader:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


# What stands on it -----------------------------------------------------------------------------


def test_the_page_says_what_was_measured() -> None:
    own = outcome()
    found = measure(own, n_bootstrap=50)
    html = page(own)
    told = parsed(html)
    text = " ".join(told.text.split())
    assert html.startswith("<!doctype html>")
    assert "football-nl v3" in text
    assert f"Macro-F1 {found.macro_f1.value:.3f}" in text
    assert "on 300 rows that the model had not seen, measured by grouped" in text
    for label in LABELS:
        assert f"{found.labels[label].f1.value:.3f}" in text
    for title in (
        "Confusion matrix",
        "Precision and recall by label",
        "Reliability",
        "Coverage and accuracy",
        "Learning curve",
        "F1 by source",
        "Most confident mistakes",
        "Abstentions",
        "Near the border",
    ):
        assert title in text
    assert "interview: 96.0% right above 0.500" in text
    assert "ik ben" in text
    assert "not sure enough" in text


def test_examples_are_the_right_rows_in_the_right_order() -> None:
    own = outcome(60)
    html = page(own)
    tables = re.findall(r'<tbody class="examples">(.*?)</tbody>', html, re.DOTALL)
    mistakes, silent, border = (
        [int(number) for number in re.findall(r"duel nummer (\d+)", table)] for table in tables
    )
    best, sure = own.best, own.confidence
    assert set(mistakes) == {i for i in range(60) if best[i] != own.truth[i]}
    assert [sure[i] for i in mistakes] == sorted((sure[i] for i in mistakes), reverse=True)
    assert set(silent) == {
        i for i in range(60) if own.reasons[i] is not None and own.truth[i] != "other"
    }
    apart = np.diff(np.sort(own.proba, axis=1)[:, -2:], axis=1)[:, 0]
    assert set(border) == set(np.flatnonzero(apart < 0.2).tolist())
    assert [apart[i] for i in border] == sorted(apart[i] for i in border)


def test_long_tables_are_cut_and_say_so() -> None:
    own = outcome(1500)
    html = page(own)
    n = sum(best != truth for best, truth in zip(own.best, own.truth, strict=True))
    assert n > 200
    assert f"The first 200 of {n:,}." in html


def test_the_same_figures_give_the_same_bytes() -> None:
    assert page() == plain()


def test_the_readers_own_matplotlib_settings_change_nothing() -> None:
    import matplotlib as mpl

    before = plain()
    with mpl.rc_context({"font.size": 30, "axes.linewidth": 9, "xtick.major.size": 20}):
        assert page() == before
        assert mpl.rcParams["font.size"] == 30


# What must not happen --------------------------------------------------------------------------


def test_text_from_data_is_never_markup() -> None:
    hostile = ["interview", HOSTILE, "other", "_a $b$ \\$ ü'\"]]>"]
    own = outcome(labels=hostile, sources=[HOSTILE, "_b"] * 150)
    own = replace(own, headlines=[HOSTILE] * 300, teasers=[HOSTILE] * 300)
    found = measure(own, n_bootstrap=20)
    html = page(
        own,
        facts={"version": HOSTILE, HOSTILE: HOSTILE, "written by": HOSTILE},
        figures={HOSTILE: found, "grouped": found},
        honest=HOSTILE,
        sentences=[HOSTILE],
        strongest={HOSTILE: [(HOSTILE, 2.0), (HOSTILE, -1.0)]},
        thresholds={HOSTILE: 0.4},
        language='nl" onload="alert(3)',
    )
    told = parsed(html)
    names = [tag for tag, _ in told.elements]
    assert names.count("script") == 1
    assert "img" not in names
    assert not any(name.startswith("on") for _, attributes in told.elements for name in attributes)
    # And it is all there to read, signs and all.
    assert told.text.count(HOSTILE) > 100
    assert "49{%" not in told.text
    # In the pictures too, where matplotlib would have taken it for mathematics.
    picture = re.findall(r"<svg .*?</svg>", html, re.DOTALL)[0]
    assert "_a $b$ \\$ ü'\"]]>" in parsed(picture).text


@pytest.mark.parametrize(
    "sign", ["\ud800", "\0", "\x0b", "\u202e", "⚽", "試合", "]]>", "\\1", "$"]
)
def test_no_sign_stops_the_page(sign: str) -> None:
    labels = [f"a{sign}", "b", "other"]
    own = outcome(80, labels, headlines=[sign * 3] * 80, sources=[f"x{sign}", "y"] * 40)
    html = page(own, facts={"version": sign}, strongest={sign: [(sign, 1.0)]})
    assert html.encode()  # a file can hold it
    assert "Confusion matrix" in html


def test_nothing_is_asked_of_the_network() -> None:
    html = plain()
    told = parsed(html)
    for tag, attributes in told.elements:
        for name, value in attributes.items():
            if name in ("src", "href", "action", "srcset", "poster", "data", "xlink:href"):
                assert (value or "").startswith(("#", "data:,")), f"{tag} {name}={value}"
    assert not re.findall(r"url\((?!#)", html)
    assert "@import" not in html
    without_names = re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)
    assert "//" not in re.sub(r"<script>.*?</script>", "", without_names, flags=re.DOTALL)


def test_the_policy_lets_in_this_script_and_no_other() -> None:
    html = page(facts={"version": "sha256-of-the-script </title><script>alert(1)</script>"})
    script = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert len(policy) == 1
    rules = dict(rule.strip().split(" ", 1) for rule in policy[0].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"


# For every reader ------------------------------------------------------------------------------


def test_every_picture_has_a_name_a_caption_and_numbers() -> None:
    html = plain()
    figures = re.findall(r"<figure>(.*?)</figure>", html, re.DOTALL)
    assert len(figures) == 6
    for figure in figures:
        assert re.search(r'<svg [^>]*role="img" aria-label="[^"]+"><title>[^<]+</title>', figure)
        assert re.search(r"<figcaption>[^<]+</figcaption>", figure)
        assert "<details>" in figure
        # Letters are letters, in colours that follow the theme.
        assert "<text" in figure
        assert "var(--ink)" in figure
        assert not re.search(r"#0[0-9a]0[0-9a]0[0-9a]", figure)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', html)) <= set(ids)


def test_headlines_are_marked_as_the_language_they_are_in() -> None:
    html = page(language="nl-BE")
    assert html.count('<td class="text" lang="nl-BE" dir="auto">') > 10
    assert '<html lang="en">' in html
    assert ' lang=""' not in page(language="no language")


def test_every_heading_of_a_table_has_a_scope() -> None:
    told = parsed(plain())
    assert all("scope" in attributes for tag, attributes in told.elements if tag == "th")
    assert [tag for tag, _ in told.elements].count("h1") == 1


# Thin data -------------------------------------------------------------------------------------


def test_what_is_too_thin_is_not_drawn_and_says_so() -> None:
    html = page(outcome(12, sources=["krant"] * 12), curve=[])
    assert html.count('role="img"') == 1  # only counts stand in the confusion matrix
    for sentence in (
        "No label has 20 rows or more: not drawn.",
        "No bin of confidence has 20 rows or more: not drawn.",
        "taken for a label: not drawn.",
        "Too few rows to draw how the figures grow with them.",
        "The rows name fewer than two sources of 20 rows or more: not drawn.",
        "its figures say little.",
        "So few rows say little.",
    ):
        assert sentence in html


def test_without_any_figures_the_page_says_that_nothing_is_known() -> None:
    html = page(figures={}, outcome=None, strongest={}, sentences=(), curve=())
    assert "There were too few rows to measure on" in html
    assert "<figure>" not in html
    parsed(html)


@pytest.mark.parametrize("n", [1, 2, 25])
@pytest.mark.parametrize("labels", [["a"], ["other"], ["a", "other"], ["a", "b"]])
def test_few_rows_and_labels_make_a_page(n: int, labels: list[str]) -> None:
    own = outcome(n, labels)
    if n == 2:
        own = replace(own, headlines=(), teasers=(), sources=())
    parsed(page(own))


def test_a_label_that_is_never_given_has_no_dot() -> None:
    rng = np.random.default_rng(0)
    proba = np.column_stack([p := rng.uniform(0.5, 1, 300), 1 - p])
    truth = ["a" if right else "other" for right in rng.random(300) < 0.6]
    promise = choose_thresholds(truth, proba, ["a", "other"], precision=0.9)
    own = outcome(300, ["a", "other"], truth=truth, proba=proba)
    html = page(own, thresholds=promise.thresholds, sentences=promise.sentences)
    assert "cannot be promised" in html
    assert "Dots: the chosen thresholds." not in html
    assert "Dots: the chosen thresholds." in plain()


def test_many_labels_and_sources_are_cut_and_say_so() -> None:
    labels = [f"label {i:02}" for i in range(24)]
    own = outcome(2400, labels, sources=[f"bron {i % 60:02}" for i in range(2400)])
    html = page(own, thresholds={}, curve=[])
    assert "25 labels are too many to draw; see the figures by label." in html
    assert "16 labels are left out" in html
    assert "The 40 largest of 60 sources." in html


def test_long_names_keep_their_ends_and_a_large_matrix_gets_room() -> None:
    labels = [f"verslag van de competitie {i:02}" for i in range(12)]
    html = page(outcome(600, labels), thresholds={}, curve=[])
    assert ">verslag van d…titie 03<" in html
    assert html.count('<figure class="wide">') == 1
    assert '<figure class="wide">' not in plain()


def test_a_long_fact_is_cut() -> None:
    html = page(facts={"version": "v1", "labels": ", ".join(f"label {i}" for i in range(150))})
    assert "label 10" in html
    assert "label 149" not in html


# In a browser ----------------------------------------------------------------------------------


def _chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium of the system, or the reason for going without."""
    driver = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: the page is not opened"
    )
    path = _chromium()
    if path is None:
        pytest.skip("no Chromium is installed: the page is not opened")
    with driver.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=path,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield opened
        opened.close()


def _opened(browser: Any, file: Path, **context: Any) -> tuple[Any, list[str]]:
    """The page in a fresh window, and whatever it complains of; it may ask for nothing else."""
    window = browser.new_context(**context)
    tab = window.new_page()
    heard: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: heard.append(f"console: {message.text}"))
    tab.on("pageerror", lambda error: heard.append(f"error: {error}"))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(file.as_uri())
    assert asked == [file.as_uri()]
    return tab, heard


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    own = outcome()
    own = replace(own, headlines=[HOSTILE, *own.headlines[1:]])
    # One that is in the first table, whatever was drawn.
    wrong = next(i for i in range(300) if own.best[i] != own.truth[i])
    own = replace(
        own, headlines=[HOSTILE if i == wrong else h for i, h in enumerate(own.headlines)]
    )
    path.write_bytes(page(own).encode())
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_it_opens_without_a_word_and_never_scrolls_sideways(
    browser: Any, file: Path, scheme: str, width: int
) -> None:
    tab, heard = _opened(
        browser, file, color_scheme=scheme, viewport={"width": width, "height": 800}
    )
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    light = tab.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((a, b) => a + +b, 0)"
    )
    assert (light > 600) == (scheme == "light")
    assert heard == []


def test_letters_stand_out_in_both_themes(browser: Any, file: Path) -> None:
    for scheme in ("light", "dark"):
        tab, _ = _opened(browser, file, color_scheme=scheme)
        colour = tab.evaluate(
            """() => Object.fromEntries(
                ["paper", "card", "mark", "ink", "muted", "accent", "c1", "c2", "c3", "c4", "c5",
                 "c6", "c7", "c8"].map((name) => [
                    name, getComputedStyle(document.documentElement).getPropertyValue("--" + name)
                ]))"""
        )
        for ground in ("paper", "card", "mark"):
            for letters in ("ink", "muted"):
                assert _contrast(colour[letters], colour[ground]) >= 4.5  # WCAG 2.2, 1.4.3
            assert _contrast(colour["accent"], colour[ground]) >= 4.5
        for number in range(1, 9):
            assert _contrast(colour[f"c{number}"], colour["card"]) >= 3  # WCAG 2.2, 1.4.11


def _contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour.strip()[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_rows_can_be_found_and_sorted_from_the_keyboard(browser: Any, file: Path) -> None:
    tab, heard = _opened(browser, file)
    every = tab.locator("tbody.examples tr:visible").count()
    tab.get_by_label("Find in the rows below").fill("  <SCRIPT>alert")
    shown = tab.locator("tbody.examples tr:visible")
    assert 0 < shown.count() < every
    assert HOSTILE in shown.first.locator("td").first.text_content()
    assert re.fullmatch(r"\d+ rows?", tab.locator("#found").text_content())
    tab.get_by_label("Find in the rows below").fill("")
    assert tab.locator("tbody.examples tr:visible").count() == every

    table = tab.locator("table:has(tbody.examples)").first
    button = table.get_by_role("button", name="confidence")
    for key, order in (("Enter", "ascending"), ("Space", "descending")):
        button.focus()
        tab.keyboard.press(key)
        assert table.locator(f"th[aria-sort={order}]").text_content() == "confidence"
        column = table.locator("tbody td.n").all_text_contents()
        assert column == sorted(column, reverse=order == "descending")
    assert heard == []


def test_without_scripts_every_row_is_there_and_no_dead_field(browser: Any, file: Path) -> None:
    tab, heard = _opened(browser, file, java_script_enabled=False)
    assert tab.locator("tbody.examples tr").count() > 50
    assert not tab.locator("#find").is_visible()
    assert tab.locator("th button").count() == 0
    assert heard == []


def test_the_first_stop_of_the_keyboard_skips_to_the_figures(browser: Any, file: Path) -> None:
    tab, _ = _opened(browser, file)
    tab.keyboard.press("Tab")
    link = tab.get_by_role("link", name="Skip to the figures")
    assert link.evaluate("(own) => own === document.activeElement && own.offsetLeft >= 0")
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"
