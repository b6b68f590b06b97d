"""Labels and probabilities for reviews. Light: NumPy, tokenizers and onnxruntime, no torch."""

from recipe.files.text_rows import Text
from recipe.inference.classifier import Classifier, Prediction
from recipe.inference.decision import Decision
from recipe.inference.onnx import OnnxClassifier
from recipe.inference.scorer import Scorer

__all__ = ["Classifier", "Decision", "OnnxClassifier", "Prediction", "Scorer", "Text"]
