"""The choice of the limits of packs, by a real image and a real start of it."""
