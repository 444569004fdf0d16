"""Starting programs from images with the runtimes a node has."""

from lazyfs.runner.launch import Bind as Bind
from lazyfs.runner.launch import parse_bind as parse_bind
from lazyfs.runner.start import Options as Options
from lazyfs.runner.start import Prepared as Prepared
from lazyfs.runner.start import prepare as prepare
from lazyfs.runner.start import run as run
from lazyfs.runner.start import start as start
from lazyfs.runner.supervise import Ended as Ended
