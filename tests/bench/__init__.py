"""Figures, as ratios measured side by side in one run: `make bench`. Nothing here fails on a slow machine."""
