"""The workbench, from prompts to an adapter and its answers; one folder per part of the tab."""
