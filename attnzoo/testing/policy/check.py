"""The contract of a policy, check by check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from attnzoo.testing.contract import Check, attempt, choose
from attnzoo.testing.policy import places, surgery
from attnzoo.testing.policy.subject import PolicySubject, networks_of
from attnzoo.testing.report import Report

__all__ = ["POLICY_CHECKS", "check_policy", "run_checks"]

#: Name → check, in the order in which they run.
POLICY_CHECKS: Mapping[str, Check[PolicySubject]] = {
    check.name: check
    for check in (
        Check("documented", places.documented),
        Check("options", places.options),
        Check("places", places.places),
        Check("pure", places.pure),
        Check("filters", places.filters),
        Check("no places", places.no_places),
        Check("plan", surgery.plan_changes_nothing),
        Check("outputs", surgery.outputs_kept),
        Check("runs once", surgery.runs_once),
        Check("gradients", surgery.gradients),
        Check("unwrap", surgery.undone),
    )
}


def check_policy(
    policy: str,
    models: nn.Module | Iterable[nn.Module] | Mapping[str, nn.Module] | None = None,
    *,
    example: Any = None,
    checks: Iterable[str] | None = None,
    **options: Any,
) -> Report:
    """Whether a policy keeps the contract that every policy of attnzoo keeps.

    What is checked, on each model: the sites are places of the trace that the policy was given,
    the same ones every time; the common filters keep what they should; a plan changes nothing;
    after `wrap` with the identity start the outputs are bitwise those before, each block runs once,
    and gradients reach all of it; `unwrap` restores everything; and where there is no place,
    `NoSitesError` says why.

    A check that raises is a row that failed. Nothing is changed: surgery is done on copies of the
    models, and the random state is as it was.

    Args:
        policy: a registered name.
        models: what to try it on: a model, several, or a mapping from names to models, also on meta
            tensors, where nothing is computed. By default five small networks: plain, residual,
            dense, of MBConv blocks, and a U-Net.
        example: what to trace the models with, as `wrap` takes it.
        checks: names of those to run, from `POLICY_CHECKS`; by default all.
        **options: of the policy, filters among them.

    Raises:
        UnknownNameError: no such policy; the closest names are listed.
        OptionError: no such check, or `models` are none.

    Example:
        >>> import attnzoo.testing
        >>> report = attnzoo.testing.check_policy("pre-pool", checks=["places", "outputs"])
        >>> print(report)
        policy pre-pool: 2 passed
          places   passed  3 in plain, 0 in residual, 2 in dense, 0 in mbconv, 2 in unet
          outputs  passed
    """
    chosen = choose("check_policy", POLICY_CHECKS, checks)
    subject = PolicySubject.of(policy, options, networks_of(models, example))
    return run_checks(subject, chosen)


def run_checks(subject: PolicySubject, chosen: Iterable[Check[PolicySubject]]) -> Report:
    """A row for each check that is chosen."""
    return Report(str(subject), tuple(attempt(check, subject, {}) for check in chosen))
