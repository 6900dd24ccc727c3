"""Votes of a blind comparison: win rate and whether it is significant."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ui.markup import esc, evidence, quiet
from ui.state import Turn, Vote
from ui.tabs.workbench.compare.view import label_words
from ui.text import N_, _

VOTE_WORDS: Mapping[Vote, str] = {
    "right": N_("won"),
    "left": N_("lost"),
    "tie": N_("equally good"),
    "bad": N_("both bad"),
}
"""Outcome for the right side, in the order of the tally."""


def win_rate(votes: Sequence[Vote]) -> tuple[float, float, float] | None:
    """Return the share of votes for the right side, and its 95 % interval (Wilson).

    Only votes that prefer a side count; None without any.
    """
    won, lost = votes.count("right"), votes.count("left")
    if won + lost == 0:
        return None
    from scipy.stats import binomtest  # takes half a second, which the page's start would pay

    # Wilson's interval stays within 0 and 1, and holds for few votes too.
    interval = binomtest(won, won + lost).proportion_ci(0.95, method="wilson")
    return won / (won + lost), float(interval.low), float(interval.high)


def votes_html(turns: Sequence[Turn]) -> str:
    """Draw the tally of each compared pair."""
    pairs: dict[tuple[str, str], list[Vote]] = {}
    for turn in turns:
        if turn.vote is not None and turn.right is not None:
            # Labels contain the strength, so an adapter at two strengths is in two pairs.
            pair = label_words(turn.left), label_words(turn.right)
            pairs.setdefault(pair, []).append(turn.vote)
    body = "".join(_pair_html(*pair, votes) for pair, votes in pairs.items())
    more = _(
        "The two switch sides at random, and each vote reveals which is which. The"
        " strength is fixed while “Blind” is on. Answers that you saw before you switched it on are"
        " not voted on: ask something else."
    )
    return (
        f"<section class='dnd-panel dnd-tally' aria-live='polite'><div class='dnd-row'>"
        f"<h2 class='dnd-heading'>{_('Votes')}</h2></div>{quiet(more)}{body}</section>"
    )


def _pair_html(left: str, right: str, votes: Sequence[Vote]) -> str:
    counts = Counter(votes)
    cells = "".join(
        f"<li><b class='dnd-num'>{counts[vote]}</b> {_(words)}</li>"
        for vote, words in VOTE_WORDS.items()
    )
    rate = win_rate(votes)
    if rate is None:
        words = _("No vote for either yet.")
    else:
        share, low, high = rate
        words = _(
            "Won {share:.0f} % of the votes that chose one (95 % interval {low:.0f} to "
            "{high:.0f}).",
            share=100 * share,
            low=100 * low,
            high=100 * high,
        )
        if low <= 0.5 <= high:
            words += f" {_('Too few votes to tell.')}"
    title = f"<code>{esc(right)}</code> {_('against')} <code>{esc(left)}</code>"
    return evidence(title, f"<ul class='dnd-counts'>{cells}</ul>{quiet(words)}")
