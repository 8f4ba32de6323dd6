"""Data sets that are fetched from where others publish them."""
