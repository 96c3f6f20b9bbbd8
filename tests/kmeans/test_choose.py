"""choose_k: its rules on curves that are known, its answers on data that is known, and how it shows them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_blobs

from nbgrid.kmeans import choose_k, sweep
from nbgrid.kmeans._choice import Answer, Choice
from nbgrid.kmeans._gap import box, gaps
from nbgrid.kmeans._resample import FEWEST_A_CLUSTER, MOST, Rows
from nbgrid.kmeans._rules import RULES, shortened, verdict

# The inertias of k = 1 to 10 on Mall_Customers.csv, as published notebooks print them.
MALL = [269981.28, 181363.60, 106348.37, 73679.79, 44448.46, 37265.87, 30241.34, 25336.95, 21850.17, 19634.55]

SEGMENTS = [  # rows, income and score of five segments of customers: mean and deviation
    (81, (55.3, 9.0), (49.5, 6.1)),
    (39, (86.5, 16.3), (82.1, 9.4)),
    (22, (25.7, 7.6), (79.4, 10.5)),
    (35, (88.2, 16.4), (17.1, 10.0)),
    (23, (26.3, 7.9), (20.9, 13.0)),
]


def customers(seed):
    """200 customers like those of the Mall data: income and spending score."""
    rng = np.random.default_rng(seed)
    rows = [np.column_stack([rng.normal(*i, n), rng.normal(*s, n)]) for n, i, s in SEGMENTS]
    return np.clip(np.rint(np.vstack(rows)), [15, 1], [137, 100])


@pytest.fixture(scope="module")
def clear():
    """What choose_k says of six plain clusters."""
    X, _ = make_blobs(600, centers=6, n_features=5, random_state=3)
    return choose_k(sweep(X, range(1, 11), random_state=0), random_state=0)


def test_knee__of_the_published_curve_depends_on_where_k_stops():
    """
    On the real Mall curve the knee is 3 while k stops at 6 to 8, and 5 when it goes on to 10.
    """
    curves = {"inertia": np.array(MALL)}
    told = [verdict("knee", list(range(1, stop + 1)), shortened(curves, stop)).k for stop in range(2, 11)]
    assert told == [None, None, None, None, 3, 3, 3, 4, 5]
    assert verdict("knee", [1, 2], shortened(curves, 2)).reason == "a knee needs three k"


def test_extremes__take_the_best_that_is_defined():
    """
    The highest or lowest value wins, of equal ones the first; one at the end of the range says so; NaN is no value.
    """
    ks = [1, 2, 4, 8]
    curves = {"silhouette": np.array([np.nan, 0.4, 0.7, 0.7]), "davies_bouldin": np.array([np.nan, 0.4, 0.7, 0.3])}
    assert verdict("silhouette", ks, curves) == (4, "")
    assert verdict("davies_bouldin", ks, curves) == (8, "k = 8 is the last of the range")
    assert verdict("silhouette", [1], shortened(curves, 1)) == (None, "not defined for these k")


def test_gap__takes_the_first_k_within_a_standard_error_of_the_next():
    """
    The rule of the paper's step 3; a gap that grows to the end has no answer.
    """
    curves = {"gap": np.array([0.1, 0.5, 0.55, 0.9]), "gap_error": np.array([0.1, 0.1, 0.06, 0.1])}
    assert verdict("gap", [1, 2, 3, 4], curves) == (2, "")
    curves["gap_error"] = np.full(4, 0.01)
    assert verdict("gap", [1, 2, 3, 4], curves) == (None, "the gap still grows at k = 4")


def test_gaps__are_mean_logs_less_the_log():
    """
    Gap and standard error are those of the definition.
    """
    gap, error = gaps(np.array([2.0, 1.0]), np.array([[2.0, 4.0], [8.0, 4.0]]))
    np.testing.assert_allclose(gap, [np.log(2), np.log(4)])
    np.testing.assert_allclose(error, [np.log(2) * np.sqrt(1.5), 0])


@pytest.mark.parametrize("aligned", [False, True])
def test_box__holds_the_data_and_what_is_drawn(rng, aligned):
    """
    References lie within the box and fill it; along the principal axes a tilted cloud's box is the smaller one.
    """
    X = rng.standard_normal((500, 2)) @ [[9.0, 8.0], [-0.1, 0.2]] + 40
    around = box(X, aligned=aligned)
    drawn = around.draw(2000, np.random.RandomState(0))
    axes = np.eye(2) if around.axes is None else around.axes
    inside = (drawn - around.middle) @ axes
    assert (inside >= around.low - 1e-9).all()
    assert (inside <= around.high + 1e-9).all()
    assert (np.ptp(inside, axis=0) > 0.98 * (around.high - around.low)).all()
    np.testing.assert_allclose(np.ptp((X - around.middle) @ axes, axis=0), around.high - around.low, rtol=1e-9)
    assert aligned == (np.prod(around.high - around.low) < 0.5 * np.prod(np.ptp(X, axis=0)))


def test_choice__is_unanimous_where_clusters_are_plain(clear):
    """
    Six plain clusters: every rule but the knee says 6 of the whole, and of nine resamples in ten.
    """
    assert set(clear.answers) == set(RULES)
    plain = [answer for rule, answer in clear.answers.items() if rule != "knee"]
    assert {answer.k for answer in plain} == {6}
    assert all(answer.votes[6] >= 9 for answer in plain)
    assert clear.answers["silhouette"].stability == 1
    assert clear.silhouettes[6].exact
    assert clear.silhouettes[6].value == clear.curves["silhouette"][5] == np.nanmax(clear.curves["silhouette"])


def test_choice__of_data_like_mall_shows_that_the_knee_wavers():
    """
    Silhouette and Davies–Bouldin say 5 of each of eight samples of customers; the gap says 1; the knee is not sure.
    """
    choices = [
        choose_k(sweep(customers(seed), range(1, 11), random_state=0), n_resamples=5, random_state=0)
        for seed in range(8)
    ]
    answers = {rule: [choice.answers[rule] for choice in choices] for rule in RULES}
    assert {answer.k for answer in answers["silhouette"]} == {5}
    assert {answer.k for answer in answers["davies_bouldin"]} == {5}
    assert {answer.k for answer in answers["gap"]} == {1}
    assert {answer.k for answer in answers["knee"]} == {4, 5}
    stability = {rule: np.mean([answer.stability for answer in told]) for rule, told in answers.items()}
    assert stability["knee"] < 0.6 < 0.9 < stability["silhouette"]
    assert any(3 in answer.shorter.values() for answer in answers["knee"])


def test_choice__of_data_without_clusters_is_not_made_up(rng):
    """
    In a uniform cube the gap and BIC say 1, and the rules that cannot say 1 do not agree with them.
    """
    choice = choose_k(sweep(rng.uniform(size=(2000, 3)), range(1, 9), random_state=0), n_resamples=4, random_state=0)
    assert {choice.answers[rule].k for rule in ("gap", "gap_pca", "bic")} == {1}
    assert 1 not in {choice.answers[rule].k for rule in ("silhouette", "davies_bouldin", "calinski_harabasz")}


def test_gap__along_the_principal_axes_is_not_misled_by_a_tilt(rng):
    """
    A tilted strip without clusters: compared with a box along the features it seems to have several, along its own one.
    """
    strip = rng.uniform(-1, 1, (900, 2)) @ [[8.0, 8.0], [-1.0, 1.0]]
    answers = choose_k(sweep(strip, range(1, 9), random_state=0), n_resamples=5, random_state=0).answers
    assert answers["gap_pca"].k == 1
    assert answers["gap"].k > 1


def test_choice__is_the_same_for_the_same_random_state(blobs):
    """
    One random_state gives one choice, another one other resamples.
    """
    result = sweep(blobs[:200], range(1, 8), random_state=0)
    one, same, other = (choose_k(result, n_resamples=3, random_state=s) for s in (0, 0, 1))
    assert repr(one) == repr(same)
    assert one.answers == same.answers
    assert not np.array_equal(one.curves["gap"], other.curves["gap"])


def test_choice__counts_rows_by_their_weight(blobs):
    """
    Rows without weight are as if they were not there: five of six clusters are found.
    """
    first = sweep(blobs, [6], random_state=0)[6].labels_ == 0
    result = sweep(blobs, range(1, 9), sample_weight=np.where(first, 0.0, 2.0), random_state=0)
    answers = choose_k(result, n_resamples=3, random_state=0).answers
    assert {answers[rule].k for rule in ("silhouette", "davies_bouldin", "gap", "bic")} == {5}


def test_resamples__are_bounded_and_hold_enough():
    """
    A resample has four fifths of few rows and some thousands of many; each k has its rows; none has more than there are.
    """
    for n, d, top in [(200, 2, 10), (10, 2, 10), (100_000, 8, 20), (100_000, 400, 20), (100_000, 2, 500)]:
        size = Rows(X=np.empty((n, d), dtype="f4"), weight=np.empty(0), ks=[1, top]).resampled()
        assert top <= size <= n
        assert size <= max(MOST, FEWEST_A_CLUSTER * top)
        assert size >= min(0.8 * n, FEWEST_A_CLUSTER * top)


def test_choose_k__refuses_what_leaves_no_choice(blobs):
    """
    A sweep of one k and numbers of resamples that are none are a ValueError.
    """
    with pytest.raises(ValueError, match="has one k, 3"):
        choose_k(sweep(blobs, [3], random_state=0))
    result = sweep(blobs, [2, 3], random_state=0)
    for count in (0, 1.5, True, "3"):
        with pytest.raises(ValueError, match="n_resamples"):
            choose_k(result, n_resamples=count)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_choose_k__needs_no_more_rows_with_weight_than_there_are(rng):
    """
    Where fewer rows have weight than the largest k, resamples hold all rows.
    """
    weight = np.zeros(50)
    weight[:3] = 1
    result = sweep(rng.standard_normal((50, 2)), range(1, 6), sample_weight=weight, random_state=0)
    assert choose_k(result, n_resamples=2, random_state=0).answers["silhouette"].k in range(2, 6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("X", [np.full((60, 2), 3.0), np.arange(12.0)[:, None], np.arange(5.0)[:, None]])
def test_choose_k__answers_or_says_why_not(X):
    """
    Equal rows, one feature, as many clusters as rows: each rule has a k of the sweep, or None and a reason.
    """
    ks = range(1, min(len(X), 6) + 1)
    choice = choose_k(sweep(X, ks, random_state=0), n_resamples=3, random_state=0)
    for answer in choice.answers.values():
        assert answer.k in ks or (answer.k is None and answer.reason)
        assert 0 <= answer.stability <= 1
    assert repr(choice)


def answer(k, votes, *, stability=1.0, shorter=None, reason=""):
    return Answer(k=k, stability=stability, votes=votes, shorter=shorter or {}, reason=reason)


def choice(answers, last=10):
    return Choice(
        answers=answers, n_clusters=list(range(1, last + 1)), n_resamples=10, n_rows=160, curves={}, silhouettes={}
    )


def test_choice__reads_as_one_line():
    """
    The most voted k comes first, with each rule's votes; then what is said only of shorter ranges; then the silent.
    """
    shown = choice(
        {
            "silhouette": answer(5, {5: 10}),
            "davies_bouldin": answer(5, {5: 9, 6: 1}),
            "calinski_harabasz": answer(10, {10: 6, 9: 4}, reason="k = 10 is the last of the range"),
            "knee": answer(5, {5: 4, 4: 6}, shorter={6: 3, 7: 3, 8: 3, 9: 4}),
            "gap": answer(1, {1: 10}),
            "gap_pca": answer(None, {}, reason="the gap still grows at k = 10"),
        }
    )
    assert repr(shown) == (
        "k = 5: silhouette 10/10, Davies–Bouldin 9/10, knee 4/10 (6 for 4) · k = 1: gap 10/10 · "
        "k = 10 (the last): Caliński–Harabasz 6/10 · k = 3: knee alone, if k stops at 6 to 8 · "
        "k = 4: knee alone, if k stops at 9 · no answer: gap (principal axes)"
    )


def test_choice__does_not_let_two_gaps_outvote_the_rest():
    """
    The two gaps have one voice in the order; and who says what others say of the whole is not alone.
    """
    shown = choice(
        {
            "silhouette": answer(5, {5: 8}),
            "davies_bouldin": answer(5, {5: 7}),
            "knee": answer(6, {6: 5}, shorter={7: 5, 9: 5}),
            "gap": answer(1, {1: 10}),
            "gap_pca": answer(1, {1: 10}),
        }
    )
    assert repr(shown) == (
        "k = 5: silhouette 8/10, Davies–Bouldin 7/10 · k = 1: gap 10/10, gap (principal axes) 10/10 · "
        "k = 6: knee 5/10 · k = 5: knee, if k stops at 7, 9"
    )


def test_choice__has_a_row_for_each_rule(clear):
    """
    Frame and HTML hold every rule with its k, votes, stability and reason; a rule without an answer has no k.
    """
    frame = clear.to_frame()
    assert list(frame["rule"]) == list(clear.answers)
    assert list(frame["k"]) == [answer.k for answer in clear.answers.values()]
    assert clear._repr_html_().count("<tr>") == 1 + len(frame)
    assert "600" not in clear._repr_html_()
    assert "10 resamples of 480 rows" in clear._repr_html_()
    silent = choice({"gap": answer(None, {2: 1, 3: 4}, reason="the gap still grows at k = 10", shorter={5: None})})
    row = silent.to_frame().iloc[0]
    assert row.isna()["k"]
    assert (row["votes"], row["others"], row["shorter"]) == (0, "2: 1, 3: 4", "none at 5")
    assert row["reason"] in silent._repr_html_()
