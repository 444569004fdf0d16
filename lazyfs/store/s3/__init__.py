"""A store in an S3 bucket. Entry point: `open_bucket`, which lazyfs.store.open calls for `s3://` locations.

It needs the package obstore, which workers that only mount do without.
"""

from lazyfs.store.s3.open import open_bucket as open_bucket
