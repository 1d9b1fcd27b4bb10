//! Clock, memory, energy, counters, machine facts and the pinned thread team.
