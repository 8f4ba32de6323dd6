"""MLflow as a view of a study: runs copied from the journal, and promoted models."""
