"""The registered techniques, in the order in which they are planned and applied."""

from __future__ import annotations

from xtc_ds.config import CompressionConfig
from xtc_ds.errors import ConfigError
from xtc_ds.extensions import import_from_techniques
from xtc_ds.techniques.base import Technique

__all__ = ["register_technique", "teacher_is_used", "technique_named", "techniques"]

_registered: dict[str, Technique] = {}


def register_technique(technique: Technique) -> None:
    """Add a technique. Raises ConfigError if its name is taken."""
    if technique.name in _registered:
        raise ConfigError(f"technique '{technique.name}' is registered twice")
    _registered[technique.name] = technique


def techniques() -> tuple[Technique, ...]:
    """All techniques in the order of registration, except where ``after`` and ``before`` require another order.

    Raises ConfigError if these contradict each other.
    """
    import_from_techniques("technique")
    waiting = dict(_registered)
    earlier = {name: _earlier(technique) for name, technique in waiting.items()}
    ordered: list[Technique] = []
    while waiting:
        ready = next((name for name in waiting if not earlier[name] & waiting.keys()), None)
        if ready is None:
            raise ConfigError(f"techniques wait for each other: {', '.join(waiting)}; change their after or before")
        ordered.append(waiting.pop(ready))
    return tuple(ordered)


def teacher_is_used(config: CompressionConfig) -> bool:
    """Whether any technique that the config enables reads the teacher."""
    return any(technique.uses_teacher and technique.section(config) for technique in techniques())


def technique_named(name: str) -> Technique:
    """The technique called ``name``, which must be registered."""
    import_from_techniques("technique")
    return _registered[name]


def _earlier(technique: Technique) -> set[str]:
    """Names of all techniques that come before ``technique``."""
    return {*technique.after, *(other.name for other in _registered.values() if technique.name in other.before)}
