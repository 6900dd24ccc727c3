"""The workbench, from prompts to an adapter and its answers; a folder for each part of the tab."""
