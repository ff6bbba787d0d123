"""Fonts that have every character of the class names, in whatever script they are written."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

BASE = "DejaVu Sans"  # comes with matplotlib
# Unusual cuts are taken only where nothing plainer has the character.
UNUSUAL = (
    "bold",
    "light",
    "thin",
    "black",
    "heavy",
    "italic",
    "oblique",
    "mono",
    "condensed",
    "serif",
    "myeongjo",
    "pen",
)
DEBIAN_PACKAGES = {
    "HANGUL": "fonts-nanum",
    "CJK": "fonts-noto-cjk",
    "HIRAGANA": "fonts-noto-cjk",
    "KATAKANA": "fonts-noto-cjk",
}


def families_for(texts: Iterable[str]) -> tuple[list[str], set[str]]:
    """Return the font families to draw `texts` with, in the order to try them, and the characters none of them has.

    Fonts are looked for among those installed on the machine now, however old matplotlib's own list of them is.
    """
    base = FT2Font(font_manager.findfont(BASE))
    missing = {character for text in texts for character in text if not _has(base, character)}
    families = [BASE]
    for path in _installed() if missing else ():
        if not missing:
            break
        try:
            font = FT2Font(path)
            found = {character for character in missing if _has(font, character)}
            if found:
                font_manager.fontManager.addfont(path)
        except (RuntimeError, OSError):  # a damaged font file is no reason to do without the others
            continue
        if found:
            families.append(font.family_name)
            missing -= found
    return families, missing


def note_about(missing: Iterable[str]) -> str:
    """Return the one line that says which characters cannot be drawn, and which font package has them."""
    characters = sorted(missing)
    scripts = {unicodedata.name(character, "UNKNOWN").split()[0] for character in characters}
    packages = sorted({DEBIAN_PACKAGES.get(script, "fonts-noto") for script in scripts})
    shown = " ".join(characters[:8]) + (" ..." if len(characters) > 8 else "")
    return (
        f"figures: no installed font has {shown}; such names are drawn as a number "
        f"(Debian and Ubuntu: apt install {' '.join(packages)})"
    )


@cache
def _installed() -> tuple[str, ...]:
    return tuple(sorted(font_manager.findSystemFonts(), key=_plainness))


def _plainness(path: str) -> tuple[bool, str]:
    name = Path(path).stem.lower()
    return any(word in name for word in UNUSUAL), name


def _has(font: FT2Font, character: str) -> bool:
    return character.isspace() or unicodedata.combining(character) > 0 or font.get_char_index(ord(character)) != 0
