"""Colours, type and radii as a Gradio theme; `assets/app.css` has what Gradio cannot express."""

from typing import Any

import gradio as gr

from dnd_engine.charts import COLOURS

_TOKENS = {
    # name: (light, dark). Contrast on surface and on bg was measured for every text colour.
    **COLOURS,
    "bg": ("#f6f6f3", "#0e1013"),
    "sunken": ("#efefea", "#101317"),
    "on-accent": ("#ffffff", "#0b1230"),
    "accent-hover": ("#1a38a8", "#afc3ff"),
    "error": ("#a01d1a", "#ff9e96"),
    "error-fill": ("#fcecea", "#2c1615"),
    "none": ("transparent", "transparent"),
}

_VARIABLES = {
    "bg": ["body_background_fill", "background_fill_secondary"],
    "surface": [
        "background_fill_primary",
        "block_background_fill",
        "button_secondary_background_fill",
        "checkbox_background_color",
        "input_background_fill",
        "input_background_fill_focus",
        "panel_background_fill",
        "table_even_background_fill",
    ],
    "sunken": [
        "button_secondary_background_fill_hover",
        "code_background_fill",
        "stat_background_fill",
        "table_odd_background_fill",
    ],
    "line": [
        "border_color_primary",
        "table_border_color",
    ],
    "edge": [
        "button_secondary_border_color",
        "button_secondary_border_color_hover",
        "checkbox_border_color",
        "checkbox_border_color_hover",
        "checkbox_label_border_color",
        "input_border_color",
    ],
    "text": [
        "block_title_text_color",
        "body_text_color",
        "button_secondary_text_color",
    ],
    "text2": ["block_label_text_color", "body_text_color_subdued"],
    "text3": ["input_placeholder_color"],
    "accent": [
        "border_color_accent",
        "button_primary_background_fill",
        "button_primary_border_color",
        "checkbox_background_color_selected",
        "checkbox_border_color_focus",
        "checkbox_border_color_selected",
        "checkbox_label_border_color_selected",
        "input_border_color_focus",
        "link_text_color",
        "link_text_color_active",
        "link_text_color_visited",
        "loader_color",
        "slider_color",
    ],
    "on-accent": ["button_primary_text_color"],
    "accent-hover": [
        "button_primary_background_fill_hover",
        "button_primary_border_color_hover",
        "link_text_color_hover",
    ],
    "accent-soft": [
        "border_color_accent_subdued",
        "checkbox_label_background_fill_selected",
        "color_accent_soft",
    ],
    "error": ["error_border_color", "error_icon_color", "error_text_color"],
    "error-fill": ["error_background_fill"],
    # Labels are flat text over a control, not a box in a box.
    "none": ["block_label_background_fill", "block_label_border_color"],
}

_SHAPES = {
    "block_border_width": "0px",
    "block_label_border_width": "0px",
    "block_label_padding": "0",
    "block_label_text_size": "13px",
    "block_label_text_weight": "600",
    "block_padding": "0px",
    "block_radius": "8px",
    "block_title_text_size": "13px",
    "block_title_text_weight": "600",
    "button_large_radius": "8px",
    "button_medium_radius": "8px",
    "button_small_radius": "8px",
    "button_small_text_size": "13px",
    "button_transition": "background-color 120ms ease-out, border-color 120ms ease-out",
    "container_radius": "12px",
    "input_border_width": "1px",
    "input_radius": "8px",
}


def variables() -> str:
    """Return the colours as variables of a style sheet, for `assets/app.css` and charts."""
    light, dark = (
        " ".join(f"--dnd-{name}: {pair[scheme]};" for name, pair in _TOKENS.items())
        for scheme in (0, 1)
    )
    return f":root {{ {light} }}\n.dark {{ {dark} }}\n"


def make_theme() -> gr.themes.Base:
    """Build the theme, light and dark, with the system's own fonts, so that none is downloaded."""
    theme = gr.themes.Base(
        font=["system-ui", "-apple-system", "Segoe UI", "sans-serif"],
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    )
    settings: dict[str, Any] = dict(_SHAPES)
    for token, names in _VARIABLES.items():
        light, dark = _TOKENS[token]
        for name in names:
            settings[name] = light
            settings[f"{name}_dark"] = dark
    # One colour must follow the theme by itself, because Gradio has no dark variant of it.
    settings["color_accent"] = "var(--dnd-accent)"
    return theme.set(**settings)
