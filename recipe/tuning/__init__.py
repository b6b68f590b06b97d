"""The search for better settings, on the validation rows alone."""
