"""Who a process is outside its user namespace, where root may be anybody."""

import os


def outer_user(user: int) -> int:
    """Returns the number that a user has one namespace above; the same number outside any namespace."""
    for here, above, count in _map():
        if here <= user < here + count:
            return above + user - here
    return user


def is_root_of_node() -> bool:
    """Returns True for the superuser of the machine, or of a container that shares the machine's users. The
    root of a user namespace may write neither /run nor /var."""
    return os.geteuid() == 0 and has_all_users()


def has_all_users() -> bool:
    """Returns True unless this is a user namespace in which some of the machine's users have no number."""
    return _map() == [(0, 0, (1 << 32) - 1)]


def _map() -> list[tuple[int, int, int]]:
    """Returns (first user here, first user above, how many) for each line of uid_map."""
    with open("/proc/self/uid_map", "rb") as lines:
        return [(int(here), int(above), int(count)) for here, above, count in map(bytes.split, lines)]
