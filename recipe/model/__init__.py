"""Pretrained weights, and what makes them compute faster."""
