"""Networks: backbones with their weights, and the classifier built on one."""
