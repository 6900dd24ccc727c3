"""Events of the report card: the generator on unseen tasks."""

from collections.abc import Sequence

import gradio as gr

from dnd_engine.errors import GeneratorError
from dnd_engine.evaluation.pictures import Metric
from ui.faults import report_fault
from ui.shared import App, Updates
from ui.state import Session
from ui.tabs.report.view import Group, card_markdown, groups, report_html, unreadable_html
from ui.text import _, note_words


class ReportEvents:
    """Events of the tab."""

    def __init__(self, app: App) -> None:
        self._app = app

    def report(self, session: Session, group: str | None, metric: Metric) -> Updates:
        """Show the generator's report card when its tab opens."""
        engine, card = self._app.calls.engine, {"report_card": self.card()}
        if engine is None:
            return {"report_controls": gr.Row(visible=False), **card}
        try:
            reports = engine.reports
        except GeneratorError as error:
            return {
                "report_controls": gr.Row(visible=False),
                "report": unreadable_html(
                    # It names the folder of the generator.
                    note_words(str(error)) if session.own else report_fault(error, "report")
                ),
                "report_more": "",
                "report_all": gr.Accordion(open=True),
                **card,
            }
        found = groups(reports)
        keys = [one.key for one in found]
        group = group if group in keys else next(iter(keys), None)
        return {
            "report_controls": gr.Row(visible=bool(keys)),
            "report_group": _choices(found, group),
            "report_all": gr.Accordion(open=not keys),
            **card,
            **self.draw_report(group, metric),
        }

    def again(self, group: str | None, metric: Metric) -> Updates:
        """Redraw the tab in another language; without a report, the model card alone."""
        engine, card = self._app.calls.engine, {"report_card": self.card()}
        # Before the tab was opened there is nothing to draw.
        if engine is None or group is None:
            return card
        try:
            reports = engine.reports
        except GeneratorError:
            return card
        chosen = _choices(groups(reports), group)
        return {**card, "report_group": chosen, **self.draw_report(group, metric)}

    def draw_report(self, group: str | None, metric: Metric) -> Updates:
        """Draw the chosen part of the report."""
        engine = self._app.calls.engine
        reports = engine.reports if engine else {}
        chosen = next((g for g in groups(reports) if g.key == group), None)
        if engine is None or chosen is None:
            return {"report": "", "report_more": ""}
        sha256 = engine.info.generator_sha256 or ""
        first, more = report_html(reports[chosen.split], chosen, metric, sha256)
        return {"report": first, "report_more": more}

    def card(self) -> str:
        """Return the generator's model card, or why there is none."""
        engine = self._app.calls.engine
        if engine is None:
            return _("### Not loaded yet\nThe report card appears when the generator is loaded.")
        if not engine.info.has_generator:
            return _(
                "### No generator\nThis base has none, so there is nothing to report on. Adapters "
                "are made by imprint alone: measure yours in the Measure tab."
            )
        return card_markdown(engine.card) or _(
            "### No report yet\nThis generator came without a report card. Run `dnd evaluate` to "
            "examine it on unseen tasks; the result appears here."
        )


def _choices(found: Sequence[Group], chosen: str | None) -> gr.Radio:
    """List the parts of the report."""
    return gr.Radio(choices=[(group.label(), group.key) for group in found], value=chosen)
