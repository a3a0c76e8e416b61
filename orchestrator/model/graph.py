"""Order in a directed graph: names and what each needs.

A graph is a mapping of each name to the names it depends on. Names that are depended on
but are not keys count as having no dependencies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def order(graph: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Return the keys so that each comes after what it needs; ties keep the mapping's order.

    Raises:
        ValueError: The graph has a cycle.
    """
    done: dict[str, None] = {}
    for root in graph:
        stack = [(root, iter(graph[root]))] if root not in done else []
        entered = {root}
        while stack:
            name, needs = stack[-1]
            step = next((n for n in needs if n in graph and n not in done), None)
            if step is None:
                done[name] = None
                entered.discard(name)
                stack.pop()
                continue
            if step in entered:
                raise ValueError(f"cycle through {step!r}")
            entered.add(step)
            stack.append((step, iter(graph[step])))
    return tuple(done)


def cycles(graph: Mapping[str, Iterable[str]]) -> tuple[tuple[str, ...], ...]:
    """Return each cycle once, as its names in order, beginning with its first key.

    One cycle is reported for each strongly connected component: enough to mend it, and
    linear in the size of the graph.
    """
    position = {name: number for number, name in enumerate(graph)}
    found: list[tuple[str, ...]] = []
    for component in _strong_components(graph):
        if len(component) == 1:
            only = component[0]
            if only in tuple(graph[only]):
                found.append((only,))
            continue
        start = min(component, key=position.__getitem__)
        found.append(_cycle_from(start, frozenset(component), graph))
    return tuple(sorted(found, key=lambda cycle: position[cycle[0]]))


def dependents(graph: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """Return the graph turned round: for each name, the names that need it."""
    turned: dict[str, list[str]] = {name: [] for name in graph}
    for name, needs in graph.items():
        for need in needs:
            turned.setdefault(need, []).append(name)
    return {name: tuple(users) for name, users in turned.items()}


def closure(graph: Mapping[str, Iterable[str]], roots: Iterable[str]) -> frozenset[str]:
    """Return `roots` and everything they need, directly or not."""
    seen: set[str] = set()
    todo = list(roots)
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo.extend(graph.get(name, ()))
    return frozenset(seen)


def _cycle_from(
    start: str, inside: frozenset[str], graph: Mapping[str, Iterable[str]]
) -> tuple[str, ...]:
    """Return the shortest cycle from `start` within one strongly connected component."""
    before: dict[str, str] = {}
    frontier = [start]
    while frontier:
        following: list[str] = []
        for name in frontier:
            for need in graph[name]:
                if need == start:
                    path: list[str] = [name]
                    while path[-1] != start:
                        path.append(before[path[-1]])
                    return tuple(reversed(path))
                if need in inside and need not in before:
                    before[need] = name
                    following.append(need)
        frontier = following
    raise AssertionError(f"internal error: {start!r} is in no cycle")


def _strong_components(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:  # noqa: C901
    """Tarjan's algorithm, without recursion: topologies may be deep."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    on_stack: set[str] = set()
    stack: list[str] = []
    result: list[list[str]] = []
    for root in graph:
        if root in index:
            continue
        work = [(root, iter(graph[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            name, needs = work[-1]
            deeper = None
            for need in needs:
                if need not in graph:
                    continue
                if need not in index:
                    deeper = need
                    break
                if need in on_stack:
                    low[name] = min(low[name], index[need])
            if deeper is not None:
                index[deeper] = low[deeper] = len(index)
                stack.append(deeper)
                on_stack.add(deeper)
                work.append((deeper, iter(graph[deeper])))
                continue
            work.pop()
            if work:
                low[work[-1][0]] = min(low[work[-1][0]], low[name])
            if low[name] == index[name]:
                component: list[str] = []
                while True:
                    member = stack.pop()
                    on_stack.discard(member)
                    component.append(member)
                    if member == name:
                        break
                result.append(component)
    return result
