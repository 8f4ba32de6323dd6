"""Figures of plotly as plain data: of the search, of several parameters, of the training and of
predictions.
"""
