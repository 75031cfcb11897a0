"""The contracts of blocks and policies, as checks for whoever writes one."""

from attnzoo.testing.block import BLOCK_CHECKS, check_block
from attnzoo.testing.policy import POLICY_CHECKS, check_policy
from attnzoo.testing.report import Outcome, Report, Row

__all__ = [
    "BLOCK_CHECKS",
    "POLICY_CHECKS",
    "Outcome",
    "Report",
    "Row",
    "check_block",
    "check_policy",
]
