"""The limits of packs, chosen on a real image and a real start of it."""
