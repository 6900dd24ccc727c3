"""The Gradio page over `dnd_engine`. The engine never imports from here."""

import os

from ui.server.gradio_private.stubs import skip_stubs

# Both before Gradio's import, which happens only below here: no telemetry, whoever imports it.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
skip_stubs()
