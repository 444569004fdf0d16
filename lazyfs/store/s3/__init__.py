"""A store in an S3 bucket. Entry points: `open_bucket` and `open_bucket_files`, which lazyfs.store.open calls
for `s3://` locations.

It needs the package obstore, which workers that only mount do without.
"""

from lazyfs.store.s3.open import open_bucket as open_bucket
from lazyfs.store.s3.open import open_bucket_files as open_bucket_files
