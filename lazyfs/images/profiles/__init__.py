"""Profiles of images: made from traces and lists of paths, inherited by new tags, guessed, shown, dropped."""

from lazyfs.images.profiles.publish import ProfileReport, drop_profile, publish_profile
from lazyfs.images.profiles.traces import Trace, read_traces

__all__ = ["ProfileReport", "Trace", "drop_profile", "publish_profile", "read_traces"]
