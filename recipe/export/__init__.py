"""ONNX in several variants, each certified to be the same model."""

from recipe.export.variants import export

__all__ = ["export"]
