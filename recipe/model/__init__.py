"""Pretrained weights, and faster ways to compute with them."""
