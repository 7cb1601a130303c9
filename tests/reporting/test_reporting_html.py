"""The HTML page: well formed, self-contained, safe with hostile names, and rendered from whatever is finished."""

import base64
import copy
import hashlib
import json
import random
import re
from html.parser import HTMLParser
from itertools import combinations

import pytest

from instruction_vectors.reporting import write_report

VOID = {"meta", "link", "br", "img", "input", "hr", "wbr"}
LOADING = {"src", "href", "srcset", "data", "action", "formaction", "poster", "background", "xlink:href", "ping"}
SECTIONS = ("effects", "steering", "steering_chat", "hypothesis", "forgetting", "summary", "seconds")


class Page(HTMLParser):
    """Tags, attributes and text; every opened tag must be closed in order."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.text, self.ids, self.scripts = [], [], [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self._start(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self._start(tag, attrs)

    def _start(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.scripts if self.open and self.open[-1] in ("script", "style") else self.text).append(data)

    @property
    def words(self):
        return " ".join("".join(self.text).split())


@pytest.fixture
def page(tmp_path):
    def render(results):
        path = write_report(results, tmp_path / "deep" / "report.html")
        assert path.is_file()
        html = path.read_text(encoding="utf-8")
        assert len(html.encode()) <= 1_500_000
        return html, Page(html)

    return render


def loads(page):
    """What the page would fetch: anything but anchors within the page and data URIs."""
    return [
        (tag, name, value)
        for tag, name, value in page.attributes
        if name.lower() in LOADING and not value.startswith(("#", "data:"))
    ]


def test_the_full_page_is_well_formed_and_loads_nothing(page, make_results):
    html, parsed = page(make_results())
    assert loads(parsed) == []
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    assert "url(" not in html
    assert len(parsed.ids) == len(set(parsed.ids))
    assert parsed.tags.count("h1") == 1
    assert parsed.tags.count("main") == 1


def test_the_policy_allows_the_one_script_by_its_hash(page, make_results):
    html, parsed = page(make_results())
    (policy,) = [v for t, n, v in parsed.attributes if t == "meta" and n == "content" and "default-src" in v]
    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


def test_hostile_strings_appear_only_as_text(page, hostile_results, hostile_strings):
    html, parsed = page(hostile_results)
    assert parsed.tags.count("script") == 1
    assert not [name for _, name, _ in parsed.attributes if name.startswith("on")]
    assert "img" not in parsed.tags
    assert "alert" not in "".join(parsed.scripts)
    assert loads(parsed) == []
    for raw in ("<script>alert", "<svg onload", "<img src", "\x00", "\x07", "\u202e", "\ufffe"):
        assert raw not in html
    script, svg, template, *_ = hostile_strings
    for name in (script, svg, template):
        assert name in parsed.words
    assert "49{%" not in parsed.words


def test_every_figure_is_named_and_described(page, make_results):
    html, parsed = page(make_results())
    assert parsed.tags.count("svg") >= 8
    labels = [value for tag, name, value in parsed.attributes if tag == "svg" and name == "aria-labelledby"]
    assert len(labels) == parsed.tags.count("svg")
    for label in labels:
        title, desc = label.split()
        assert title in parsed.ids
        assert desc in parsed.ids
    for inner in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL):
        assert re.search(r"<desc[^>]*>[^<]{20,}</desc>", inner)


def test_exact_values_are_on_the_marks(page, make_results):
    html, _ = page(make_results())
    assert "sequential, after verb_v_adjective_3: 0.31 [0.25, 0.37], n = 240" in html
    assert "layer 20, head 5: +0.080 [+0.056, +0.104]" in html


@pytest.mark.parametrize("kept", [c for n in (0, 1, 2) for c in combinations(SECTIONS, n)])
def test_partial_results_render(page, make_results, kept):
    full = make_results()
    html, parsed = page({key: full[key] for key in kept})
    assert "Not run yet" in parsed.words
    assert html.count("<section") >= 1


def test_an_unfinished_arm_is_compared_at_the_last_common_stage(page, make_results):
    results = make_results()
    guided = results["forgetting"]["iv_guided"]
    for key in ("stages", "in_context", "zero_shot", "trained", "instruction", "knowledge"):
        guided[key] = guided[key][:2]
    _, parsed = page(results)
    assert "Over 1 task of sequential training" in parsed.words
    assert "Over 3 tasks" not in parsed.words


@pytest.mark.parametrize(
    "broken",
    [
        {"effects": {"map": [[0.1, None, float("nan")], []], "layers": ["a"], "top": [{"layer": 0}, 3]}},
        {"effects": {"map": [[0.0, 0.0]], "layers": [7]}},
        {"effects": None, "steering": [], "forgetting": {"sequential": None}, "config": 3, "seconds": {"total": "?"}},
        {"forgetting": {"sequential": {"stages": ["M0"], "in_context": [0.5]}}},
        {"forgetting": {"sequential": {"in_context": [0.5, None, 0.25], "intervals": {"in_context": [[0, 1], None]}}}},
        {"forgetting": {"sequential": {"stages": ["M0", "t"], "instruction": [-0.2, -0.4], "matrix": {"t": [0.1]}}}},
        {"steering": {"t": {"x": 0.1}}, "hypothesis": {"M0": {"x": 0.2}, "other": {}}, "summary": {"a": [1, 2], "b": None}},
    ],
)
def test_odd_results_render(page, broken):
    page(broken)


def test_a_large_model_and_many_tasks_stay_small(page, make_results):
    results = make_results()
    rng = random.Random(1)
    results["effects"]["map"] = [[rng.gauss(0, 0.01) for _ in range(64)] for _ in range(80)]
    results["effects"]["layers"] = list(range(80))
    row = next(iter(results["steering"].values()))
    results["steering"] = {f"task-{i}": copy.deepcopy(row) for i in range(120)}
    results["config"]["long"] = "x" * 2_000_000
    stages = ["M0", *(f"task-{i}" for i in range(15))]
    for arm in results["forgetting"].values():
        arm.update(stages=stages, in_context=[0.5] * 16, matrix={name: [0.5] * 16 for name in stages[1:]})
    page(results)


def test_the_same_results_give_the_same_bytes_and_are_left_alone(page, make_results):
    results = make_results()
    before = json.dumps(results)
    first, _ = page(results)
    second, _ = page(results)
    assert first == second
    assert json.dumps(results) == before
