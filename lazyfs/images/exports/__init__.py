"""Exports images from a repository into files and directory layouts that other tools read."""
