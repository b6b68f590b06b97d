"""The report of a run on its test rows."""

from recipe.evaluation.report import evaluate_run

__all__ = ["evaluate_run"]
