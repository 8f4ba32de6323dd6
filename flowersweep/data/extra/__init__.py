"""More training images from other places (``data.extra``): classes by name, nothing held out."""
