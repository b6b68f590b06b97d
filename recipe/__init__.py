"""Train a text classifier on labelled reviews, export it to ONNX, evaluate it and score files with it.

Each folder is a room with one subject, and imports point down: `evaluation`, `export`, `scoring`, `training`,
`inference`, `data`, `model`, `arguments`, `metrics`. Importing `recipe` imports nothing else.
"""

import os

# Read when onnxruntime is imported. From 1.29 on it starts a thread that reports usage, which
# `disable_telemetry_events` does not end; a process forked beside it hangs or crashes when it exits.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
