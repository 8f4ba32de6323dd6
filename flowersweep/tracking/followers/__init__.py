"""Views of a journal besides MLflow, and how runs are called in all of them."""
