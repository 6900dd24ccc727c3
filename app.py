"""The app's edge: settings, then the page. `python app.py` serves it; Spaces runs this file."""

import os
from argparse import ArgumentParser

# Before the slow imports, so that --help answers at once.
if __name__ == "__main__":
    ArgumentParser(
        description="Serve the app. There are no options: environment variables set "
        "the address (GRADIO_SERVER_NAME), the port (GRADIO_SERVER_PORT), a login (DND_AUTH) and "
        "limits (DND_LIMITS).",
        epilog="`dnd serve` serves the same app and takes options: see `dnd serve --help`.",
    ).parse_args()

# Before Gradio is imported: it reads this once. No telemetry.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
# Before torch is imported: OpenMP reads this once. Threads that wait awake take the core from the
# one they wait for when other processes compute too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from dnd_engine.config import EngineConfig
from ui.build import build_ui
from ui.engine_handle import EngineHandle
from ui.serve import (
    asked_limits,
    asked_login,
    launch_options,
    listening_host,
    own_cache,
    own_library,
    run,
)

# Before the page is built, because Gradio reads the folder then.
own_cache()
config = EngineConfig()
owner = own_library(listening_host())
handle = EngineHandle.of(config, shared=owner is None)
server = asked_limits()
# At module level, so that tests can import it without serving.
demo = build_ui(handle, config.limits, owner, server=server)

if __name__ == "__main__":
    options = launch_options(config.limits, owner, server=server, handle=handle)
    run(demo, handle, {**options, "auth": asked_login()}, owner)
