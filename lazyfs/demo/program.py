"""The program that the demo starts from the mount: says hello, then imports much of Python's standard
library."""
# ruff: noqa: E402, S311, SIM905, T201

import sys

print(f"hello from Python {sys.version.split()[0]} in the image", flush=True)

import importlib
import random
import statistics

LIBRARY = """
argparse array ast asyncio base64 bisect bz2 calendar cmd codecs collections.abc colorsys compileall
concurrent.futures configparser contextlib copy csv ctypes dataclasses datetime decimal difflib dis doctest
email.mime.multipart encodings.idna enum fileinput fnmatch fractions ftplib functools gettext glob graphlib
gzip hashlib heapq hmac html.parser http.client http.cookiejar http.server imaplib inspect ipaddress itertools
json keyword linecache locale logging.config lzma mailbox mimetypes mmap multiprocessing.pool numbers operator
optparse pathlib pdb pickle pkgutil platform plistlib poplib pprint profile pstats pyclbr pydoc queue quopri
random reprlib rlcompleter sched secrets selectors shelve shlex shutil signal smtplib socketserver sqlite3 ssl
statistics string stringprep struct subprocess symtable sysconfig tabnanny tarfile tempfile textwrap threading
timeit token trace tracemalloc types typing unicodedata unittest.mock urllib.request uuid venv warnings wave
weakref webbrowser wsgiref.simple_server xml.dom.minidom xml.etree.ElementTree xml.sax xmlrpc.client zipapp
zipfile zoneinfo
""".split()
INSTALLED = "click cryptography.x509 msgspec requests rich.console trio".split()

for name in [*LIBRARY, *INSTALLED]:
    importlib.import_module(name)

generator = random.Random(1)
sample = [generator.gauss(91.2, 2.5) for _ in range(10_000)]
print(f"imported {len(sys.modules)} modules; the mean of a sample is {statistics.fmean(sample):.3f}")
