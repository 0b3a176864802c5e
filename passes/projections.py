"""Products with a weight in one form: ``linear`` with the weight as [out, in], whatever the source wrote.

ONNX writes ``MatMul(x, w[in, out])`` or ``Gemm``, GPT-2's Conv1D the same, PyTorch ``linear``. Quantization and
partitioning ask which dim of a weight is summed over, and ``linear`` is where its definition says so. The transposed
weight is a view of the old one, so nothing is copied.
"""

from __future__ import annotations

from maiac.ir import Builder, Module, Op, State, TensorType, Value, Weight

from .weights import drop_unused, transposed


def to_linear(module: Module) -> bool:
    """Rewrite every product of an activation and a constant matrix as ``linear``; true if there was one."""
    made: dict[Weight, Weight] = {}
    read: set[Weight] = set()
    changed = False
    for op in list(module.walk()):
        weight = _constant_matrix(module, op, made)
        if weight is None:
            continue
        bias = op.operands[2] if op.name == "linear" and len(op.operands) > 2 else None
        assert op.block is not None
        read.add(weight)
        last, bias = (op, bias) if bias is not None else _bias_after(op)
        builder = Builder(module, op.block, last, op.loc)
        product = builder.emit("linear", op.operand(0), weight, bias)
        assert product.type == last.result.type, f"{product.type} is not {last.result.type}"
        last.replace([product])
        if last is not op:
            op.erase()
        changed = True
    for weight in (*read, *made):
        _drop_transposes(weight)
    for old, new in made.items():
        drop_unused(module, old, new)
    return changed


def _constant_matrix(module: Module, op: Op, made: dict[Weight, Weight]) -> Weight | None:
    """The weight as [out, in] that the op multiplies by, where the op is not a ``linear`` of a weight already."""
    if op.name not in ("linear", "matmul") or not isinstance(op.operands[1], Value):
        return None
    x, y = op.operand(0), op.operand(1)
    matrix, flipped = _under_transpose(y)
    if matrix is None or isinstance(x, Weight) or (op.name == "linear" and not flipped):
        return None
    if (op.name == "matmul") == flipped:  # x @ w.T is linear(x, w) as it stands
        return matrix
    if matrix not in made:
        made[matrix] = transposed(module, matrix)
    return made[matrix]


def _bias_after(op: Op) -> tuple[Op, Weight | None]:
    """The add of a constant row that alone reads the product, with that row; the op itself where there is none."""
    users = list(op.result.uses)
    type = op.result.type
    if len(users) != 1 or users[0].name != "add" or not isinstance(type, TensorType):
        return op, None
    rows = [v for v in users[0].operands if isinstance(v, Weight) and not isinstance(v, State)]
    fits = len(rows) == 1 and rows[0].type == TensorType(type.dtype, type.dims[-1:]) and users[0].block is op.block
    return (users[0], rows[0]) if fits else (op, None)


def _under_transpose(value: Value) -> tuple[Weight | None, bool]:
    """The weight of rank 2 that a value is, or is the transpose of."""
    flipped = False
    while not isinstance(value, Weight):
        op = getattr(value, "op", None)
        if not isinstance(op, Op) or op.name != "transpose" or op.attrs.get("perm") != (1, 0):
            return None, False
        value, flipped = op.operand(0), not flipped
    is_matrix = isinstance(value.type, TensorType) and value.type.rank == 2 and not isinstance(value, State)
    return (value if is_matrix else None), flipped


def _drop_transposes(weight: Weight) -> None:
    """Erase transposes of a weight that nobody reads any more."""
    for op in list(weight.uses):
        if op.name == "transpose" and not op.result.uses:
            op.erase()
