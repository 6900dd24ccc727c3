"""The Gradio page over `dnd_engine`. The engine never imports from here."""

import os

# Gradio reads this on import, which happens only below here: no telemetry, whoever imports it.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
