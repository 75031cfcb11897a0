"""A policy to be checked, and the networks that it is tried on."""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from attnzoo.errors import NoSitesError, OptionError
from attnzoo.policies import FILTERS, PolicyCall, Selection, select
from attnzoo.registry import POLICIES, PolicySpec
from attnzoo.testing.contract import BreachError, NotRunError, explain, same_bits
from attnzoo.testing.policy.networks import SIZE, small_networks
from attnzoo.tracing import Trace, probe, resolve_example

__all__ = ["Network", "PolicySubject", "networks_of", "outputs", "same_outputs"]


@dataclass(frozen=True, eq=False)
class Network:
    """A network, and what to show it. It is copied before anything is put into it.

    Attributes:
        name: for messages.
        model: on any device; on meta tensors, nothing is computed and so nothing compared.
        example: as `wrap` takes it.
    """

    name: str
    model: nn.Module
    example: Any = None

    @cached_property
    def trace(self) -> Trace:
        return probe(self.model, self.example)

    @property
    def is_meta(self) -> bool:
        return self._device.type == "meta"

    @property
    def _device(self) -> torch.device:
        tensors = [*self.model.parameters(), *self.model.buffers()]
        return tensors[0].device if tensors else torch.device("cpu")

    @cached_property
    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of one forward pass: of two images, where the example is a size."""
        args, kwargs = resolve_example(self.model, self.example, self._device)
        is_size = not any(isinstance(leaf, Tensor) for leaf in tree_leaves(self.example))

        def filled(x: Tensor) -> Tensor:
            shape = (2, *x.shape[1:]) if is_size and x.ndim > 3 else x.shape
            return torch.randn(shape, dtype=x.dtype, device=x.device) if is_size else x

        return tree_map_only(Tensor, filled, (args, kwargs))

    @contextmanager
    def named(self) -> Generator[nn.Module]:
        """A copy of the network; what goes wrong with it is told with its name."""
        try:
            yield copy.deepcopy(self.model)
        except NotRunError:
            raise
        except Exception as error:
            raise BreachError(f"in {self.name}: {explain(error)}") from error


@dataclass(frozen=True, eq=False)
class PolicySubject:
    """A policy with its options, and networks.

    Attributes:
        spec: what the registry knows about it.
        options: of the policy, filters among them.
        networks: to try it on.
    """

    spec: PolicySpec
    options: Mapping[str, Any]
    networks: tuple[Network, ...]
    _selected: dict[Network, Selection | NoSitesError] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, policy: str, options: Mapping[str, Any], networks: Iterable[Network]):
        """The policy of that name.

        Raises:
            UnknownNameError: no policy has that name.
        """
        return cls(POLICIES[policy], options, tuple(networks))

    def __str__(self) -> str:
        return f"policy {self.call}"

    @property
    def call(self) -> PolicyCall:
        return PolicyCall(self.spec.name, self.options)

    @property
    def own(self) -> dict[str, Any]:
        """The options without filters."""
        return {name: value for name, value in self.options.items() if name not in FILTERS}

    def selected(self, network: Network) -> Selection | NoSitesError:
        """The places in a network, or why there are none."""
        if network not in self._selected:
            with network.named():
                try:
                    self._selected[network] = select(network.trace, self.call)
                except NoSitesError as error:
                    self._selected[network] = error
        return self._selected[network]

    @property
    def fitting(self) -> list[Network]:
        """The networks in which the policy finds places.

        Raises:
            NotRunError: there is none.
        """
        found = [n for n in self.networks if isinstance(self.selected(n), Selection)]
        if not found:
            raise NotRunError("no network has a place; give some that have by models=")
        return found


def networks_of(models: Any, example: Any) -> tuple[Network, ...]:
    """The networks to try a policy on.

    Args:
        models: a model, several, or a mapping from names to models; None for small ones of each
            kind.
        example: as `wrap` takes it.

    Raises:
        OptionError: it is none of these, or empty.
    """
    if models is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return tuple(Network(name, model, SIZE) for name, model in small_networks().items())
    if isinstance(models, nn.Module):
        models = [models]
    if not isinstance(models, Mapping):
        listed = list(models) if isinstance(models, Iterable) else [models]
        models = {f"{type(m).__name__} ({i})": m for i, m in enumerate(listed, 1)}
    if not models or not all(isinstance(model, nn.Module) for model in models.values()):
        raise OptionError(
            f"check_policy: models={models!r} must be a model, several of them, or a mapping from "
            f"names to models; None takes small networks of several kinds."
        )
    return tuple(Network(str(name), model, example) for name, model in models.items())


@torch.no_grad()
def outputs(model: nn.Module, network: Network) -> list[Tensor]:
    """All tensors that a network returns in eval mode."""
    args, kwargs = network.arguments
    leaves = tree_leaves(model.eval()(*args, **kwargs))
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def same_outputs(one: list[Tensor], other: list[Tensor]) -> bool:
    """Whether they agree in every bit; on meta tensors, in shape and dtype."""
    if [(x.shape, x.dtype) for x in one] != [(x.shape, x.dtype) for x in other]:
        return False
    return all(a.is_meta or same_bits(a, b) for a, b in zip(one, other, strict=True))
