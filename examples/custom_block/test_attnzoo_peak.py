"""The block and the policy keep what attnzoo's own keep."""

import attnzoo.testing


def test_the_block_keeps_the_contract():
    report = attnzoo.testing.check_block("peak", sharpness=2.0)
    print(report)
    report.raise_if_failed()


def test_the_policy_keeps_the_contract():
    report = attnzoo.testing.check_policy("after-stride")
    print(report)
    report.raise_if_failed()
