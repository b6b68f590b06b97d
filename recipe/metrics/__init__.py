"""Statistics of labels and probabilities, on NumPy, SciPy and scikit-learn alone."""
