"""Reports in a real browser: nothing leaves the file, everything fits, and all can be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromium
import numpy as np
import pytest

import topology
from peer.config import experiment_from
from peer.records import RunFolder
from peer.traffic import LinkCount, Traffic
from sim.report import write_report
from sim.runner import simulate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.find() is None, reason="there is no Chromium on this machine"),
]

PHONE, DESKTOP = 390, 1200
HOSTILE = '"><script>window.hacked = 1</script><img src="https://x.invalid" onerror="hacked = 2">'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    program = chromium.find()
    assert program is not None
    with chromium.browser(program, tmp_path_factory.mktemp("browser")) as page:
        yield page


def trained(folder: Path, tiny_options: dict[str, Any]) -> None:
    simulate(experiment_from(tiny_options | {"rouge_rows": 4, "out": str(folder)}))


def troubled(folder: Path, _: dict[str, Any]) -> None:
    """A run of many peers with long names in which all went wrong."""
    graph = topology.build("torus", 36)
    names = tuple(f"{HOSTILE}-{peer}-of-a-cluster-with-a-long-name" for peer in range(36))
    path = folder.with_suffix(".json")
    topology.save(topology.Topology(HOSTILE, graph.edges, names), path)
    options = {"trainer": "synthetic", "topology": str(path), "rounds": 20, "local_steps": 2}
    simulate(experiment_from(options | {"out": str(folder), "model": "m" * 300}))
    summary = json.loads((folder / "summary.json").read_text())
    summary["digests"]["accumulator"][5] = "ab" * 16
    summary |= {"missing_peers": [5], "timeouts_fired": 10**6, "rejected_messages": 7}
    ends = {"initial": 0.1, "final": None}
    names = [HOSTILE, "t" * 300, *(f"task{number}" for number in range(300))]
    summary["tasks"] = [
        {"task": name, "rows": 10**6, "loss": ends, "rouge_l": ends} for name in names
    ]
    summary["liars"] = [{"peer": 1, "named_by": [0], "reasons": ["w" * 300, HOSTILE]}]
    (folder / "summary.json").write_text(json.dumps(summary))


def crowded(folder: Path, _: dict[str, Any]) -> None:
    """More links than are drawn one by one."""
    options = {"trainer": "synthetic", "topology": "complete", "peers": 4, "local_steps": 1}
    simulate(experiment_from(options | {"rounds": 1, "out": str(folder)}))
    graph = topology.build("complete", 80)
    topology.save(graph, folder / "topology.json")
    traffic = Traffic()
    for i, j in graph.edges:
        traffic.add(i, j, LinkCount(payload_bytes=1_000 + 50 * i))
    RunFolder(folder).write_links(traffic)
    (folder / "summary.json").unlink()
    config = folder / "config.toml"
    config.write_text(config.read_text().replace("peers = 4\n", "peers = 80\n"))


RUNS = {"trained": trained, "troubled": troubled, "crowded": crowded}


@pytest.fixture(scope="module", params=RUNS)
def report(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_options: dict[str, Any],
) -> str:
    """The address of a run's report."""
    folder = tmp_path_factory.mktemp("runs") / str(request.param)
    RUNS[request.param](folder, tiny_options)
    return write_report(folder).resolve().as_uri()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, PHONE, DESKTOP])
def test_it_fits_and_asks_for_nothing(
    page: chromium.Page, report: str, width: int, dark: bool
) -> None:
    page.open(report, width=width, dark=dark)
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert page.evaluate("innerWidth") == width
    assert page.evaluate("document.documentElement.scrollWidth") == width
    boxes = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, pre, .hidden'))"
        ".map(e => e.getBoundingClientRect()).filter(b => b.left < 0 || b.right > innerWidth + 0.5)"
        ".length"
    )
    assert boxes == 0
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith("data:")] == [report]
    assert page.evaluate("typeof window.hacked") == "undefined"


def test_wide_tables_scroll_in_boxes_of_their_own(page: chromium.Page, report: str) -> None:
    page.open(report, width=PHONE)
    inner = page.evaluate(
        "[...document.querySelectorAll('.scroll')].map(e => [e.scrollWidth, e.clientWidth])"
    )
    assert any(whole > shown for whole, shown in inner)
    moved = page.evaluate(
        "(() => { const e = [...document.querySelectorAll('.scroll')]"
        ".find(e => e.scrollWidth > e.clientWidth); e.scrollLeft = 1e6; return e.scrollLeft; })()"
    )
    assert moved > 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_light_is_light_and_dark_is_dark(page: chromium.Page, report: str, dark: bool) -> None:
    page.open(report, width=DESKTOP, height=3000, dark=dark)
    pixels = page.pixels()
    assert pixels.shape == (3000, DESKTOP, 3)
    edge, whole = pixels[:, :10], np.median(pixels, axis=(0, 1))
    for shade in (edge.max() if dark else edge.min(), whole.max() if dark else whole.min()):
        assert shade < 0.2 if dark else shade > 0.9


CONTRAST = """
(() => {
  const parts = colour => {
    const [r, g, b, a = 1] = colour.match(/[0-9.]+/g).map(Number);
    return [r, g, b, a];
  };
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parts(getComputedStyle(e).backgroundColor);
      if (colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const worst = {};
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.tagName === 'title' || e.closest('.hidden')) continue;
    const style = getComputedStyle(e);
    const drawn = e instanceof SVGElement;
    const colour = parts(drawn ? style.fill : style.color);
    const [a, b] = [luminance(colour), luminance(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const what = drawn ? 'picture' : e.tagName;
    if (!(what in worst) || ratio < worst[what]) worst[what] = ratio;
  }
  return worst;
})()
"""
"""The least contrast of texts, by what they are in (WCAG 2, success criterion 1.4.3)."""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_texts_stand_out(page: chromium.Page, report: str, dark: bool) -> None:
    page.open(report, width=DESKTOP, dark=dark)
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    worst = page.evaluate(CONTRAST)
    assert {"H1", "H2", "TD", "TH", "DT", "P", "picture", "SUMMARY", "PRE"} <= set(worst)
    assert min(worst.values()) >= 4.5, worst


@pytest.mark.parametrize("width", [360, PHONE, DESKTOP])
def test_pictures_are_seen_and_their_texts_can_be_read(
    page: chromium.Page, report: str, width: int
) -> None:
    page.open(report, width=width)
    sizes = page.evaluate(
        "[...document.querySelectorAll('svg')].map(e => e.getBoundingClientRect())"
        ".map(b => [b.width, b.height])"
    )
    assert len(sizes) >= 2
    for across, down in sizes:
        assert min(width - 80, 350) <= across <= width
        assert 80 <= down <= 1200
    texts = page.evaluate(
        "[...document.querySelectorAll('.curves svg text')]"
        ".map(e => [e.getScreenCTM(), parseFloat(getComputedStyle(e).fontSize)])"
        ".map(([m, size]) => size * Math.hypot(m.a, m.b))"
    )
    assert len(texts) > 8
    assert min(texts) >= 9.5
    assert max(texts) <= 17


def test_the_graph_is_drawn_in_the_colours_of_the_page(page: chromium.Page, report: str) -> None:
    """The busiest link is the darkest in light and the brightest in dark, and none is lost."""
    seen = {}
    for dark in (False, True):
        page.open(report, width=DESKTOP, height=1600, dark=dark)
        page.evaluate("document.querySelector('svg.links').scrollIntoView()")
        box = page.evaluate(
            "(b => [b.left, b.top, b.right, b.bottom])"
            "(document.querySelector('svg.links').getBoundingClientRect())"
        )
        left, top, right, bottom = (round(max(side, 0)) for side in box)
        shown = page.pixels()[top:bottom, left:right].mean(axis=2)
        background = float(np.median(np.concatenate([shown[:, 0], shown[:, -1]])))
        seen[dark] = (float(np.abs(shown - background).max()), background)
        strokes = page.evaluate(
            "[...document.querySelectorAll('#links-links path')]"
            ".map(e => getComputedStyle(e).stroke.match(/[0-9]+/g).map(Number))"
        )
        shades = [sum(stroke) / 765 for stroke in strokes]
        images = page.evaluate(
            "[...document.querySelectorAll('image')]"
            ".filter(e => getComputedStyle(e).display !== 'none').map(e => e.getAttribute('class'))"
        )
        assert images == ([] if strokes else ["on-dark" if dark else "on-light"])
        # An image has no strokes.
        for stroke, shade in zip(strokes, shades, strict=True):
            assert max(abs(channel / 255 - background) for channel in stroke) > 0.2
            assert shade <= shades[-1] if dark else shade >= shades[-1]
    assert seen[False][1] > 0.9
    assert seen[True][1] < 0.2
    assert min(contrast for contrast, _ in seen.values()) > 0.4


def test_links_tell_their_bytes_beside_the_pointer(
    page: chromium.Page, tmp_path: Path, tiny_options: dict[str, Any]
) -> None:
    trained(tmp_path / "run", tiny_options)
    page.open(write_report(tmp_path / "run").as_uri(), width=DESKTOP)
    titles = page.evaluate(
        "[...document.querySelectorAll('#links-links path > title')].map(e => e.textContent)"
    )
    assert len(titles) == 4
    assert all(title.endswith("B") and "–" in title for title in titles)
