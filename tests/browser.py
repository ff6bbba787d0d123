"""Pages as a real browser shows them: what has become of one after its scripts have run, and how it looks.

Where CNNLAB_PICTURES names a folder the pictures that README and docs show are written there on the way, of a store
that is worth a picture (CONTRIBUTING.md has the command).
"""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no browser here: apt-get install chromium")
SECONDS = 20  # of the page's own clock, which runs ahead while nothing is loaded
PICTURES = os.environ.get("CNNLAB_PICTURES", "")
SIZE = WIDTH, HEIGHT = 1440, 900  # pixels of a window


class Browser:
    """A browser with a memory of its own in `folder`, 1440 pixels wide; it may be a new one's, or an old one's."""

    def __init__(self, folder: Path):
        self.folder = folder

    def open(self, address: str, picture: str = "") -> str:
        """Return the document that an address becomes; of one with a name, `picture`, that picture is written."""
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={self.folder}"]
        options += ["--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}", f"--virtual-time-budget={SECONDS}000"]
        drawn = self.folder / "drawn.png"
        if PICTURES and picture:
            options.append(f"--screenshot={drawn}")
        done = subprocess.run([CHROMIUM, *options, "--dump-dom", address], capture_output=True, text=True, timeout=120)
        if PICTURES and picture:
            keep_picture(drawn, Path(PICTURES, f"{picture}.png"))
        return done.stdout


def keep_picture(drawn: Path, file: Path) -> None:
    """Keep what the browser has drawn, in 256 colours: the most frequent ones, and what covers the rest best.

    So a ground stays the grey that it is, and a small dot its own colour.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(drawn) as image:
        shown = image.convert("RGB").crop((0, 0, *SIZE))
        counted = sorted(shown.getcolors(shown.width * shown.height), reverse=True)
        colors = [color for _, color in counted[:128]]
        covering = shown.quantize(128, method=Image.Quantize.MAXCOVERAGE).getpalette()
        palette = Image.new("P", (1, 1))
        palette.putpalette([*(part for color in colors for part in color), *covering])
        few = shown.quantize(palette=palette, dither=Image.Dither.NONE)
    few.save(file, optimize=True)


def text_of(document: str) -> str:
    """Return what one reads in a document, each piece of text on a line."""
    shown = re.sub(r"<(script|style)\b.*?</\1>", "", document, flags=re.DOTALL)
    pieces = re.sub(r"<[^>]*>", "\n", shown).splitlines()
    return "\n".join(html.unescape(piece).strip() for piece in pieces if piece.strip())


def framed(page: Path, width: int) -> Path:
    """Return a page that shows another one as in a window of `width` pixels: a browser's own is at least 500 wide.

    What the inner page posts to its parent becomes the title.
    """
    outer = page.with_name(f"{page.stem}_{width}.html")
    outer.write_text(
        '<meta charset="utf-8">'
        '<script>addEventListener("message", (event) => { document.title = event.data; });</script>'
        f'<iframe src="{page.name}" style="border: 0; width: {width}px; height: {HEIGHT}px"></iframe>'
    )
    return outer
