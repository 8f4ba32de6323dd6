"""The view of a study that people open: its journal as MLflow runs, and the models that were promoted out of it."""
