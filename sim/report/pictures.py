"""The pictures of a run as parts of a page: in colours for light and dark, with words for links."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from sim.ink import BLUE, FILL, GRID, ORANGE, RIM, TEXT, VERMILION
from sim.plots import SHADES, link_order, link_range, page_pictures
from sim.report.folder import Run
from sim.words import bytes_in_words

_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}"
_STOPS = 9
"""Colours that stand for all of a scale."""

# Of viridis without its darkest end, which would be lost on black: there what carries most shines.
_SHINING = tuple(map(to_hex, colormaps["viridis"](np.linspace(0.22, 1, len(SHADES)))))

_DARK: Mapping[str, str] = dict(zip(SHADES, _SHINING, strict=True)) | {
    "#000000": "#dfe6ee",
    BLUE: "#56b4e9",
    ORANGE: ORANGE,
    VERMILION: "#ff8a3d",
    FILL: "#1a2129",
    RIM: "#a9b6c3",
    TEXT: "#dfe6ee",
    GRID: "#323c47",
}
"""What each colour of a picture is on a dark page."""

_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_FONT = re.compile(r"font: (\S+) [^;]*")


@dataclass(frozen=True)
class Scale:
    """What the colours of links mean.

    Attributes:
        least, most: bytes over a link, in words, at both ends.
        colours: from the one end to the other.
    """

    least: str
    most: str
    colours: tuple[str, ...]


@dataclass(frozen=True)
class Pictures:
    """The pictures of a page.

    Attributes:
        svg: by kind, each an element to be put into the page as it is: loss, rouge,
            consensus, rebuild, bytes, links.
        scale: of the links' colours; None: nothing is known to have been sent.
        colours: in light and in dark, by the name that the pictures call them.
    """

    svg: Mapping[str, str]
    scale: Scale | None
    colours: tuple[tuple[str, str, str], ...]


def pictures(run: Run, words: Mapping[str, str]) -> Pictures:
    """Return the pictures of a run.

    Args:
        run: see `Run`.
        words: for each kind what it shows, for those who do not see it.
    """
    drawn = page_pictures(run.experiment, run.graph, run.sent, run.rounds, _SHINING)
    on_dark = drawn.pop("links-on-dark", None)
    roots = {kind: _parsed(kind, text) for kind, text in drawn.items()}
    if "links" in roots:
        _tell_links(roots["links"], run)
    if on_dark is not None:
        _add_image_for_dark(roots["links"], _parsed("dark", on_dark))
    parts = {kind: _part(kind, root, words[kind]) for kind, root in roots.items()}
    scale = None
    if run.sent.any():
        least, most = link_range(run.sent)
        places = np.linspace(0, len(SHADES) - 1, _STOPS).round().astype(int)
        stops = tuple(_variable(SHADES[place]) for place in places)
        scale = Scale(bytes_in_words(least), bytes_in_words(most), stops)
    used = set(re.findall(r"var\(--c([0-9a-f]{6})\)", " ".join(parts.values())))
    used |= {stop[-7:-1] for stop in (scale.colours if scale else ())}
    colours = tuple((f"--c{each}", f"#{each}", _DARK[f"#{each}"]) for each in sorted(used))
    return Pictures(parts, scale, colours)


def _variable(colour: str) -> str:
    return f"var(--c{colour[1:]})"


def _parsed(kind: str, text: str) -> ElementTree.Element:
    """Return a picture for a page, its ids unlike those of other pictures."""
    root = ElementTree.fromstring(text)
    for parent in root.iter():
        for child in list(parent):
            # What matplotlib says of itself, and a style that would hold for the whole page.
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            del element.attrib[name]
            element.set(name.replace(_XLINK, ""), _restyled(name, value, kind))
        element.tag = element.tag.replace(_SVG, "")
    return root


def _part(kind: str, root: ElementTree.Element, words: str) -> str:
    """Return a picture as an element of a page."""
    box = root.get("viewBox", "")
    _, _, width, height = box.split()
    root.attrib.clear()
    root.attrib |= {
        "viewBox": box,
        "class": f"picture {kind}",
        "role": "img",
        "aria-label": words,
        # For what shows a page without its style.
        "width": width,
        "height": height,
    }
    return ElementTree.tostring(root, encoding="unicode")


def _restyled(name: str, value: str, kind: str) -> str:
    if name == "id":
        return f"{kind}-{value}"
    if name == f"{_XLINK}href" and value.startswith("#"):
        return f"#{kind}-{value[1:]}"
    if name == "clip-path":
        return value.replace("url(#", f"url(#{kind}-")
    if name == "style":
        # The page has a font of its own.
        value = _FONT.sub(r"font-size: \1", value)
        return _COLOUR.sub(lambda found: _variable(found[0]), value)
    return value


def _tell_links(root: ElementTree.Element, run: Run) -> None:
    """Give each link a title, which browsers show beside the pointer."""
    assert run.graph is not None
    lines: Iterable[ElementTree.Element] = root.iterfind(".//g[@id='links-links']//path")
    # A graph with more links than are drawn one by one has an image instead.
    for line, link in zip(lines, link_order(run.sent), strict=False):
        i, j = run.graph.edges[link]
        title = ElementTree.SubElement(line, "title")
        title.text = f"{run.called(i)} – {run.called(j)}: {bytes_in_words(run.sent[link])}"


def _add_image_for_dark(root: ElementTree.Element, dark: ElementTree.Element) -> None:
    """Lay the image of the links on a dark page over that on a light one; the page shows either."""
    images, others = root.findall(".//image/.."), dark.findall(".//image")
    for group, other in zip(images, others, strict=True):
        for image in group.findall("image"):
            image.set("class", "on-light")
        other.set("class", "on-dark")
        group.append(other)
