"""From labelled reviews to a classifier you can trust.

One way through: `arguments` → `data`, `metrics` → `training`, `export`, `inference` → `evaluation` → `scripts/`.
Nothing is imported here, so that `import recipe` costs nothing.
"""

__version__ = "0.1.0"
