"""Pages as a real browser shows them: what has become of one after its scripts have run."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no browser here: apt-get install chromium")
SECONDS = 20  # of the page's own clock, which runs ahead while nothing is loaded


class Browser:
    """A browser with a memory of its own in `folder`, 1440 pixels wide; it may be a new one's, or an old one's."""

    def __init__(self, folder: Path):
        self.folder = folder

    def open(self, address: str) -> str:
        """Return the document that an address becomes."""
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={self.folder}"]
        options += ["--window-size=1440,900", f"--virtual-time-budget={SECONDS}000", "--dump-dom", address]
        done = subprocess.run([CHROMIUM, *options], capture_output=True, text=True, timeout=120)
        return done.stdout


def text_of(document: str) -> str:
    """Return what one reads in a document, each piece of text on a line."""
    shown = re.sub(r"<(script|style)\b.*?</\1>", "", document, flags=re.DOTALL)
    pieces = re.sub(r"<[^>]*>", "\n", shown).splitlines()
    return "\n".join(html.unescape(piece).strip() for piece in pieces if piece.strip())
