"""What predictions are worth: scores, calibration and how sure one can be of them."""
