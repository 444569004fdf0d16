"""The doctor's checks, one subject a module: its facts, and the functions that gather and judge them."""
