"""One trial of a study, and two of them next to each other."""
