"""The numbers of tenants: one transaction's view of `Sums.tenants`."""

from lazyfs_cache.index.rows import Entry, Tenant
from lazyfs_cache.policy.shares import MOST


def number_of(tenants: list[Tenant], name: bytes) -> int:
    """Returns the number of the tenant of that name. A new tenant gets the number of a tenant without values,
    or the next new number; or 0 if there are MOST tenants already."""
    if not name:
        return 0
    unused = 0
    for number, tenant in enumerate(tenants):
        if tenant.name == name:
            return number
        if number and not unused and not tenant.entries:
            unused = number
    if unused:
        tenants[unused] = Tenant(name, floor=tenants[unused].floor)
        return unused
    if len(tenants) < MOST:
        tenants.append(Tenant(name))
        return len(tenants) - 1
    return 0


def enter(tenants: list[Tenant], entry: Entry, tick: int) -> None:
    """Adds the entry of a value, used at `tick`, to its tenant's totals."""
    tenant = tenants[entry.tenant]
    tenant.entries += 1
    tenant.stored += entry.charge
    tenant.used = max(tenant.used, tick)


def leave(tenants: list[Tenant], number: int, charge: int) -> None:
    """Takes a value with this charge out of the totals of tenant `number`."""
    tenants[number].entries -= 1
    tenants[number].stored -= charge
