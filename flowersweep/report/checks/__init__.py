"""Checks of a study: noise, importances, leaked images, what a plain search would find."""
