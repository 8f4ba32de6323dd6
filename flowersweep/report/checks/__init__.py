"""What a study must admit of itself: noise, importances, leaked images, what a plain search would
have found.
"""
