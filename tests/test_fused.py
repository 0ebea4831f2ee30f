"""The kernels against the plain path in float64, on the CPU.

Triton decides when it is imported whether kernels are interpreted, so all that needs the interpreter is computed by one other
process, which runs this file.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest
import torch

from skmemae.network import Memory, fused
from skmemae.network import memory as module
from skmemae.network.memory import Retrieve

TOLERANCE = 1e-4  # of the largest entry
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
interpreted_otherwise = pytest.mark.skipif("TRITON_INTERPRET" in os.environ, reason="kernels are interpreted")

SHAPES = [  # heads, rows, N, c
    (1, 1, 5, 3),
    (3, 7, 50, 16),
    (1, 100, 130, 40),
    (3, 100, 5, 16),
    (1, 200, 130, 3),
    (1, 7, 130, 256),
    (3, 100, 50, 256),
]
SETTINGS = [  # multiple of 1/N, keep_best, temperature
    (0, True, 1.0),
    (1, True, 1.0),
    (1, False, 0.05),
    (3, True, 0.05),
    (3, False, 0.05),
    (3, True, 1.0),
    (3, False, 1.0),
]
CASES = [(shape, setting) for shape in SHAPES for setting in SETTINGS]
NAMES = ["read_out", "entropy", "mass", "query_grad", "keys_grad", "values_grad"]


def directions(generator, *shape):
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)


def tensors(shape, setting):
    """Query, keys, values and the gradients of read-out and entropy; no weight is near the cut, where rounding decides."""
    (heads, rows, size, width), (multiple, _, temperature) = shape, setting
    generator = torch.Generator().manual_seed(0)
    keys = directions(generator, size, heads, width).transpose(0, 1)
    query = directions(generator, 30 * rows, heads, width).transpose(0, 1) / temperature
    ranked = torch.softmax(query.double() @ keys.double().mT, dim=-1).sort(dim=-1, descending=True).values
    clear = (ranked * size - multiple).abs().amin(dim=-1) > 5e-4 * multiple
    clear &= (ranked[..., 0] * size > multiple) | (ranked[..., 1] < ranked[..., 0] * (1 - 5e-4))
    query = query[:, clear.all(dim=0)][:, :rows]
    assert query.shape[1] == rows
    values = torch.randn(size, heads, width, generator=generator).transpose(0, 1)
    return query, keys, values, torch.randn(query.shape, generator=generator), torch.randn(heads, rows, generator=generator)


def answer(retrieve, inputs, setting, dtype=torch.float32):
    *inputs, read_out_grad, entropy_grad = (tensor.to(dtype) for tensor in inputs)
    inputs = [tensor.requires_grad_() for tensor in inputs]
    read_out, entropy, mass = retrieve(*inputs, setting[0] / inputs[1].shape[1], setting[1], True)
    grads = torch.autograd.grad([read_out, entropy], inputs, [read_out_grad, entropy_grad])
    return [read_out.detach(), entropy.detach(), mass, *grads]


def assert_near(actual, expected, scale):
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=TOLERANCE * max(scale, 1e-3))


def clustered():
    """Queries about the last items; the others are far off."""
    generator = torch.Generator().manual_seed(1)
    keys = directions(generator, 1, 200, 16)
    keys[..., 0] = torch.where(torch.arange(200) < 192, -3.0, 3.0)
    query = directions(generator, 1, 130, 16)
    query[..., 0] = 10.0
    values = torch.randn(1, 200, 16, generator=generator)
    return query, keys, values


def memory_answer():
    """Of a whole memory on feature maps, and the gradients of query and items."""
    generator = torch.Generator().manual_seed(0)
    memory = Memory(40, 12, heads=2, temperature=0.1).train()
    torch.nn.init.normal_(memory.items, generator=generator)
    query = torch.randn(2, 12, 3, 5, generator=generator).requires_grad_()
    read_out, entropy, mass = memory(query)
    (read_out.square().sum() + entropy.sum()).backward()
    return [read_out.detach(), entropy.detach(), mass, query.grad, memory.items.grad]


def main(path):
    module._MANY_NUMBERS = 0  # so that a memory of any size turns to the kernels
    answers = {case: answer(fused.retrieve, tensors(*case), case[1]) for case in CASES}
    case = CASES[3 * len(SETTINGS) + 1]
    answers["again"] = answer(fused.retrieve, tensors(*case), case[1])

    query, keys, values, read_out_grad, _ = tensors(*case)
    keys.requires_grad_()
    read_out, *others = fused.retrieve(query, keys, values, 1 / keys.shape[1], True, False)
    answers["less"] = [read_out.detach(), *others, *torch.autograd.grad(read_out, keys, read_out_grad)]

    query, keys, values = clustered()
    values[:, :192] = torch.nan
    answers["skipped"] = fused.retrieve(query, keys, values, 1 / 200, True, False)[0]

    query, keys, values, *_ = tensors(*case)
    query[0, 1, 2] = torch.nan
    answers["no number"] = fused.retrieve(query, keys, values, 1 / keys.shape[1], True, True)[:2]

    answers["memory"] = memory_answer()

    queries = [torch.ones(1, 2, 256), torch.ones(1, 2, 257), torch.ones(1, 0, 16), torch.ones(1, 2, 3).double()]
    answers["available"] = [fused.available(query) for query in queries]
    torch.save(answers, path)


def run(*args, **environment):
    root = pathlib.Path(__file__).parents[1]
    environment["PYTHONPATH"] = os.pathsep.join([str(root), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    done = subprocess.run([sys.executable, *args], env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    path = tmp_path_factory.mktemp("fused") / "answers.pt"
    run(__file__, str(path), TRITON_INTERPRET="1")
    return torch.load(path)


@needs_triton
@pytest.mark.parametrize("shape, setting", CASES)
def test_all_results_are_those_of_the_plain_path(answers, shape, setting):
    inputs = tensors(shape, setting)
    expected = answer(Retrieve.apply, inputs, setting, torch.float64)
    for name, ours, theirs in zip(NAMES, answers[shape, setting], expected, strict=True):
        assert ours.shape == theirs.shape, name
        scale = float(theirs.abs().max())
        if name in ("query_grad", "keys_grad"):  # differences that may cancel; they are as exact as what is subtracted
            scale = max(scale, shape[3] ** 0.5 / (setting[2] if name == "keys_grad" else 1))
        assert_near(ours, theirs, scale)


@needs_triton
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[2] >= 50 and shape[3] >= 16])
def test_at_temperature_one_no_weight_reaches_three_times_the_mean(answers, shape):
    dead = answers[shape, (3, False, 1.0)]
    assert not any(result.any() for result in dead)
    _, entropy, mass, *_, values_grad = answers[shape, (3, True, 1.0)]
    assert not entropy.any() and values_grad.any()
    torch.testing.assert_close(mass.sum(), torch.tensor(float(shape[1])))


@needs_triton
def test_the_same_input_gives_the_same_bits(answers):
    for first, again in zip(answers[CASES[3 * len(SETTINGS) + 1]], answers["again"], strict=True):
        assert torch.equal(first, again)


@needs_triton
def test_what_is_not_asked_for_is_left_out_and_changes_nothing(answers):
    shape, setting = CASES[3 * len(SETTINGS) + 1]
    *inputs, entropy_grad = tensors(shape, setting)
    read_out, entropy, mass, keys_grad = answers["less"]
    assert entropy is None and mass is None
    assert torch.equal(read_out, answers[shape, setting][0])
    expected = answer(Retrieve.apply, [*inputs, torch.zeros_like(entropy_grad)], setting, torch.float64)[4]
    assert_near(keys_grad, expected, float(expected.abs().max()))


@needs_triton
def test_a_memory_with_many_queries_is_the_same_memory(answers):
    for fused_one, plain in zip(answers["memory"], memory_answer(), strict=True):
        assert not torch.equal(fused_one, plain)  # the kernels round in their own way
        torch.testing.assert_close(fused_one, plain, rtol=1e-3, atol=1e-3 * float(plain.abs().max()))


@needs_triton
def test_tiles_of_items_with_nothing_kept_are_not_read(answers):
    query, keys, values = (tensor.double() for tensor in clustered())
    assert_near(answers["skipped"], Retrieve.apply(query, keys, values, 1 / 200, True, False)[0], 1.0)


@needs_triton
def test_a_query_that_is_no_number_stays_so_and_alone(answers):
    read_out, entropy = answers["no number"]
    assert read_out[0, 1].isnan().all() and entropy[0, 1].isnan()
    expected = answers[CASES[3 * len(SETTINGS) + 1]]
    assert torch.equal(read_out[1:], expected[0][1:]) and torch.equal(entropy[0, 2:], expected[1][0, 2:])


class Compiled:
    """Stands for a kernel and compiles, for an H100, what would be launched."""

    def __init__(self, kernel, made):
        self.kernel, self.made = kernel, made

    def __getitem__(self, grid):
        return self.launch

    def launch(self, *args, **options):
        import triton
        from triton.backends.compiler import GPUTarget

        types = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int32: "*i32", int: "i32", float: "fp32"}
        given = dict(zip(self.kernel.arg_names, args, strict=False))
        constants = {name: value for name, value in options.items() if name in self.kernel.arg_names}
        constants |= {name: value for name, value in given.items() if value is None or (type(value) is int and value == 1)}
        signature = {name: types.get(getattr(value, "dtype", type(value))) for name, value in given.items()}
        signature |= dict.fromkeys(constants, "constexpr")
        aligned = {(place,): [["tt.divisibility", 16]] for place, value in enumerate(args) if torch.is_tensor(value)}
        source = triton.compiler.ASTSource(self.kernel, signature, constexprs=constants, attrs=aligned)
        options = {name: value for name, value in options.items() if name.startswith("num_")}
        self.made.append(triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options))


@needs_triton
@interpreted_otherwise
@pytest.mark.parametrize("heads, width", [(1, 256), (3, 64), (2, 20)])
def test_kernels_compile_and_fit_an_h100(heads, width, monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernels, made = fused._kernels(), []
    for name in [name for name in vars(kernels) if name.endswith("_kernel")]:
        monkeypatch.setattr(kernels, name, Compiled(getattr(kernels, name), made))
    monkeypatch.setattr(fused, "_interpreted", lambda: False)
    answer(fused.retrieve, [torch.ones(heads, 200, width) for _ in range(4)] + [torch.ones(heads, 200)], (1, True))
    assert {compiled.name for compiled in made} == {name for name in vars(kernels) if name.endswith("_kernel")}
    assert max(compiled.metadata.shared for compiled in made) <= fused._sizes(width).shared * 1024 <= 227 * 1024


@needs_triton
def test_available_is_a_matter_of_width_type_and_rows(answers):
    assert answers["available"] == [True, False, False, False]


@interpreted_otherwise
def test_not_available_on_the_cpu():
    assert not fused.available(torch.ones(1, 2, 3))


def test_not_available_without_triton():
    code = "import sys, torch; sys.modules['triton'] = None; from skmemae.network import _kernels, fused; "
    assert run("-c", code + "print(fused.available(torch.ones(1, 2, 3)))", TRITON_INTERPRET="1") == "False\n"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1])
