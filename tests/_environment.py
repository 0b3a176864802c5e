"""The process's environment for tests: no network, no one's home, no machine code unless it is asked for."""

import os
import tempfile

# Settings and caches of libraries do not belong in the home of whoever runs the tests.
_scratch = tempfile.TemporaryDirectory(prefix="maiac-tests-")


def prepare() -> None:
    """Set the environment; to be called before torch or a model library is imported."""
    # Model definitions come from installed packages and weights are random: a test that wants the network is wrong.
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["YOLO_OFFLINE"] = "1"
    os.environ["YOLO_AUTOINSTALL"] = "0"  # ultralytics calls pip for a package that it misses
    os.environ["YOLO_VERBOSE"] = "0"
    os.environ["YOLO_CONFIG_DIR"] = _scratch.name
    os.environ["MPLCONFIGDIR"] = _scratch.name

    # Machine code is built where it is wanted: most tests compile many small programs and are about something else.
    # What is built stays for the next run.
    os.environ.setdefault("MAIAC_NATIVE", "0")
    os.environ.setdefault("MAIAC_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"maiac-tests-cache-{os.getuid()}"))
