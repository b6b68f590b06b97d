"""Labelled reviews: read, cleaned, split and tokenized."""
