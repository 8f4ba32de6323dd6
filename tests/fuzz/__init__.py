"""Random inputs at the doors: each is read, or refused in a sentence, in bounded time.

``FLOWERSWEEP_FUZZ=N`` is the number of inputs of each test; the normal run has few.
"""
