"""What MLflow's own pages show of a study, and the addresses of those pages."""
