"""The identity of a process outside its user namespace: root inside may be any user outside."""

import os


def outer_user(user: int) -> int:
    """Returns the id that a user of this user namespace has in the namespace above; the same id outside any
    user namespace."""
    for here, above, count in _map():
        if here <= user < here + count:
            return above + user - here
    return user


def is_root_of_node() -> bool:
    """Returns True for the superuser of the machine, or of a container that shares the machine's users. The
    root of a user namespace may write neither /run nor /var."""
    return os.geteuid() == 0 and has_all_users()


def has_all_users() -> bool:
    """Returns False in a user namespace in which some of the machine's users have no id, True otherwise."""
    return _map() == [(0, 0, (1 << 32) - 1)]


def _map() -> list[tuple[int, int, int]]:
    """Returns (first id here, first id above, number of ids) for each line of uid_map."""
    with open("/proc/self/uid_map", "rb") as lines:
        return [(int(here), int(above), int(count)) for here, above, count in map(bytes.split, lines)]
