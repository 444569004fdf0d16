"""The LMDB database that says what each value is charged and in which order values go."""
