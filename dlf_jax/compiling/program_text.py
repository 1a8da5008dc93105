"""What a compiled program runs, read from its HLO text: kernels, the bytes that they move, collectives.

Each kernel's operands and results are counted once and as wholes, as often as a loop runs it: too much for
one that gathers rows of a large table. At commit 420b874 the bytes of two steps of DLF over 3.0 TB/s were
0.78 and 0.89 of the time that they took on one H100.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Iterable, Iterator

_ITEM_BYTES = {
    'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's16': 2, 'u16': 2, 'f32': 4, 's32': 4, 'u32': 4,
    'f64': 8, 's64': 8, 'u64': 8,
}  # fmt: skip
# Operations that move nothing, and custom calls that only tell the compiler something.
_FREE = {
    'parameter', 'constant', 'get-tuple-element', 'tuple', 'bitcast', 'iota', 'after-all', 'partition-id',
    'replica-id',
}  # fmt: skip
_HINTS = {'AllocateBuffer', 'AssumeGatherIndicesInBound', 'Sharding'}
# What a device sends of an array that all n devices of a collective have a part in, by the ring that moves
# least: a function of the result's bytes and of n.
_SENT = {
    'all-reduce': lambda size, n: 2 * size * (n - 1) / n,
    'all-gather': lambda size, n: size * (n - 1) / n,
    'reduce-scatter': lambda size, n: size * (n - 1),
    'all-to-all': lambda size, n: size * (n - 1) / n,
    'collective-permute': lambda size, n: size,
}
# Copies beside other work; what is moved is known where they end.
_COPIES = ('copy', 'slice', 'dynamic-slice')

_HEAD = re.compile(r'^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) .*\{$')
_INSTRUCTION = re.compile(
    r'^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<shape>\(.*?\)|\S+) (?P<operation>[a-z][\w\-]*)\((?P<rest>.*)$'
)
# An array's type, shape and layout; a layout's S(n) says that it is in a chip's own memory, not the device's.
_ARRAY = re.compile(r'(\w+)\[([\d,]*)\](\{[^}]*\})?')
# Of several branches the first.
_CALLED = re.compile(r'(?:to_apply|calls|branch_computations|true_computation)=\{?%?([\w.\-]+)')
_PRODUCT = re.compile(r'matmul|gemm|\$conv', re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """What a device runs as one: a fusion, a product, a copy or a collective.

    Attributes:
      name: of the instruction.
      operation: HLO's name of it: 'fusion', 'custom-call', 'copy', 'all-reduce', ...
      moved: bytes of its operands and results in the device's memory, of one run.
      result: bytes of its results.
      times: number of runs.
      path: where in the model it comes from, `op_name` of the metadata; '' where that is not known.
      product: whether it is a product of matrices.
      cycles: of one run, as the compiler estimates, which those for TPUs do; 0.
    """

    name: str
    operation: str
    moved: int
    result: int
    times: int
    path: str
    product: bool
    cycles: int

    @property
    def part(self) -> str:
        """The part of the step that it belongs to; see `part_of`."""
        return part_of(self.path) if self.path or self.operation not in _COPIES else 'copies'

    @property
    def collective(self) -> bool:
        """Whether devices exchange something."""
        return self.operation in _SENT


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    operation: str
    rest: str

    def found(self, pattern: str) -> str:
        """The first group of a pattern in what follows the operation; '' where it is not found."""
        match = re.search(pattern, self.rest)
        return match[1] if match else ''


@dataclasses.dataclass(frozen=True)
class _Array:
    leading: int
    size: int


def kernels(text: str) -> Iterator[Kernel]:
    """Yields every kernel that a program runs.

    Args:
      text: of a compiled program, `compiled.as_text()`.
    """
    computations, entry = _computations(text)
    waiting = [(entry, 1, 0)]
    while waiting:
        name, times, trips = waiting.pop()
        shapes = {found.name: found.shape for found in computations[name]}
        for found in computations[name]:
            if found.operation == 'while':
                inner = int(found.found(r'known_trip_count":\{"n":"(\d+)"') or 1)
                waiting.append((found.found(r'body=%?([\w.\-]+)'), times * inner, inner))
            elif found.operation in ('call', 'conditional', 'async-start'):
                waiting += [(called, times, trips) for called in _CALLED.findall(found.rest)]
            elif kernel := _kernel(found, shapes, computations, times, trips):
                yield kernel


def _computations(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    """Instructions by computation, and the name of the entry."""
    found: dict[str, list[_Instruction]] = {}
    current, entry = '', ''
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = head['name']
            found[current] = []
            entry = current if head['entry'] else entry
        elif current and (part := _INSTRUCTION.match(line)):
            found[current].append(_Instruction(*part.group('name', 'shape', 'operation', 'rest')))
    return found, entry


def _kernel(
    found: _Instruction,
    shapes: dict[str, str],
    computations: dict[str, list[_Instruction]],
    times: int,
    trips: int,
) -> Kernel | None:
    """The kernel that an instruction is, if it is one.

    Args:
      found: the instruction.
      shapes: by name, of the instructions beside it.
      computations: all of them.
      times: how often it runs.
      trips: of the loop that it is in; 0: in none.
    """
    operation, target = found.operation, found.found(r'custom_call_target="([^"]*)"')
    if operation in _FREE or operation.endswith(('-start', '-update')) or target in _HINTS:
        return None
    if operation.endswith('-done'):
        operation = operation.removesuffix('-done')
        if operation not in (*_COPIES, *_SENT):
            return None
    results = _arrays(found.shape)
    called = found.found(r'calls=%?([\w.\-]+)')
    inside = {one.operation for one in computations.get(called, ())} | {operation}
    if found.operation.endswith('-done'):
        # Its operand is the pair of source and destination.
        moved = sum(array.size for array in _arrays(found.shape, all_memories=True))
        moved += sum(array.size for array in results)
    else:
        operands = re.findall(r'%([\w.\-]+)', found.rest.split('), ')[0])
        arrays = results + [array for name in operands for array in _arrays(shapes.get(name, ''))]
        sliced = trips > 1 and bool(inside & {'dynamic-slice', 'dynamic-update-slice'})
        moved = sum(
            array.size // trips if sliced and array.leading == trips else array.size for array in arrays
        )
    return Kernel(
        name=found.name,
        operation=operation,
        moved=moved,
        result=sum(array.size for array in _arrays(found.shape, all_memories=True)),
        times=times,
        path=found.found(r'op_name="([^"]*)"'),
        product=bool(inside & {'dot', 'convolution'} or _PRODUCT.search(target)),
        cycles=int(found.found(r'"estimated_cycles":"?(\d+)') or 0),
    )


def _arrays(shape: str, all_memories: bool = False) -> list[_Array]:
    """The arrays of a shape, those in the device's memory alone unless all are asked for."""
    found = []
    for dtype, lengths, layout in _ARRAY.findall(shape):
        if dtype in _ITEM_BYTES and (all_memories or not re.search(r'S\([1-9]\d*\)', layout)):
            sizes = [int(length) for length in lengths.split(',') if length]
            found.append(_Array(sizes[0] if sizes else 1, math.prod(sizes) * _ITEM_BYTES[dtype]))
    return found


def sent(found: Iterable[Kernel], devices: int) -> dict[str, tuple[int, float]]:
    """Number of runs, and bytes that a device sends, of each kind of collective.

    Args:
      found: kernels of a program; others than collectives are left out.
      devices: number of devices in every collective.
    """
    counts: collections.Counter[str] = collections.Counter()
    sizes: collections.Counter[str] = collections.Counter()
    for kernel in found:
        if kernel.collective:
            counts[kernel.operation] += kernel.times
            sizes[kernel.operation] += kernel.times * _SENT[kernel.operation](kernel.result, devices)
    return {name: (counts[name], float(sizes[name])) for name in counts}


# Parts of a path that are no module: functions under `jit`, methods, einsums, control flow.
_NO_MODULE = {'cond', 'while', 'body', 'scan', 'closed_call', 'checkpoint', 'vmap', 'custom_vjp_call'}
_MODULE = re.compile(r'[a-z]\w*')


def part_of(path: str) -> str:
    """The part of a step that a kernel belongs to, such as `backward layer_*/fusion`.

    Args:
      path: `op_name` of a kernel: `jit(train_step)/transpose(jvp(DLF))/layer_0/fusion/attention_1/mul`.
    """
    if not path:
        return 'other'
    *pieces, _ = path.split('/')
    direction = 'backward ' if 'transpose(' in path else 'forward ' if 'jvp(' in path else ''
    modules = [
        re.sub(r'\d+', '*', piece)
        for piece in pieces
        if _MODULE.fullmatch(piece) and piece not in _NO_MODULE and not piece.startswith('branch_')
    ]
    return f'{direction}{"/".join(modules[:2]) or "other"}'
