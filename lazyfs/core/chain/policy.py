"""Every setting of the chain, with unit and default."""

import msgspec


class Policy(msgspec.Struct, frozen=True):
    """The settings of a chain. Times are in seconds."""

    probe_first: float = 1.0
    """A proxy or origin that failed is left alone for this long, then twice as long each time it fails
    again."""
    probe_max: float = 6.0
    """The longest time to which `probe_first` is doubled: a path that works again is found within this
    time."""
    jitter: float = 0.25
    """Each interval until a retry or a new round is multiplied by a random number in [1 - jitter, 1], so that
    the workers do not return to a restarted proxy at one moment."""
    rest: float = 0.5
    """The shortest time from a failed attempt over a path to the next attempt over the same path, while its
    proxy or origin is put aside (left alone after failures)."""
    outage_grace: float = 5.0
    """The time for which requests go on trying after the last path died (a squid restarts in 1 to 3 s). After
    that they fail at once; only one request tries all paths, at intervals of `probe_first` to `probe_max`."""
    silence: float = 4.0
    """The time for which an attempt may go without a byte while another path has not been tried."""
    silence_last: float = 10.0
    """The time for which an attempt over the last path of a round may go without a byte."""
    trial_silence: float = 2.0
    """The time for which an attempt may go without a byte if its proxy or origin is being tried again after
    failures, while another path exists."""
    least_silence: float = 0.5
    """Each path may be silent for at least this time, however many paths are left to try before the
    request's deadline."""
    pause: float = 0.2
    """The pause between rounds over all paths; doubles up to `pause_max`."""
    pause_max: float = 2.0
    retry_after_max: float = 30.0
    """A longer Retry-After is shortened to this."""
    lies: int = 3
    """A proxy or origin that serves wrong bytes this many times within `lie_window` is left alone for
    `liar_aside`."""
    lie_window: float = 600.0
    liar_aside: float = 300.0
    explore_every: int = 10
    """One in this many requests goes to an origin whose latency is unknown or old, if there is such an
    origin."""
    latency_age: float = 600.0
    """Seconds after which a measured latency counts as old."""
    latency_margin: float = 0.25
    """An origin moves up in the order if it is faster than the one before it by this share, and by 5 ms."""
    hedge_percentile: float = 0.95
    hedge_factor: float = 1.5
    """A second attempt starts when the first has taken this factor times the duration that `hedge_percentile`
    gives for recent attempts."""
    hedge_floor: float = 0.1
    hedge_default: float = 2.0
    """Seconds until a second attempt while fewer than 20 durations are known."""
    hedge_share: float = 0.03
    """The largest mean number of hedges (second attempts) per request since the chain was made; one more is
    allowed in advance."""
