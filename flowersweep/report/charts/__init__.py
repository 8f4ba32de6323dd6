"""Plotly figures as plain data."""
