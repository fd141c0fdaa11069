"""Maps of numbers that the processes of one machine join into at the speed of memory. See `kvs.shared.shared_map`."""

from kvs.shared.inspection import faults
from kvs.shared.shared_map import SharedMap, delete_shared_map

__all__ = ["SharedMap", "delete_shared_map", "faults"]
