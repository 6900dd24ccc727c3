"""The window: a Gradio page over `dnd_engine`. The engine never imports from here."""
