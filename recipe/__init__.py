"""Train a text classifier on labelled reviews, export it to ONNX, evaluate it and score files with it.

Each folder is a room with one subject, and imports point down: `evaluation`, `export`, `scoring`, `training`,
`inference`, `data`, `model`, `arguments`, `metrics`. Importing `recipe` imports nothing else.
"""

__version__ = "0.1.0"
