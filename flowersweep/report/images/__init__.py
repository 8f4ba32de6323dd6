"""The page about a data set: what is wrong with it first, then what is in it."""
