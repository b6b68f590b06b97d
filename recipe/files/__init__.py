"""Reviews in and out of files, and nothing half-written. Light: no torch, no pyarrow."""
