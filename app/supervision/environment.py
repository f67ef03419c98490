"""What a supervised program may see of the supervisor's variables: no secret, no proxy that nobody asked for."""

import os

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
_OFFLINE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}


def program_environment() -> dict[str, str]:
    """Return the variables, with Flower's network calls switched off."""
    return {**{name: os.environ[name] for name in _KEPT if name in os.environ}, **_OFFLINE}
