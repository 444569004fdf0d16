"""Stores of published files: immutable objects, and the few metadata names that change.

Entry points: `open_store` for an existing store, `create_store` for a new one, `Store` for their contract;
`open_web_files` for a folder of other files that a store's web server serves too, such as status pages.
"""

from lazyfs.store.open import create_store as create_store
from lazyfs.store.open import find_store as find_store
from lazyfs.store.open import open_store as open_store
from lazyfs.store.open import open_web_files as open_web_files
from lazyfs.store.protocol import ObjectSink as ObjectSink
from lazyfs.store.protocol import ReadableStore as ReadableStore
from lazyfs.store.protocol import Store as Store
from lazyfs.store.protocol import StoreConflict as StoreConflict
from lazyfs.store.protocol import StoredObject as StoredObject
from lazyfs.store.protocol import StoreError as StoreError
from lazyfs.store.verified import reader as reader
