"""What to do after a training: labels to check, reviews to label, and what more labels would bring."""
