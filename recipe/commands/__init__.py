"""What each script, and each command of `review-classifier`, parses, calls and prints."""
