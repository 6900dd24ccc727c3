"""The window: a Gradio page over `dnd_engine`. The engine never imports from here."""

import os

# Gradio reads this when it is imported, which happens below here only. No telemetry, whoever asks.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
