"""Studies on a local page that is live while they run."""
