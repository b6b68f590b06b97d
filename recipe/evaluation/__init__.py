"""Evaluation of a run on its test rows."""

from recipe.evaluation.report import evaluate_run
from recipe.evaluation.types import Report

__all__ = ["Report", "evaluate_run"]
