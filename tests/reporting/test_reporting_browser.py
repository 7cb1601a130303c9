"""Reports in headless Chromium: silent, still, sortable, in both themes, on a narrow screen, by keyboard, safe with any text."""

import shutil

import browser
import pytest
import synthetic_grid

from instruction_vectors.reporting import write_report

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium on this machine")
KINDS = ("run", "grid", "diagnosis", "hostile")

# What would act if any of it were read as markup, style or code: it marks the window, or asks a host that no page may ask.
_ACTS = ("window.hit=1", "fetch(`https://evil.example/`)", "alert(1)")
_FORMS = (
    "<script>{}</script>",
    "</script><script>{}</script>",
    "<img src=x onerror={}>",
    '"><svg onload="{}">',
    "'><svg onload='{}'>",
    "<svg><script>{}</script></svg>",
    "</title><script>{}</script>",
    "</style><script>{}</script>",
    "<iframe srcdoc='<script>{}</script>'>",
    "<details open ontoggle={}>",
    "<a href='javascript:{}'>x</a>",
    "</desc></svg><script>{}</script>",
    "--><script>{}</script>",
    "<math><mtext><style><img src onerror={}>",
    "{{{{constructor.constructor('{}')()}}}}",
    "<base href=//evil.example onfocus={}>",
    "<body onload={}>",
    "&lt;script&gt;{}&lt;/script&gt;",
)
_STYLES = (
    "</style><style>*{display:none}</style>",
    "red;background:url(https://evil.example/a)",
    "<link rel=stylesheet href=//evil.example/b>",
    "@import 'https://evil.example/c';",
    '<meta http-equiv=refresh content="0;url=https://evil.example">',
)
HOSTILE = [form.format(act) for form in _FORMS for act in _ACTS] + list(_STYLES)


def hostile():
    """Every string somewhere: names of tasks (rows), words of a verdict (outputs), cells, runs."""
    quarter = len(HOSTILE) // 4
    tasks, cells, runs, rest = (HOSTILE[i * quarter : (i + 1) * quarter] for i in range(4))
    rest += HOSTILE[4 * quarter :]
    results = synthetic_grid.diagnosis(tasks, reason=" ".join(runs))
    results["grid"] = {"cells": [synthetic_grid.cell(method=name, guide=name, sequence=name) for name in cells]}
    results["title"] = rest[0]
    results["config"] = {**dict.fromkeys(rest, 1), "sequence": rest}
    results["against"] = {"name": rest[1], "results": {"grid": results["grid"]}}
    return results


@pytest.fixture(scope="module")
def chromium():
    found = browser.Chromium()
    yield found
    found.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory, make_results):
    grid, run = synthetic_grid.grid(), make_results()
    grid["against"] = {"name": "runs/other", "results": synthetic_grid.grid()}
    folder = tmp_path_factory.mktemp("reports")
    made = {"run": run, "grid": grid, "diagnosis": synthetic_grid.diagnosis(), "hostile": hostile()}
    return {
        k: write_report(r, folder / f"{k}.html", raw=HOSTILE if k == "hostile" else ["results.json"]) for k, r in made.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_it_complains_of_nothing_and_asks_for_nothing(chromium, pages, kind):
    assert pages[kind].stat().st_size <= 1_500_000
    chromium.open(pages[kind])
    assert chromium.complaints == []
    assert chromium.requests == [pages[kind].as_uri()]
    assert chromium.run("document.querySelectorAll('section svg, section table').length") >= 3


def test_a_page_that_does_is_noticed(chromium, tmp_path):
    (page := tmp_path / "bad.html").write_text("<img src=there-is-none.png><script>console.log('x'); undefinedName</script>")
    chromium.open(page)
    assert {kind for kind, _ in chromium.complaints} >= {"console", "error"}
    assert len(chromium.requests) == 2


@pytest.mark.parametrize("kind", ["grid", "diagnosis"])
def test_tables_sort_by_every_column(chromium, pages, kind):
    chromium.open(pages[kind])
    unsorted = chromium.run("""(() => {
      const wrong = [];
      const value = (row, i) => row.cells[i].dataset.order === undefined ? row.cells[i].textContent : +row.cells[i].dataset.order;
      for (const table of document.querySelectorAll("table.sortable")) {
        [...table.tHead.rows[0].cells].forEach((head, i) => {
          for (const way of ["ascending", "descending"]) {
            const before = [...table.tBodies[0].rows].map((row) => row.textContent).sort().join();
            head.querySelector("button").click();
            const rows = [...table.tBodies[0].rows];
            const all = rows.map((row) => value(row, i)), sign = way === "ascending" ? 1 : -1;
            const compare = (a, b) => typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
            const ordered = all.every((v, n) => !n || typeof v !== typeof all[n - 1] || sign * compare(v, all[n - 1]) >= 0);
            const kept = rows.map((row) => row.textContent).sort().join() === before;
            if (!ordered || !kept || head.getAttribute("aria-sort") !== way) wrong.push([table.caption.textContent, i, way]);
          }
        });
      }
      return wrong;
    })()""")
    assert chromium.run("document.querySelectorAll('table.sortable').length") >= 2
    assert unsorted == []


def test_the_theme_is_switched_and_remembered(chromium, pages):
    chromium.open(pages["grid"])
    ground = "getComputedStyle(document.body).backgroundColor"
    before = chromium.run(ground)
    chromium.run("document.getElementById('theme').click()")
    after = chromium.run(ground)
    assert after != before
    chromium.open(pages["grid"])
    assert chromium.run(ground) == after
    chromium.run("localStorage.clear()")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_runs_over_the_edge_of_400_pixels(chromium, pages, kind):
    chromium.open(pages[kind], width=400)
    chromium.run("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    assert chromium.run("document.documentElement.scrollWidth") <= 400


@pytest.mark.parametrize("kind", ["run", "grid", "diagnosis"])
def test_all_that_acts_is_reached_by_keyboard(chromium, pages, kind):
    chromium.open(pages[kind])
    acting = "a[href], button, summary, .scroll"
    reachable = f"[...document.querySelectorAll('{acting}')].filter((e) => e.checkVisibility()).length"
    count = chromium.run(reachable)
    assert count >= 10
    seen = []
    for _ in range(count):
        chromium.press("Tab")
        chromium.run("document.activeElement.dataset.seen = 1")
        seen.append(chromium.run("document.activeElement.className || document.activeElement.id"))
    assert seen[:2] == ["skip", "theme"]
    assert (
        chromium.run(f"[...document.querySelectorAll('{acting}')].filter((e) => e.checkVisibility() && !e.dataset.seen).length")
        == 0
    )
    assert chromium.run("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_enter_sorts(chromium, pages):
    chromium.open(pages["grid"])
    chromium.run("document.querySelector('table.sortable thead th:nth-child(2) button').focus()")
    chromium.press("Enter")
    assert chromium.run("document.activeElement.parentElement.getAttribute('aria-sort')") == "ascending"


def test_more_than_fifty_hostile_strings_are_text(chromium, pages):
    assert len(set(HOSTILE)) >= 50
    chromium.open(pages["hostile"])
    text = chromium.run("document.body.textContent")
    assert [string for string in HOSTILE if string not in text] == []
    assert chromium.run("window.hit") is None
    assert chromium.run("document.scripts.length") == 1
    assert (
        chromium.run("document.querySelectorAll('img, iframe, base, link:not([rel=icon]), object, [onload], [onerror]').length")
        == 0
    )
    assert chromium.run("[...document.querySelectorAll('a')].every((a) => a.protocol === 'file:')")
    assert chromium.requests == [pages["hostile"].as_uri()]


@pytest.mark.parametrize("kind", KINDS[:3])
def test_paper_shows_every_table_and_figure_in_full_on_white(chromium, pages, kind):
    chromium.open(pages[kind])
    shown = "[...document.querySelectorAll('{}')].filter((e) => e.getBoundingClientRect().height > 0).length"
    dark = "document.documentElement.dataset.theme = 'dark'"
    try:
        chromium.run(dark)
        chromium.paper(True)
        ink = chromium.run("getComputedStyle(document.body).color.match(/[0-9.]+/g).slice(0, 3).map(Number)")
        assert max(ink) < 100, "dark ink on white paper, whatever the theme"
        assert chromium.run("getComputedStyle(document.body).backgroundColor") in ("rgba(0, 0, 0, 0)", "rgb(255, 255, 255)")
        for what in ("table", "figure"):
            assert chromium.run(shown.format(what)) == chromium.run(f"document.querySelectorAll('{what}').length") > 0
        assert chromium.run(shown.format("nav, #theme, .skip")) == 0
        assert chromium.run("[...document.querySelectorAll('.scroll')].every((e) => getComputedStyle(e).overflow === 'visible')")
    finally:
        chromium.paper(False)


def test_links_lead_to_the_numbers_beside_the_page(chromium, pages, tmp_path):
    shutil.copy(pages["run"], tmp_path / "report.html")
    chromium.open(tmp_path / "report.html")
    assert chromium.run("document.querySelector('footer a').href") == (tmp_path / "results.json").as_uri()
