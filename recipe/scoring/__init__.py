"""Score a file of reviews of any size."""

from recipe.scoring.request import Request
from recipe.scoring.run import score
from recipe.scoring.summary import Summary

__all__ = ["Request", "Summary", "score"]
