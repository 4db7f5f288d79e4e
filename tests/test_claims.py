"""Each rule, fed made-up evidence for every verdict that it can give."""

from __future__ import annotations

import pytest

from descents.reproduction.claims import (
    CHECKS,
    CLAIMS,
    CORRECTED,
    FAILED_BELOW,
    NOT_SUPPORTED,
    SUPPORTED,
    TABLE_1,
    UNDECIDED,
    VERDICTS,
)

EVIDENCE = {
    1: [
        ({"gap": 1e-6, "share_of_starts_within": 0.99, "below_exact": 0}, SUPPORTED),
        ({"gap": 1e-6, "share_of_starts_within": 0.5, "below_exact": 0}, CORRECTED),
        (
            {"gap": 2e-3, "share_of_starts_within": 0.99, "below_exact": 0},
            NOT_SUPPORTED,
        ),
        ({"gap": -0.5, "share_of_starts_within": 0.99, "below_exact": 1}, UNDECIDED),
        (
            {"gap": -0.5, "share_of_starts_within": 0.99, "below_exact": 0},
            NOT_SUPPORTED,
        ),
        (
            {"gap": float("nan"), "share_of_starts_within": 0.99, "below_exact": 0},
            UNDECIDED,
        ),
    ],
    2: [
        ({"similarity_r2": 0.9995, "linear_r2": 1.0}, SUPPORTED),
        ({"similarity_r2": 0.96, "linear_r2": 0.9999}, CORRECTED),
        ({"similarity_r2": 0.5, "linear_r2": 0.7}, NOT_SUPPORTED),
        ({"similarity_r2": 0.9, "linear_r2": 0.995}, UNDECIDED),
    ],
    3: [
        (
            {
                "identity_error": 0.0,
                "largest_angle_rad": 1e-3,
                "variance_share_of_maximum": 0.99999,
            },
            SUPPORTED,
        ),
        (
            {
                "identity_error": 0.0,
                "largest_angle_rad": 0.05,
                "variance_share_of_maximum": 0.999,
            },
            CORRECTED,
        ),
        (
            {
                "identity_error": 0.0,
                "largest_angle_rad": 0.5,
                "variance_share_of_maximum": 0.8,
            },
            NOT_SUPPORTED,
        ),
        (
            {
                "identity_error": 0.1,
                "largest_angle_rad": 1e-3,
                "variance_share_of_maximum": 1.0,
            },
            UNDECIDED,
        ),
    ],
    4: [
        (
            {
                "failed_share_low": 0.2,
                "failed_share_high": 0.3,
                "variance_share_of_starts": 0.6,
                "variance_share_of_shuffles": 0.2,
            },
            SUPPORTED,
        ),
        (
            {
                "failed_share_low": 0.2,
                "failed_share_high": 0.3,
                "variance_share_of_starts": 0.04,
                "variance_share_of_shuffles": 0.2,
            },
            CORRECTED,
        ),
        (
            {
                "failed_share_low": 0.0,
                "failed_share_high": 0.005,
                "variance_share_of_starts": 0.6,
                "variance_share_of_shuffles": 0.2,
            },
            NOT_SUPPORTED,
        ),
        (
            {
                "failed_share_low": 0.2,
                "failed_share_high": 0.3,
                "variance_share_of_starts": 0.01,
                "variance_share_of_shuffles": 0.99,
            },
            NOT_SUPPORTED,
        ),
        (
            {
                "failed_share_low": 0.0,
                "failed_share_high": 0.3,
                "variance_share_of_starts": 0.6,
                "variance_share_of_shuffles": 0.2,
            },
            UNDECIDED,
        ),
        (
            {
                "failed_share_low": 0.996,
                "failed_share_high": 1.0,
                "variance_share_of_starts": 0.6,
                "variance_share_of_shuffles": 0.2,
            },
            UNDECIDED,
        ),
        (
            {
                "failed_share_low": 0.2,
                "failed_share_high": 0.3,
                "variance_share_of_starts": None,
                "variance_share_of_shuffles": 0.2,
            },
            UNDECIDED,
        ),
    ],
    5: [
        (
            {
                "failed": 100,
                "undecided_share": 0.1,
                "minimum_or_vanished_share": 0.6,
            },
            SUPPORTED,
        ),
        (
            {
                "failed": 100,
                "undecided_share": 0.1,
                "minimum_or_vanished_share": 0.1,
            },
            CORRECTED,
        ),
        (
            {
                "failed": 100,
                "undecided_share": 0.1,
                "minimum_or_vanished_share": 0.01,
            },
            NOT_SUPPORTED,
        ),
        (
            {
                "failed": 100,
                "undecided_share": 0.3,
                "minimum_or_vanished_share": 0.0,
            },
            UNDECIDED,
        ),
        (
            {
                "failed": 5,
                "undecided_share": 0.0,
                "minimum_or_vanished_share": 1.0,
            },
            UNDECIDED,
        ),
        (
            {
                "failed": 0,
                "undecided_share": None,
                "minimum_or_vanished_share": None,
            },
            UNDECIDED,
        ),
    ],
    6: [
        (
            {
                "excess_failure_low": 0.1,
                "excess_failure_high": 0.2,
                "vanished_share": 0.6,
            },
            SUPPORTED,
        ),
        (
            {
                "excess_failure_low": 0.1,
                "excess_failure_high": 0.2,
                "vanished_share": 0.2,
            },
            CORRECTED,
        ),
        (
            {
                "excess_failure_low": 0.1,
                "excess_failure_high": 0.2,
                "vanished_share": 0.0,
            },
            NOT_SUPPORTED,
        ),
        (
            {
                "excess_failure_low": -0.2,
                "excess_failure_high": -0.1,
                "vanished_share": 0.6,
            },
            NOT_SUPPORTED,
        ),
        (
            {
                "excess_failure_low": -0.1,
                "excess_failure_high": 0.1,
                "vanished_share": 0.6,
            },
            UNDECIDED,
        ),
    ],
}


@pytest.mark.parametrize(
    ("number", "evidence", "verdict"),
    [
        (n, evidence, verdict)
        for n, rows in EVIDENCE.items()
        for evidence, verdict in rows
    ],
)
def test_a_rule_gives_its_verdict(number, evidence, verdict) -> None:
    claim = CLAIMS[number - 1]
    assert claim.number == number
    assert claim.verdict(evidence) == verdict


def test_every_rule_can_come_out_every_way() -> None:
    for number, rows in EVIDENCE.items():
        assert {verdict for _, verdict in rows} == set(VERDICTS), number


def test_missing_evidence_is_said() -> None:
    claim = CLAIMS[0]
    assert claim.verdict({"gap": 1e-9, "below_exact": 0}) == UNDECIDED
    assert (
        claim.found({"gap": 1e-9, "below_exact": 0})
        == "No evidence: share of starts within."
    )


def test_the_line_of_failure_parts_the_runs_that_the_report_calls_bad() -> None:
    bad = [run for run, (training, _) in enumerate(TABLE_1) if training < FAILED_BELOW]
    assert bad == [1, 3, 9]


def test_a_check_is_met_or_not() -> None:
    check = CHECKS["gd_loss_after_24_draws"]
    assert check.judge(check.published + 4e-6).met
    assert not check.judge(check.published - 6e-6).met
    relative = CHECKS["gd_loss"].judge(15.2290)
    assert relative.tolerance == pytest.approx(1.5228897e-4)
    assert relative.met
    assert not CHECKS["gd_loss"].judge(float("nan")).met
