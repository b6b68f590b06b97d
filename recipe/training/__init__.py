"""Fine-tuning with Trainer."""

from recipe.training.run import train

__all__ = ["train"]
