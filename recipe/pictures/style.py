"""The look that all pictures share, and their files."""

import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from recipe.files.atomic import write_whole
from recipe.pictures.fonts import fonts_for

# A variant looks the same in all pictures of all cards. Colours: Okabe and Ito, *Color Universal Design*, 2008.
STYLES: dict[str, dict[str, Any]] = {
    "pytorch": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "fp32": {"color": "#009E73", "marker": "s", "linestyle": "--"},
    "int8": {"color": "#D55E00", "marker": "^", "linestyle": ":"},
    "fp16": {"color": "#CC79A7", "marker": "D", "linestyle": "-."},
    "tfidf": {"color": "#000000", "marker": "v", "linestyle": (0, (5, 1, 1, 1, 1, 1))},
}
# Apart from the variants' colours.
SLICE_COLOUR = "#7B5B3A"
REFERENCE: dict[str, Any] = {"color": "#666666", "linewidth": 1, "linestyle": (0, (2, 2)), "zorder": 0}
GRID: dict[str, Any] = {"color": "#dddddd", "linewidth": 0.5}
DPI = 150


def save_pictures(pictures: Mapping[Path, Callable[[], Figure]], texts: Iterable[str] = ()) -> None:
    """Draw each picture, in fonts that have the characters of `texts`, and write it to its path."""
    with fonts_for(texts).in_use():
        for path, draw in pictures.items():
            save_picture(draw(), path)


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure as png, whole or not at all; the same figure gives the same bytes."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    write_whole(path, content.getvalue())
