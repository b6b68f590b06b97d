"""Fonts for the names in the pictures, which may be in any script."""

import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import matplotlib
from matplotlib.font_manager import FontProperties, findSystemFonts, fontManager, get_font

# It comes with matplotlib, and has Latin, Greek, Cyrillic, Arabic and Hebrew letters.
OWN = "DejaVu Sans"
# Since 3.11 matplotlib joins Arabic letters, writes from right to left, and puts vowel signs where they belong.
SHAPES = matplotlib.__version_info__ >= (3, 11)


@dataclass(frozen=True)
class Fonts:
    """Font families, the first that has a character draws it, and the characters that none of them has."""

    families: list[str]
    missing: frozenset[str]

    def why_not(self, text: str) -> str | None:
        """Return why a text could not be read once it is drawn, `None` if it can."""
        if not self.missing.isdisjoint(text):
            return "no installed font has its characters"
        return None if SHAPES or not any(map(_needs_shaping, text)) else "its script needs matplotlib 3.11"

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Draw with these fonts, and else as matplotlib does without anybody's settings: no formulas, no warnings."""
        with warnings.catch_warnings(), matplotlib.rc_context():
            warnings.simplefilter("ignore")
            matplotlib.rcdefaults()
            matplotlib.rc("font", family=self.families)
            matplotlib.rc("text", parse_math=False)
            matplotlib.rc("axes.formatter", useoffset=False)
            yield


def fonts_for(texts: Iterable[str]) -> Fonts:
    """Return matplotlib's own font, and as few of the installed ones as have what it lacks."""
    families = [OWN]
    missing = {character for character in "".join(texts) if ord(character) not in _characters(OWN)}
    installed = _installed_fonts() if missing else {}
    while missing and installed:
        # A sans-serif font goes best with the rest of a picture.
        best = min(installed, key=lambda name: (-len(missing & installed[name]), "Sans" not in name, name))
        if not missing & installed[best]:
            break
        families.append(best)
        missing -= installed.pop(best)
    return Fonts(families, frozenset(missing))


def one_line(name: str) -> str:
    """Return a name as it can stand in a picture: on one line, and characters that control something as �."""
    letters = unicodedata.normalize("NFC", " ".join(name.split()))
    return "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in letters)


def width(text: str) -> int:
    """Return how many Latin letters are as wide as a text; a Chinese character counts two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def shorten(text: str, longest: int) -> str:
    """Return a text of at most `longest` Latin letters' width, without its middle, because names often end apart."""
    if width(text) <= longest:
        return text
    letters = longest * len(text) // width(text)
    end = letters // 3
    return f"{text[: letters - end - 1]}…{text[-end:]}"


def _needs_shaping(character: str) -> bool:
    """Return whether a character is written from right to left, or is a mark on the one before it."""
    return unicodedata.bidirectional(character) in ("R", "AL") or unicodedata.category(character).startswith("M")


def _installed_fonts() -> dict[str, set[str]]:
    """Return the characters of each installed font by its family, those installed since matplotlib's last look too."""
    known = {font.fname for font in fontManager.ttflist}
    for path in set(findSystemFonts()) - known:
        # Colour emoji are pictures, not outlines, and some files are damaged.
        with suppress(Exception):
            fontManager.addfont(path)
    own = matplotlib.get_data_path()
    # matplotlib prints a line for a family that has no regular font.
    regular = (font for font in fontManager.ttflist if font.style == "normal" and font.weight == 400)
    found = {}
    for family in {font.name for font in regular if not font.fname.startswith(own)}:
        with suppress(Exception):
            found[family] = set(map(chr, _characters(family)))
    return found


def _characters(family: str) -> Iterable[int]:
    """Return the code points that a family's regular font has."""
    return get_font(fontManager.findfont(FontProperties(family=family))).get_charmap().keys()
