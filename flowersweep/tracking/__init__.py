"""MLflow as a view of a study: runs copied from the journal, and the registry of promoted models."""
