"""What every request passes before the page answers it, and where it is refused.

`gate` has the order. Each limit is in `dnd_engine.limits`, and each refusal beside what counts it:

- `checks`: closed routes, long names, other sites, frequent logins; it also takes the owner's key
- `bodies`: sizes, structure, time and memory of requests; recent uploads
- `gate`: connected pages and MCP clients
- `gradio_private.calls`: calls that wait, and answers that nobody fetches
- `gradio_private.pages`: open pages
- `values`: values that an event cannot take
- `ui.visits`: what visits keep in memory and on disk
- `ui.api_shelf`: adapters of the API

`shares` counts what visitors take, `visitors` says who they are, and `refusals` words the answers.
Nothing outside `gradio_private` touches private parts of Gradio.
"""
