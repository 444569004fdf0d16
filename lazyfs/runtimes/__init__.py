"""Starts programs from images, with a runtime that is installed on the node."""

from lazyfs.runtimes.find_image import FoundImage as FoundImage
from lazyfs.runtimes.isolation import LEVELS as LEVELS
from lazyfs.runtimes.launch import Bind as Bind
from lazyfs.runtimes.launch import parse_bind as parse_bind
from lazyfs.runtimes.protocol import ProgramEnd as ProgramEnd
from lazyfs.runtimes.result import of_end as of_end
from lazyfs.runtimes.result import of_refusal as of_refusal
from lazyfs.runtimes.start import PreparedRun as PreparedRun
from lazyfs.runtimes.start import RunOptions as RunOptions
from lazyfs.runtimes.start import prepare as prepare
from lazyfs.runtimes.start import run as run
from lazyfs.runtimes.start import start as start
