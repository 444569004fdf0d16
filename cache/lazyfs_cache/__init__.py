"""A bounded, crash-safe, shared cache of verified bytes; keys are opaque."""
