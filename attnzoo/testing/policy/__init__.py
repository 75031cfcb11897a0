"""The contract of policies, as checks."""

from attnzoo.testing.policy.check import POLICY_CHECKS, check_policy

__all__ = ["POLICY_CHECKS", "check_policy"]
