"""Score a file of reviews of any size."""

from recipe.scoring.request import Request
from recipe.scoring.run import Summary, score

__all__ = ["Request", "Summary", "score"]
