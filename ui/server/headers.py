"""Headers of every answer: what browsers may do with it, and which start of the app gave it."""

import secrets

from ui.spaces import on_space

_POLICY = {
    "default-src": "'self'",
    # Gradio embeds its configuration as an inline script, and runs the canvas's script as a
    # function body.
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "media-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "connect-src": "'self'",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
}


def safe_headers() -> dict[str, str]:
    """Return the headers of every answer of one start of the app, by name."""
    # The Hub embeds a Space in a frame of its own page.
    frames = "'self' https://huggingface.co" if on_space() else "'self'"
    policy = "; ".join(
        f"{name} {value}" for name, value in {**_POLICY, "frame-ancestors": frames}.items()
    )
    safe = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        # `assets/visit.js` tells its page by this that the app was restarted.
        "x-dnd-started": secrets.token_hex(4),
    }
    # This header allows no list of sites, so it cannot express what a Space needs.
    return safe if on_space() else {**safe, "x-frame-options": "SAMEORIGIN"}
