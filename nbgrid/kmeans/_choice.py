"""
What `choose_k` answers, and how it shows itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbgrid.kmeans._typing import Float64s

if TYPE_CHECKING:
    import pandas as pd

    from nbgrid.kmeans._silhouette import Silhouette

NAMES = {
    "silhouette": "silhouette",
    "davies_bouldin": "Davies–Bouldin",
    "calinski_harabasz": "Caliński–Harabasz",
    "knee": "knee",
    "gap": "gap",
    "gap_pca": "gap (principal axes)",
    "bic": "BIC",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one rule says."""

    k: int | None
    """On the whole sweep; None where the rule has no answer."""

    stability: float
    """From 0 to 1: how often it says the same of resamples, with all k and with each shorter range that goes on after
    its own k."""

    votes: Mapping[int, int]
    """How many resamples, with all k, say which k; those without an answer are missing."""

    shorter: Mapping[int, int | None]
    """What it says of the whole data if k stops earlier: the last k → the answer, where that is another one."""

    reason: str
    """Why there is no k, or what to mind about it; else ''."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """
    The answers of several rules, none above the others: where they disagree, that is the finding.
    """

    answers: Mapping[str, Answer]
    """By rule: 'silhouette', 'davies_bouldin', 'calinski_harabasz', 'knee', 'gap', 'gap_pca', 'bic'."""

    n_clusters: list[int]
    n_resamples: int
    n_rows: int
    """Rows of a resample."""

    curves: Mapping[str, Float64s]
    """What the rules saw of the whole data, one value for each k."""

    silhouettes: Mapping[int, Silhouette]
    """For each k from 2, with its standard error."""

    def to_frame(self) -> pd.DataFrame:
        """Return a frame with a row for each rule."""
        import pandas as pd

        return pd.DataFrame(
            {
                "rule": list(self.answers),
                "k": pd.array([answer.k for answer in self.answers.values()], dtype="Int64"),
                "votes": [_votes(answer) for answer in self.answers.values()],
                "n_resamples": self.n_resamples,
                "stability": [answer.stability for answer in self.answers.values()],
                "others": [_others(answer) for answer in self.answers.values()],
                "shorter": [_shorter(answer) for answer in self.answers.values()],
                "reason": [answer.reason for answer in self.answers.values()],
            }
        )

    def __repr__(self) -> str:
        return " · ".join([*self._groups(), *self._if_shorter(), *self._silent()])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{NAMES[rule]}</td><td>{'–' if answer.k is None else answer.k}</td>"
            f"<td>{_votes(answer)}/{self.n_resamples}</td><td>{answer.stability:.0%}</td>"
            f"<td>{_others(answer)}</td><td>{_shorter(answer)}</td><td>{answer.reason}</td></tr>"
            for rule, answer in self.answers.items()
        )
        head = "".join(
            f"<th>{name}</th>"
            for name in ("rule", "k", "votes", "stability", "other votes", "if k stops earlier", "remark")
        )
        caption = (
            f"k from {self.n_clusters[0]} to {self.n_clusters[-1]}; {self.n_resamples} resamples of {self.n_rows} rows"
        )
        return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def _groups(self) -> list[str]:
        """Return a part for each k that a rule names, the most voted first."""
        by_k: dict[int, list[tuple[str, Answer]]] = {}
        for rule, answer in sorted(self.answers.items(), key=lambda pair: -_votes(pair[1])):
            if answer.k is not None:
                by_k.setdefault(answer.k, []).append((rule, answer))
        parts = []
        for k, named in sorted(by_k.items(), key=lambda pair: (-_voices(pair[1]), pair[0])):
            told = ", ".join(f"{NAMES[rule]} {self._told(answer)}" for rule, answer in named)
            parts.append(f"k = {k}{' (the last)' if k == self.n_clusters[-1] else ''}: {told}")
        return parts

    def _told(self, answer: Answer) -> str:
        """Return the votes for an answer, and those for another k that has more."""
        ahead = {k: count for k, count in answer.votes.items() if count > _votes(answer)}
        more = f" ({max(ahead.values())} for {max(ahead, key=lambda k: ahead[k])})" if ahead else ""
        return f"{_votes(answer)}/{self.n_resamples}{more}"

    def _if_shorter(self) -> list[str]:
        """Return a part for each k that is named only when the range stops earlier."""
        told: dict[tuple[int, tuple[int, ...]], list[str]] = {}
        for rule, answer in self.answers.items():
            for k in {k for k in answer.shorter.values() if k is not None}:
                stops = tuple(stop for stop, other in answer.shorter.items() if other == k)
                told.setdefault((k, stops), []).append(NAMES[rule])
        named = {answer.k for answer in self.answers.values()}
        return [
            f"k = {k}: {' and '.join(rules)}{' alone' if len(rules) == 1 and k not in named else ''}, "
            f"if k stops at {_spans(stops)}"
            for (k, stops), rules in sorted(told.items())
        ]

    def _silent(self) -> list[str]:
        none = [NAMES[rule] for rule, answer in self.answers.items() if answer.k is None]
        return [f"no answer: {', '.join(none)}"] if none else []


def _voices(named: list[tuple[str, Answer]]) -> int:
    """Return the votes for a k; the two gaps, which differ in their references alone, have one voice."""
    votes = [_votes(answer) for rule, answer in named if not rule.startswith("gap")]
    return sum(votes) + max((_votes(answer) for rule, answer in named if rule.startswith("gap")), default=0)


def _votes(answer: Answer) -> int:
    return answer.votes.get(answer.k, 0) if answer.k is not None else 0


def _others(answer: Answer) -> str:
    return ", ".join(f"{k}: {count}" for k, count in sorted(answer.votes.items()) if k != answer.k)


def _shorter(answer: Answer) -> str:
    by_answer: dict[int | None, list[int]] = {}
    for stop, k in answer.shorter.items():
        by_answer.setdefault(k, []).append(stop)
    return "; ".join(f"{'none' if k is None else k} at {_spans(stops)}" for k, stops in by_answer.items())


def _spans(numbers: Iterable[int]) -> str:
    """Return ascending *numbers* in words: 6 to 8, 11."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return ", ".join(f"{span[0]} to {span[-1]}" if len(span) > 2 else ", ".join(map(str, span)) for span in spans)
