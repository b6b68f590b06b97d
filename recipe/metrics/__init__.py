"""Statistics of labels and probabilities: NumPy, SciPy and scikit-learn alone."""
