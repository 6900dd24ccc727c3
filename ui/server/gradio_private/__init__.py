"""Private parts of Gradio, which only the modules of this folder touch.

`tests/ui/test_gradio_private.py` fails when one is gone, or is no longer needed.
"""
