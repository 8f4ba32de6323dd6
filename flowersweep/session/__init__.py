import warnings

# Optuna asks for a progress bar of notebooks where it is imported, although it shows none.
warnings.filterwarnings("ignore", message="IProgress not found")
