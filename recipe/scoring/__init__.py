"""Score a file of any size."""

from recipe.scoring.score import Request, score

__all__ = ["Request", "score"]
